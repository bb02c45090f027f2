"""What Penstock is to reach, and whether it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import scenarios
from benchmarks.measuring.measurement import Measurement, Round
from benchmarks.report.summary import Figure, Row, ratio_between, summarise

Find = Callable[[Sequence[Round], Sequence[Row]], Figure | None]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and its bound.

    Attributes:
        most: whether the bound is the most that it may be; otherwise the least that it must be.
    """

    what: str
    find: Find
    bound: float
    most: bool = True

    def reached(self, found: Figure) -> bool:
        """By the median."""
        return found.median <= self.bound if self.most else found.median >= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target with what was found; None where it was not measured."""

    target: Target
    found: Figure | None


def judge(taken: Sequence[Round]) -> list[Verdict]:
    """Every target, in its order."""
    rows = summarise(taken)
    return [Verdict(target, target.find(taken, rows)) for target in TARGETS]


def _row(rows: Sequence[Row], scenario: str, side: str) -> Row | None:
    return next((row for row in rows if (row.scenario, row.side) == (scenario, side)), None)


def _figure(scenario: str, side: str, of: Callable[[Row], Figure | None]) -> Find:
    def find(_: Sequence[Round], rows: Sequence[Row]) -> Figure | None:
        row = _row(rows, scenario, side)
        return None if row is None else of(row)

    return find


def _between(
    one: tuple[str, str], other: tuple[str, str], value: Callable[[Measurement], float | None]
) -> Find:
    return lambda taken, _: ratio_between(taken, one, other, value)


def _cpu(scenario: str, side: str = scenarios.PENSTOCK) -> Find:
    return _figure(scenario, side, lambda row: row.cpu_to_pgbouncer)


_CACHED, _HALF = "cached-0.1ms", "half-load"

TARGETS: Sequence[Target] = (
    Target("select by key, simple: CPU ÷ PgBouncer's", _cpu("select-simple"), 1.0),
    Target("select by key, extended: CPU ÷ PgBouncer's", _cpu("select-extended"), 1.0),
    Target("rows of 1 MB: CPU ÷ PgBouncer's", _cpu("large-row"), 1.1),
    Target("results of 10,000 rows: CPU ÷ PgBouncer's", _cpu("wide-result"), 1.1),
    Target("COPY out: CPU ÷ PgBouncer's", _cpu("copy-out"), 1.1),
    Target("COPY in: CPU ÷ PgBouncer's", _cpu("copy-in"), 1.1),
    Target(
        "cached select by key: CPU ÷ PgBouncer's", _cpu(_CACHED, scenarios.PENSTOCK_CACHE), 0.45
    ),
    Target(
        "cached select by key: throughput ÷ direct",
        _figure(_CACHED, scenarios.PENSTOCK_CACHE, lambda row: row.throughput_to_direct),
        2.5,
        most=False,
    ),
    Target(
        "half load: p99 less direct's, in ms",
        _figure(_HALF, scenarios.PENSTOCK, lambda row: row.p99_added),
        0.1,
    ),
    Target(
        "beside a flood of new texts: p99.9 less direct's, in ms",
        _figure("flood", scenarios.PENSTOCK, lambda row: row.p999_added),
        5.0,
    ),
    Target(
        "64 active: p99 with 10,000 idle clients ÷ without",
        _between(
            ("clients-10000", scenarios.PENSTOCK),
            ("clients-64", scenarios.PENSTOCK),
            lambda one: one.p99,
        ),
        1.1,
    ),
)
