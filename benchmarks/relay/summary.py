"""Runs to figures: medians with their spread, and ratios within each round."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.relay.cases import DIRECT, PGBOUNCER
from benchmarks.relay.measure import Run


@dataclass(frozen=True, slots=True)
class Figure:
    """A median over rounds, with the least and the greatest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one case; None where there is nothing to measure or to compare with.

    CPU is in microseconds per statement, latencies in milliseconds per transaction. Ratios are
    medians of the ratios of each round, so that what slows a whole round down cancels out.
    """

    case: str
    contender: str
    per_second: Figure
    p50: Figure | None
    p99: Figure | None
    cpu: Figure | None
    user: Figure | None
    system: Figure | None
    resident: Figure | None
    cpu_to_pgbouncer: Figure | None
    throughput_to_pgbouncer: Figure | None
    throughput_to_direct: Figure | None
    from_cache: Figure | None
    """Share of the statements that were answered from the cache."""


def summarise(runs: Sequence[Run]) -> list[Row]:
    """A row for each case and contender, in the order of the runs."""
    keys = list(dict.fromkeys((run.case, run.contender) for run in runs))
    return [_row(case, contender, runs) for case, contender in keys]


def _row(case: str, contender: str, runs: Sequence[Run]) -> Row:
    own = [run for run in runs if (run.case, run.contender) == (case, contender)]

    def ratio(other: str, value: Callable[[Run], float | None]) -> Figure | None:
        theirs = {r.round: r for r in runs if (r.case, r.contender) == (case, other)}
        pairs = [(value(run), value(theirs[run.round])) for run in own if run.round in theirs]
        return figure(a / b for a, b in pairs if a is not None and b)

    return Row(
        case,
        contender,
        per_second=_required(figure(run.per_second for run in own)),
        p50=figure(run.p50 for run in own),
        p99=figure(run.p99 for run in own),
        cpu=figure(_cpu(run) for run in own),
        user=figure(run.user for run in own),
        system=figure(run.system for run in own),
        resident=figure(run.resident for run in own),
        cpu_to_pgbouncer=ratio(PGBOUNCER, _cpu),
        throughput_to_pgbouncer=ratio(PGBOUNCER, lambda run: run.per_second),
        throughput_to_direct=ratio(DIRECT, lambda run: run.per_second),
        from_cache=figure(run.routes.get("cache", 0.0) for run in own if run.routes),
    )


def figure(values: Iterable[float | None]) -> Figure | None:
    """Of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return Figure(median(known), min(known), max(known)) if known else None


def _required(found: Figure | None) -> Figure:
    assert found is not None
    return found


def _cpu(run: Run) -> float | None:
    return None if run.user is None or run.system is None else run.user + run.system
