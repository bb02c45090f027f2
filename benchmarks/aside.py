"""Cached reads by Penstock or by the application itself: `python -m benchmarks.aside`.

One Python application, with asyncpg, does 95 % reads and 5 % writes of keys by Zipf's law: direct;
direct with cache-aside by redis-py (GET, on a miss SELECT and SET, after a write DEL); through
pgpool-II with its query cache; and through Penstock with a cache rule, where a write ends all that
was read of the table, or only what was read of its key, as in the application's own cache. The
sides run in turn, the medians of the rounds count.

Cache-aside as written here serves old rows where a read's SET follows a write's DEL; the others
don't.
"""

import argparse
import asyncio
import bisect
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import asyncpg
import psutil
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.scripts import ZIPF_KEYS
from benchmarks.servers.penstock import Build, Features, compiled_tree, running_penstock
from benchmarks.servers.pgpool import find_pgpool, running_pgpool
from benchmarks.servers.place import Endpoint, Place, open_place

_HERE = Path(__file__).resolve().parents[1]
_CLIENTS = 16
_WRITES = 0.05
_EXPONENT = 1.1
_READ = "SELECT v FROM bench_zipf WHERE k = $1"
_WRITE = "UPDATE bench_zipf SET v = v + 1 WHERE k = $1"
_TTL_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one side in one round. Microseconds are of CPU time for an operation."""

    per_second: float
    application: float
    proxy: float
    median: float
    """Of the latency, in microseconds, as is `slowest`: of the hundredth."""
    slowest: float


@dataclass(frozen=True, slots=True)
class Doing:
    """How the application reads and writes a key."""

    read: Callable[[int], Awaitable[object]]
    write: Callable[[int], Awaitable[object]]


def _plain(connection: "asyncpg.Connection[asyncpg.Record]") -> Doing:
    return Doing(
        lambda key: connection.fetchval(_READ, key), lambda key: connection.execute(_WRITE, key)
    )


def _aside(connection: "asyncpg.Connection[asyncpg.Record]", redis: Redis) -> Doing:
    async def read(key: int) -> object:
        found = await redis.get(f"zipf:{key}")
        if found is not None:
            return int(found)
        value = await connection.fetchval(_READ, key)
        await redis.set(f"zipf:{key}", value, ex=_TTL_SECONDS)
        return value

    async def write(key: int) -> None:
        await connection.execute(_WRITE, key)
        await redis.delete(f"zipf:{key}")

    return Doing(read, write)


@asynccontextmanager
async def _client(place: Place, port: int, redis: Redis | None) -> AsyncIterator[Doing]:
    stack = place.stack
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=port,
        user=stack.app_user,
        password=stack.app_password,
        database=stack.database,
    )
    try:
        yield _plain(connection) if redis is None else _aside(connection, redis)
    finally:
        await connection.close()


class Keys:
    """Keys by Zipf's law, the same for every side."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._sums = list(accumulate(1 / rank**_EXPONENT for rank in range(1, ZIPF_KEYS + 1)))

    def next(self) -> tuple[int, bool]:
        """A key, and whether it is written."""
        place = self._random.random() * self._sums[-1]
        return bisect.bisect(self._sums, place) + 1, self._random.random() < _WRITES


async def _work(doing: Doing, keys: Keys, until: float, took: list[float]) -> None:
    while (begun := time.perf_counter()) < until:
        key, writes = keys.next()
        await (doing.write if writes else doing.read)(key)
        took.append(time.perf_counter() - begun)


async def _measure(
    place: Place, endpoint: Endpoint, aside: bool, seconds: float, seed: int
) -> Figures:
    stack = place.stack
    assert stack.redis is not None
    redis = Redis.from_url(stack.redis.url) if aside else None
    async with asyncio.TaskGroup() as tasks:
        stop, all_there = asyncio.Event(), asyncio.Barrier(_CLIENTS + 1)
        ready: list[Doing] = []

        async def stay() -> None:
            async with _client(place, endpoint.port, redis) as doing:
                ready.append(doing)
                await all_there.wait()
                await stop.wait()

        for _ in range(_CLIENTS):
            tasks.create_task(stay())
        await all_there.wait()
        await _all(ready, seed, 1.0)  # warm
        own, others = time.process_time(), _spent(endpoint)
        begun = time.perf_counter()
        took = sorted(await _all(ready, seed + 1, seconds))
        elapsed = time.perf_counter() - begun
        own, others = time.process_time() - own, _spent(endpoint) - others
        stop.set()
    if redis is not None:
        await redis.aclose()
    count = len(took)
    return Figures(
        count / elapsed,
        own / count * 1e6,
        others / count * 1e6,
        took[count // 2] * 1e6,
        took[count * 99 // 100] * 1e6,
    )


async def _all(ready: Sequence[Doing], seed: int, seconds: float) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number, doing in enumerate(ready):
            tasks.create_task(_work(doing, Keys(seed * 1000 + number), until, took))
    return took


def _spent(endpoint: Endpoint) -> float:
    """Seconds of CPU of the proxy and its children so far."""
    if endpoint.pid is None:
        return 0.0
    process = psutil.Process(endpoint.pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


Start = Callable[[Place], AbstractContextManager[Endpoint]]


def _direct(place: Place) -> AbstractContextManager[Endpoint]:
    return nullcontext(Endpoint(place.stack.primary.port))


def _sides() -> dict[str, tuple[Start, bool]]:
    """How each is started, and whether the application keeps results by itself."""
    sides: dict[str, tuple[Start, bool]] = {
        "direct": (_direct, False),
        "cache-aside, redis-py": (_direct, True),
    }
    program = find_pgpool()
    if program is not None:
        pgpool = partial(running_pgpool, program, clients=_CLIENTS, cache=True)
        sides["pgpool, query cache"] = (pgpool, False)
    build = Build(compiled_tree(_HERE), "compiled")
    for name, features in (
        ("penstock, by table", Features(cache=True)),
        ("penstock, by key", Features(cache=True, by_key=True)),
    ):
        start = partial(_penstock, build, features)
        sides[name] = (start, False)
    return sides


def _penstock(build: Build, features: Features, place: Place) -> AbstractContextManager[Endpoint]:
    return running_penstock(build, place, _CLIENTS, features)


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aside", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--data", type=Path, help="folder for the servers' data while it runs")
    arguments = parser.parse_args()
    console, sides = Console(stderr=True), _sides()
    found: dict[str, list[Figures]] = {name: [] for name in sides}
    with (
        console.status("starting the servers") as status,
        open_place(arguments.data, replicas=False, shards=False, progress=status.update) as place,
        ExitStack() as cleanup,
    ):
        started = {
            name: (cleanup.enter_context(start(place)), aside)
            for name, (start, aside) in sides.items()
        }
        for number in range(arguments.rounds):
            for name, (endpoint, aside) in started.items():
                status.update(f"round {number + 1} of {arguments.rounds}: {name}")
                measured = _measure(place, endpoint, aside, arguments.seconds, number)
                found[name].append(asyncio.run(measured))
    Console().print(_table(found))
    return 0


def _table(found: dict[str, list[Figures]]) -> Table:
    table = Table(
        "side" + " " * 18, "queries/s", "× direct", "application µs", "proxy µs", "p50 µs", "p99 µs"
    )
    base = _median(found["direct"], lambda one: one.per_second)
    for name, figures in found.items():
        speed = _median(figures, lambda one: one.per_second)
        others = (
            _median(figures, lambda one: one.application),
            _median(figures, lambda one: one.proxy),
            _median(figures, lambda one: one.median),
            _median(figures, lambda one: one.slowest),
        )
        shown = [f"{one:.0f}" for one in others]
        table.add_row(name, f"{speed:,.0f}", f"{speed / base:.2f}", *shown)
    return table


def _median(figures: Sequence[Figures], what: Callable[[Figures], float]) -> float:
    return statistics.median(map(what, figures))


if __name__ == "__main__":
    sys.exit(main())
