"""Which plots are made of results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import scenarios
from benchmarks.measuring.measurement import Round
from benchmarks.report.summary import Figure, Row, summarise
from benchmarks.report.svg import Bar, Chart, Group, render

Find = Callable[[Row], Figure | None]

_COLOURS = {
    scenarios.DIRECT: "#8a8f98",
    scenarios.PGBOUNCER: "#c58a2b",
    scenarios.PGPOOL: "#7d6ba8",
    scenarios.PGPOOL_CACHE: "#7d6ba8",
    scenarios.INTERPRETED: "#8fb6d9",
    scenarios.INTERPRETED_TWO: "#8fb6d9",
    scenarios.INTERPRETED_CACHE: "#8fb6d9",
}
_PENSTOCK = "#23578a"

_PLOTTED = {
    "cpu": ("select-simple", "select-extended", "select-prepared", "tpcb", "cached-0.1ms"),
    "clients": ("clients-1", "select-extended", "clients-64", "clients-1000", "small-pool"),
    "latency": ("half-load", "clients-64", "clients-10000"),
    "cache": ("cached-0.1ms", "cached-5ms", "cached-50ms", "cached-mixed"),
}
_TITLES = {scenario.name: scenario.title for scenario in scenarios.SCENARIOS}
_TITLES["select-extended"] += " (16 clients)"


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart with the name of its file."""

    name: str
    chart: Chart

    @property
    def svg(self) -> str:
        """As a file's content."""
        return render(self.chart)


def plots(taken: Sequence[Round]) -> list[Plot]:
    """Those for which there are figures."""
    rows = summarise(taken)
    made = [
        Plot(
            "cpu-ratios",
            Chart(
                "CPU per query beside PgBouncer's",
                "Penstock, compiled, one process; ratio within a round; less is better",
                _ratios(rows),
                bound=(1.0, "PgBouncer"),
            ),
        ),
        Plot(
            "cpu",
            Chart(
                "CPU per query",
                "µs of the proxy's CPU: in user space (dark) and in the kernel (light)",
                _groups(rows, "cpu", lambda row: row.cpu, lambda row: (row.user, row.system)),
            ),
        ),
        Plot(
            "clients",
            Chart(
                "Throughput beside PostgreSQL without proxy",
                "ratio within a round; more is better",
                _groups(rows, "clients", lambda row: row.throughput_to_direct),
                bound=(1.0, "direct"),
            ),
        ),
        Plot(
            "latency",
            Chart(
                "Latency: p99 of a select by key",
                "ms; less is better",
                _groups(rows, "latency", lambda row: row.p99),
            ),
        ),
        Plot(
            "cache",
            Chart(
                "Cached results: throughput beside PostgreSQL without proxy",
                "ratio within a round, logarithmic; more is better",
                _groups(rows, "cache", lambda row: row.throughput_to_direct),
                bound=(1.0, "direct"),
                logarithmic=True,
            ),
        ),
    ]
    return [plot for plot in made if any(group.bars for group in plot.chart.groups)]


def _ratios(rows: Sequence[Row]) -> list[Group]:
    """One bar for each scenario: of the Penstock that it is about."""
    chosen = {
        "cached-0.1ms": scenarios.PENSTOCK_CACHE,
        "cached-5ms": scenarios.PENSTOCK_CACHE,
        "cached-50ms": scenarios.PENSTOCK_CACHE,
        "cached-mixed": scenarios.PENSTOCK_CACHE,
        "sharded-read": scenarios.PENSTOCK_SHARDS,
    }
    bars = [
        _bar(row, row.scenario, row.cpu_to_pgbouncer)
        for row in rows
        if row.side == chosen.get(row.scenario, scenarios.PENSTOCK)
    ]
    return [Group("", [bar for bar in bars if bar])]


def _groups(
    rows: Sequence[Row],
    plot: str,
    find: Find,
    halves: Callable[[Row], tuple[Figure | None, Figure | None]] | None = None,
) -> list[Group]:
    by_scenario: Mapping[str, list[Row]] = {
        name: [row for row in rows if row.scenario == name] for name in _PLOTTED[plot]
    }
    groups = []
    for name, some in by_scenario.items():
        bars = [_bar(row, row.side, find(row), halves(row) if halves else None) for row in some]
        if any(bars):
            groups.append(Group(_TITLES[name], [bar for bar in bars if bar]))
    return groups


def _bar(
    row: Row,
    label: str,
    figure: Figure | None,
    halves: tuple[Figure | None, Figure | None] | None = None,
) -> Bar | None:
    if figure is None:
        return None
    parts = tuple(half.median for half in halves or () if half) or (figure.median,)
    spread = None if halves else (figure.low, figure.high)
    return Bar(label, parts, _COLOURS.get(row.side, _PENSTOCK), spread, _text(figure.median))


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
