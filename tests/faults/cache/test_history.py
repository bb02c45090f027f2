"""Every read held against every write, for as long as one likes, while everything fails in turn.

`make test` runs it for about a minute, `make nightly` for over ten and over a million operations.
Three arrangements, as each promises something else:

- `fed`: two proxies with a change feed, half of the writers write past both, Redis is killed,
  frozen and restarted empty, each proxy is cut off from it by itself, the feed is broken, frozen
  and robbed of its slot, a proxy is killed. No read misses a write acknowledged longer than
  `max_feed_lag` before it. (Reads go to the primary: replicas promise nothing of others' writes.)
- `two`: two proxies without a feed, all write through them, replicas lag and stand still. No read
  misses any write.
- `one`: one proxy, replicas lag, Redis fails. No read misses any write.

That a promoted primary is followed is left to test_feed_faults.py: it takes a change of the
configuration, not a fault alone.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.faults.cache.history import History
from tests.faults.cache.relay import Relay, relaying
from tests.faults.cache.test_coherence_faults import backends_die
from tests.faults.cache.test_feed_coherence import EAGER, FED_RULE, LAG, directly, set_up
from tests.faults.cache.workload import GUARDED, PRECISE, RULE, Workload, metric
from tests.integration.cache.feed.feeds import eventually, samples, trusted
from tests.proxies import Proxy, running_proxy

SECONDS = float(os.environ.get("PENSTOCK_HISTORY_SECONDS", "60"))
OPERATIONS = int(os.environ.get("PENSTOCK_HISTORY_OPERATIONS", "0"))
"""Of all three together, at least."""
SHARES = {"fed": 0.5, "two": 0.25, "one": 0.25}
BURST = 48
PATIENCE = 4.0
"""How many times longer than planned it may take to come to so many operations."""
WAYS = [way for way in PRECISE if way.name in GUARDED]
"""Those that stand writers whose proxies die: what they sent may take effect later."""
BYPASSES = "penstock_cache_bypasses_total"
HITS = 0.02
"""Share of the reads that must have been answered from the cache."""


@dataclass
class Place:
    """What there is to break."""

    servers: Stack
    schema: Database
    workload: Workload
    chance: random.Random
    relays: Sequence[Relay] = ()
    start: Callable[[int], AbstractContextManager[Proxy]] | None = None
    """Starts the proxy of this number anew."""
    running: dict[int, AbstractContextManager[Proxy]] = field(default_factory=dict)
    hits: int = 0
    """Of proxies that have gone."""

    def sql(self, statement: str) -> None:
        """On the primary, by the superuser."""
        with superuser_connection(self.servers.primary) as primary:
            primary.execute(statement.encode(), [self.schema.name])

    def count_hits(self) -> int:
        return self.hits + sum(
            metric(proxy, "penstock_cache_hits_total") for proxy in self.workload.proxies
        )


Fault = Callable[[Place], Coroutine[None, None, None]]


async def quiet(place: Place) -> None:
    await asyncio.sleep(1.0)


async def redis_is_killed(place: Place) -> None:
    """It comes back with nothing in it."""
    redis = place.servers.redis
    assert redis is not None
    await asyncio.to_thread(redis.kill)
    await asyncio.sleep(place.chance.choice((0.0, 0.5, 1.5)))
    await asyncio.to_thread(redis.start)


async def redis_freezes(place: Place) -> None:
    redis = place.servers.redis
    assert redis is not None
    redis.freeze()
    await asyncio.sleep(place.chance.choice((0.1, 0.3, 1.5)))
    redis.thaw()


async def one_is_cut_off(place: Place) -> None:
    """Redis is there for the other."""
    await place.chance.choice(place.relays).cut(place.chance.choice((0.1, 0.6, 2.0)))


async def one_hears_late(place: Place) -> None:
    """Of what it was to be told, and of the answers to what it asked."""
    await place.chance.choice(place.relays).stall(place.chance.choice((0.1, 0.3, 1.0)))


async def walsenders_die(place: Place) -> None:
    await asyncio.to_thread(
        place.sql,
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s",
    )


async def slot_goes(place: Place) -> None:
    for statement in (
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "
        "WHERE database = %s",
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
        "WHERE database = %s AND NOT active",
    ):
        with contextlib.suppress(Exception):  # somebody may just have taken it
            await asyncio.to_thread(place.sql, statement)


async def feed_freezes(place: Place) -> None:
    """The server's side of it, so that nothing tells but the primary's position."""
    with superuser_connection(place.servers.primary) as primary:
        found = primary.execute(
            "SELECT active_pid FROM pg_replication_slots WHERE database = %s AND active",
            [place.schema.name],
        ).fetchone()
    if found is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(found[0], signal.SIGSTOP)
        await asyncio.sleep(place.chance.choice((0.2, 1.0)))
        os.kill(found[0], signal.SIGCONT)


async def proxy_dies(place: Place) -> None:
    """Another takes its place."""
    number = place.chance.randrange(len(place.workload.proxies))
    assert place.start is not None
    doomed = place.workload.proxies[number]
    place.hits += await asyncio.to_thread(metric, doomed, "penstock_cache_hits_total")
    doomed.process.kill()
    doomed.process.wait()
    with contextlib.suppress(AssertionError):  # that it ended otherwise than it should
        place.running[number].__exit__(None, None, None)
    context = place.running[number] = place.start(number)
    place.workload.proxies[number] = await asyncio.to_thread(context.__enter__)


async def connections_die(place: Place) -> None:
    await backends_die(place.servers, place.workload, times=15)


async def replicas_stand_still(place: Place) -> None:
    chosen = place.chance.sample(place.servers.replicas, place.chance.choice((1, 2)))
    for replica in chosen:
        await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_pause()")
    await asyncio.sleep(place.chance.choice((0.2, 1.0, 2.0)))
    for replica in chosen:
        await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_resume()")


async def a_replica_lags(place: Place) -> None:
    """Each commit comes so much later there."""
    replica = place.chance.choice(place.servers.replicas)
    delay = place.chance.choice((50, 300, 1500))
    for change in (f"SET recovery_min_apply_delay = {delay}", "RESET recovery_min_apply_delay"):
        for statement in (f"ALTER SYSTEM {change}", "SELECT pg_reload_conf()"):
            await asyncio.to_thread(replica.psql, statement)
        await asyncio.sleep(2.0)


FAULTS: dict[str, Sequence[Fault]] = {
    "fed": (
        redis_is_killed,
        one_is_cut_off,
        walsenders_die,
        redis_freezes,
        quiet,
        one_hears_late,
        proxy_dies,
        feed_freezes,
        connections_die,
        slot_goes,
    ),
    "two": (replicas_stand_still, a_replica_lags, quiet, connections_die),
    "one": (
        redis_is_killed,
        replicas_stand_still,
        connections_die,
        redis_freezes,
        a_replica_lags,
        quiet,
    ),
}


async def all_in_turn(place: Place, faults: Sequence[Fault], seconds: float, wanted: int) -> None:
    """Each once, then any, until there is enough of everything."""
    begun = time.monotonic()
    turn = 0
    while True:
        elapsed = time.monotonic() - begun
        enough = (
            elapsed >= seconds
            and place.workload.history.operations >= wanted
            and await asyncio.to_thread(place.count_hits) > HITS * place.workload.history.reads
        )
        if place.workload.history.wrong or enough or elapsed > PATIENCE * seconds:
            return
        fault = faults[turn] if turn < len(faults) else place.chance.choice(faults)
        await fault(place)
        await asyncio.sleep(place.chance.uniform(0.2, 1.2))
        turn += 1


@contextlib.asynccontextmanager
async def fed_place(servers: Stack, schema: Database, directory: Path) -> AsyncIterator[Place]:
    set_up(schema, directory)
    assert servers.redis is not None
    async with contextlib.AsyncExitStack() as cleanup:
        relays = [
            await cleanup.enter_async_context(relaying("127.0.0.1", servers.redis.port))
            for _ in range(2)
        ]

        def start(number: int) -> AbstractContextManager[Proxy]:
            url = f"redis://127.0.0.1:{relays[number].own_port}/0"
            environment = {"PENSTOCK_CACHE__REDIS": url}
            return running_proxy(schema, directory, extra=EAGER + FED_RULE, environment=environment)

        running = {number: start(number) for number in range(2)}

        def stop() -> None:
            for context in running.values():
                context.__exit__(None, None, None)

        proxies = [await asyncio.to_thread(context.__enter__) for context in running.values()]
        cleanup.push_async_callback(asyncio.to_thread, stop)
        for proxy in proxies:
            await asyncio.to_thread(eventually, partial(trusted, proxy), "the feed is trusted")
        around = [directly(proxies[0])]
        workload = Workload(proxies, WAYS, History(LAG), around=around, pause=3.0, burst=BURST)
        yield Place(servers, schema, workload, random.Random(), relays, start, running)


@contextlib.asynccontextmanager
async def plain_place(
    servers: Stack, schema: Database, directory: Path, proxies: int
) -> AsyncIterator[Place]:
    """Where there are two proxies they write through the cache."""
    rule = RULE + ('strategy = "write-through"\n' if proxies > 1 else "")
    async with contextlib.AsyncExitStack() as cleanup:
        running = [running_proxy(schema, directory, extra=rule) for _ in range(proxies)]
        started = [cleanup.enter_context(context) for context in running]
        workload = Workload(started, WAYS, History(), pause=3.0, burst=BURST)
        yield Place(servers, schema, workload, random.Random())


@pytest.mark.timeout(60 + 3 * PATIENCE * SECONDS)
@pytest.mark.parametrize("arrangement", SHARES)
async def test_no_read_is_older_than_promised(
    schema: Database, servers: Stack, tmp_path: Path, arrangement: str
) -> None:
    share = SHARES[arrangement]
    if arrangement == "fed":
        made = fed_place(servers, schema, tmp_path)
    else:
        made = plain_place(servers, schema, tmp_path, 2 if arrangement == "two" else 1)
    async with made as place:
        history = place.workload.history
        await place.workload.warm()
        faults = all_in_turn(place, FAULTS[arrangement], SECONDS * share, round(OPERATIONS * share))
        begun = time.monotonic()
        await place.workload.run_beside(faults, readers=8)
        hits = await asyncio.to_thread(place.count_hits)
        for proxy in place.workload.proxies:
            print("passed by:", await asyncio.to_thread(samples, proxy, BYPASSES))
            for name in ("misses", "refreshed", "refreshed_late"):
                series = f"penstock_cache_{name}_total"
                print(f"{name}:", await asyncio.to_thread(samples, proxy, series))
        print(
            f"{arrangement}: {history.operations} operations in {time.monotonic() - begun:.0f} s, "
            f"{history.acknowledged} writes acknowledged, {hits} hits, "
            f"{place.workload.failures} failures, {len(history.wrong)} wrong"
        )
        assert history.verdict() == ""
        assert history.operations >= OPERATIONS * share
        assert hits > HITS * history.reads  # or this shows nothing
