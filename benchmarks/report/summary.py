"""Measurements to figures: medians with their spread, and ratios within each round."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measuring.measurement import Measurement, Round
from benchmarks.scenarios import DIRECT, PGBOUNCER


@dataclass(frozen=True, slots=True)
class Figure:
    """A median over rounds, with the least and the greatest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One side in one scenario; None where there is nothing to measure or to compare with.

    CPU is in microseconds per statement, latencies in milliseconds per transaction. Ratios are
    medians of the ratios of each round, so that what slows a whole round down cancels out.

    Attributes:
        calls: system calls per statement, by name.
        hits: share of the statements that were answered from the cache.
        p99_added, p999_added: latency that direct PostgreSQL does not have.
    """

    scenario: str
    side: str
    per_second: Figure
    p50: Figure | None
    p99: Figure | None
    p999: Figure | None
    cpu: Figure | None
    user: Figure | None
    system: Figure | None
    memory: Figure | None
    hits: Figure | None
    cpu_to_pgbouncer: Figure | None
    throughput_to_pgbouncer: Figure | None
    throughput_to_direct: Figure | None
    p99_added: Figure | None
    p999_added: Figure | None
    calls: Mapping[str, float] | None


def summarise(taken: Sequence[Round]) -> list[Row]:
    """A row for each scenario and side, in the order of the measurements."""
    measurements = [one for one_round in taken for one in one_round.measurements]
    keys = list(dict.fromkeys((one.scenario, one.side) for one in measurements))
    calls = {(one.scenario, one.side): one.each for some in taken for one in some.calls}
    return [_row(key, measurements, calls.get(key)) for key in keys]


def _row(
    key: tuple[str, str], measurements: Sequence[Measurement], calls: Mapping[str, float] | None
) -> Row:
    scenario, side = key
    own = _of(measurements, scenario, side)
    direct, pgbouncer = (_of(measurements, scenario, other) for other in (DIRECT, PGBOUNCER))
    return Row(
        scenario,
        side,
        per_second=_required(figure(one.per_second for one in own)),
        p50=figure(one.p50 for one in own),
        p99=figure(one.p99 for one in own),
        p999=figure(one.p999 for one in own),
        cpu=figure(one.cpu for one in own),
        user=figure(one.user for one in own),
        system=figure(one.system for one in own),
        memory=figure(one.memory for one in own),
        hits=figure(one.hits for one in own),
        cpu_to_pgbouncer=figure(_ratios(own, pgbouncer, lambda one: one.cpu)),
        throughput_to_pgbouncer=figure(_ratios(own, pgbouncer, lambda one: one.per_second)),
        throughput_to_direct=figure(_ratios(own, direct, lambda one: one.per_second)),
        p99_added=figure(a - b for a, b in pairs(own, direct, lambda one: one.p99)),
        p999_added=figure(a - b for a, b in pairs(own, direct, lambda one: one.p999)),
        calls=calls,
    )


Value = Callable[[Measurement], float | None]


def pairs(
    some: Sequence[Measurement], others: Sequence[Measurement], value: Value
) -> list[tuple[float, float]]:
    """The values of both in each round in which both have one."""
    theirs = {other.round: value(other) for other in others}
    both = [(value(one), theirs.get(one.round)) for one in some]
    return [(a, b) for a, b in both if a is not None and b is not None]


def _ratios(
    some: Sequence[Measurement], others: Sequence[Measurement], value: Value
) -> list[float]:
    return [a / b for a, b in pairs(some, others, value) if b]


def ratio_between(
    taken: Sequence[Round], one: tuple[str, str], other: tuple[str, str], value: Value
) -> Figure | None:
    """Of two sides, by scenario and name, in each round that both have; None without any."""
    measurements = [each for one_round in taken for each in one_round.measurements]
    return figure(_ratios(_of(measurements, *one), _of(measurements, *other), value))


def figure(values: Iterable[float | None]) -> Figure | None:
    """Of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return Figure(median(known), min(known), max(known)) if known else None


def _of(measurements: Sequence[Measurement], scenario: str, side: str) -> list[Measurement]:
    return [one for one in measurements if (one.scenario, one.side) == (scenario, side)]


def _required(found: Figure | None) -> Figure:
    assert found is not None
    return found
