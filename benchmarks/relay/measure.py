"""The run: everybody started, then case by case and round by round, A B C A B C."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.relay import pgbench
from benchmarks.relay.cases import Case
from benchmarks.relay.contenders import Contender
from benchmarks.relay.cost import Cost, cost_of
from benchmarks.relay.penstock import queries_by_route
from benchmarks.relay.place import Endpoint, Place
from proxy.local.account import server_account
from proxy.local.stack import StackOptions
from proxy.local.start import start_stack
from proxy.local.watcher import remove_stacks, start_watcher

Progress = Callable[[str], None]

_POOL_SIZE = 16
_SETTLE_SECONDS = 0.2
"""For what a warm-up leaves running."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often."""

    seconds: int
    rounds: int
    directory: Path | None = None
    """For the servers' data; None: the system's directory for such."""


@dataclass(frozen=True, slots=True)
class Run:
    """One contender under one load, once. Times in microseconds of CPU per statement, latencies
    in milliseconds of wall time per transaction.

    Attributes:
        per_second: transactions.
        user, system: of the proxy with its children, less what the clients' logins cost; None
            for a server without proxy.
        resident: bytes.
        routes: share of statements that Penstock answered from each place.
    """

    case: str
    contender: str
    round: int
    per_second: float
    p50: float | None
    p99: float | None
    user: float | None = None
    system: float | None = None
    resident: int | None = None
    routes: Mapping[str, float] | None = None


def measure(
    chosen: Sequence[Case], everybody: Sequence[Contender], options: Options, progress: Progress
) -> Iterator[Run]:
    """Start all servers, run everything, stop them. Raises BenchmarkError or LocalStackError."""
    clients = max(case.clients for case in chosen)
    with _place(clients, options, progress) as place, ExitStack() as started:
        endpoints: dict[str, Endpoint] = {}
        for contender in everybody:
            if contender.start is not None and any(contender.takes_part(c) for c in chosen):
                endpoints[contender.name] = started.enter_context(contender.start(place))
                progress(f"{contender.name} is up")
        for number in range(1, options.rounds + 1):
            for case in chosen:
                for contender in everybody:
                    if contender.takes_part(case):
                        endpoint = endpoints[contender.name]
                        progress(f"round {number}, {case.name}: {contender.name}")
                        yield _run(place, case, contender, endpoint, number, options.seconds)


@contextmanager
def _place(clients: int, options: Options, progress: Progress) -> Iterator[Place]:
    """A primary with two standbys and a Redis of their own, filled; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=options.directory) as name:
        directory = Path(name)
        directory.chmod(0o711)  # the servers' account must get through
        start_watcher(directory, os.getpid())
        stack = start_stack(StackOptions(directory / "stack", shards=0, durable=False))
        try:
            place = Place(directory, stack, server_account(), _POOL_SIZE, clients)
            progress("the servers are up; filling pgbench's tables")
            pgbench.fill(place)
            target = stack.primary.psql("SELECT pg_current_wal_lsn()").strip()
            for replica in stack.replicas:
                caught_up = f"pg_last_wal_replay_lsn() >= '{target}'"
                replica.wait_until(caught_up, 60.0, "replay of the tables")
            yield place
        finally:
            failed = remove_stacks(directory)
        if failed:
            raise ExceptionGroup("servers that could not be removed", failed)


def _run(
    place: Place, case: Case, contender: Contender, endpoint: Endpoint, number: int, seconds: int
) -> Run:
    pgbench.warm_up(place, endpoint, case)
    time.sleep(_SETTLE_SECONDS)
    if endpoint.pid is None:
        load = pgbench.load(place, endpoint, case, seconds)
        return Run(case.name, contender.name, number, load.per_second, load.p50, load.p99)
    _, logins = _costing(endpoint.pid, lambda: pgbench.one_each(place, endpoint, case))
    url = endpoint.metrics_url
    routes = queries_by_route(url) if url else {}
    load, spent = _costing(endpoint.pid, lambda: pgbench.load(place, endpoint, case, seconds))
    statements = (load.transactions - case.clients) * case.statements
    return Run(
        case.name,
        contender.name,
        number,
        load.per_second,
        load.p50,
        load.p99,
        user=(spent.user - logins.user) / statements,
        system=(spent.system - logins.system) / statements,
        resident=spent.resident,
        routes=_shares(routes, queries_by_route(url)) if url else None,
    )


def _costing(pid: int, work: Callable[[], _T]) -> tuple[_T, Cost]:
    """What `work` gives, and what it costs the process."""
    before = cost_of(pid)
    result = work()
    return result, cost_of(pid).since(before)


def _shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    grown = {route: count - before.get(route, 0.0) for route, count in after.items()}
    total = sum(grown.values()) or 1.0
    return {route: count / total for route, count in grown.items() if count}
