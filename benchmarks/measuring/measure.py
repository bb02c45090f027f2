"""One measurement: a side that is up, under the load of a scenario."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from benchmarks.clients import copying, pgbench
from benchmarks.clients.idle import idle_clients
from benchmarks.clients.load import Load, Target
from benchmarks.measuring.cost import Cost, cost_of, memory_of
from benchmarks.measuring.measurement import Calls, Measurement
from benchmarks.measuring.syscalls import calls_each, count_calls
from benchmarks.measuring.window import Sampler, cost_each
from benchmarks.scenarios import Scenario
from benchmarks.servers.penstock import queries_by_route
from benchmarks.servers.place import Endpoint, Place
from benchmarks.sides import Side

_SETTLE_SECONDS = 0.15
"""For what a warm-up leaves running."""

_T = TypeVar("_T")


class _Client(Protocol):
    def run_each(self, target: Target, scenario: Scenario, transactions: int) -> None: ...


def prepare(place: Place, scenario: Scenario, side: Side, endpoint: Endpoint) -> None:
    """What is done once for each side in a scenario: what it keeps is filled."""
    if side.caches and scenario.keys:
        pgbench.fill_cache(place.client(endpoint.port), scenario)


def probe(place: Place, scenario: Scenario, side: Side, endpoint: Endpoint, seconds: int) -> float:
    """How many transactions per second it reaches."""
    target = place.client(endpoint.port)
    pgbench.warm_up(target, scenario)
    return pgbench.load(target, scenario, seconds).per_second


def measure(
    place: Place,
    scenario: Scenario,
    side: Side,
    endpoint: Endpoint,
    number: int,
    seconds: int,
    rate: float | None,
) -> Measurement:
    """Take the figures of one side in one round."""
    target = place.client(endpoint.port)
    with idle_clients(target, scenario.idle), pgbench.flood(target, scenario):
        if scenario.scripts:
            pgbench.warm_up(target, scenario)
        logins = _logins(target, scenario, endpoint)
        time.sleep(_SETTLE_SECONDS)
        before = _routes(endpoint)
        work = partial(_load, target, scenario, seconds, rate, logins.seconds)
        load, cost = _costing_each(endpoint, scenario, work, logins.cost)
        memory = None if endpoint.pid is None else memory_of(endpoint.pid)
        after = _routes(endpoint)
    return Measurement(
        scenario.name,
        side.name,
        number,
        load.per_second,
        load.p50,
        load.p99,
        load.p999,
        user=cost.user if cost else None,
        system=cost.system if cost else None,
        memory=memory,
        hits=_hits(before, after) if side.caches and before is not None and after else None,
    )


def measure_calls(place: Place, scenario: Scenario, side: Side, endpoint: Endpoint) -> Calls:
    """Count the system calls of a side that is warm: of a pass with many transactions, less those
    of one with few."""
    assert endpoint.pid is not None
    target, report = place.client(endpoint.port), place.directory / "strace"
    few, many = (
        count_calls(endpoint.pid, partial(pgbench.run_each, target, scenario, each), report)
        for each in (1, 1 + scenario.traced)
    )
    more = scenario.traced * scenario.clients * scenario.statements
    return Calls(scenario.name, side.name, calls_each(few, many, more))


def _load(
    target: Target, scenario: Scenario, seconds: int, rate: float | None, logins: float
) -> Load:
    if scenario.copy:
        return copying.load(target, scenario, seconds)
    return pgbench.load(target, scenario, seconds, rate, logins)


@dataclass(frozen=True, slots=True)
class _Logins:
    """What it takes that each client logs in and runs one transaction.

    The load has both in it too; its figures are made without.
    """

    seconds: float = 0.0
    cost: Cost = field(default_factory=Cost)


def _logins(target: Target, scenario: Scenario, endpoint: Endpoint) -> _Logins:
    if scenario.reconnect:
        return _Logins()
    client: _Client = copying if scenario.copy else pgbench
    begun = time.monotonic()
    _, cost = _costing(endpoint, lambda: client.run_each(target, scenario, 1))
    return _Logins(time.monotonic() - begun, cost or Cost())


def _costing_each(
    endpoint: Endpoint, scenario: Scenario, work: Callable[[], Load], logins: Cost
) -> tuple[Load, Cost | None]:
    """The load, and what each statement of it costs the proxy; None where that can't be told."""
    if endpoint.pid is not None and scenario.many_logins:
        with Sampler(endpoint.pid) as sampler:
            load = work()
        return load, cost_each(sampler.samples, load.ends)
    load, spent = _costing(endpoint, work)
    if spent is None:
        return load, None
    extra = 0 if scenario.reconnect else scenario.clients
    statements = max(1, (load.transactions - extra) * scenario.statements)
    cost = spent.since(logins)
    return load, Cost(cost.user / statements, cost.system / statements)


def _costing(endpoint: Endpoint, work: Callable[[], _T]) -> tuple[_T, Cost | None]:
    """What `work` gives, and what it costs the proxy; None where there is none."""
    if endpoint.pid is None:
        return work(), None
    before = cost_of(endpoint.pid)
    result = work()
    return result, cost_of(endpoint.pid).since(before)


def _routes(endpoint: Endpoint) -> Mapping[str, float] | None:
    return queries_by_route(endpoint.metrics_url) if endpoint.metrics_url else None


def _hits(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    grown = {route: count - before.get(route, 0.0) for route, count in after.items()}
    return grown.get("cache", 0.0) / (sum(grown.values()) or 1.0)
