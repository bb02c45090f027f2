"""The table of what happened, and in sentences what is to be seen in it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil

from rich import box
from rich.console import Console
from rich.table import Table

from proxy.demo.metrics import CACHE
from proxy.demo.workload import CROWD, Outcome

_PLAIN_WIDTH = 140
"""Columns where the output is no terminal: a log, a pipe."""


def console(stderr: bool = False) -> Console:
    """An output without control characters where that is no terminal."""
    found = Console(stderr=stderr, highlight=False)
    if found.is_terminal:
        return found
    return Console(stderr=stderr, highlight=False, no_color=True, width=_PLAIN_WIDTH)


def percentile(durations: Sequence[float], share: float) -> float:
    """The smallest duration that at least `share` of them don't exceed."""
    return sorted(durations)[max(0, ceil(share * len(durations)) - 1)]


def answered_by(outcome: Outcome) -> Counter[str]:
    """How many of the statements that the phase counts each node answered."""
    return outcome.after.since(outcome.before, outcome.phase.kinds)


def happened(outcomes: Iterable[Outcome]) -> Table:
    """The main table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    table.add_column("what", no_wrap=True)
    table.add_column("times", justify="right")
    table.add_column("statements answered by")
    table.add_column("because")
    table.add_column("Penstock\np50 / p99 ms", justify="right", no_wrap=True)
    table.add_column("PostgreSQL\np50 / p99 ms", justify="right", no_wrap=True)
    for outcome in outcomes:
        nodes = ", ".join(f"{node} {count}" for node, count in sorted(answered_by(outcome).items()))
        table.add_row(
            outcome.phase.name,
            str(outcome.phase.times),
            nodes,
            outcome.because,
            _milliseconds(outcome.penstock),
            _milliseconds(outcome.direct),
        )
    return table


def _milliseconds(durations: Sequence[float]) -> str:
    return f"{percentile(durations, 0.5) * 1e3:.2f} / {percentile(durations, 0.99) * 1e3:6.2f}"


def explanation(rows: Mapping[str, str]) -> Table:
    """What EXPLAIN (PENSTOCK) answered."""
    table = Table(box=None, show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def sentences(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """What is to be seen, from the numbers of this run alone."""
    total: Counter[str] = Counter()
    for outcome in outcomes.values():
        if outcome.phase.kinds == {"select"}:
            total += answered_by(outcome)
    replicas = sum(count for node, count in total.items() if node.startswith("replica"))
    yield (
        f"Reads: {replicas} of {total.total()} came from replicas, {total[CACHE]} from {CACHE}, "
        f"{total['primary']} from the primary."
    )
    report = outcomes["sales report"]
    yield (
        f"Cache: {answered_by(report)[CACHE]} of {report.phase.times} sales reports were hits; "
        f"half of all took at most {percentile(report.penstock, 0.5) * 1e3:.2f} ms, on PostgreSQL "
        f"{percentile(report.direct, 0.5) * 1e3:.2f} ms. A miss goes to a node that is known to "
        "hold the last write of the tables it reads."
    )
    price = outcomes["change a cached price"]
    yield (
        f"Never stale: {price.phase.times} times a cached price was changed; each next read "
        "showed the new one."
    )
    own = outcomes["order, then read it back"]
    yield (
        f"Own writes: {own.phase.times} of {own.phase.times} orders were seen by the session's "
        "next read."
    )
    crowd = outcomes[CROWD]
    nodes = sorted(answered_by(crowd))
    shared = sum(crowd.after.connections[node] for node in nodes)
    where = " and ".join(nodes)
    yield f"Pooling: {crowd.phase.name} shared {shared} server connections on {where}."
