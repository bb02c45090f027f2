"""What went through lately, per second: from two samples of totals that only grow."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from proxy.topology.counters import Counters


@dataclass(frozen=True, slots=True)
class Totals:
    """Of one database, since the process started. Times are seconds, sizes bytes."""

    lends: int = 0
    transactions: int = 0
    queries: int = 0
    received: int = 0
    sent: int = 0
    transaction_seconds: float = 0.0
    query_seconds: float = 0.0
    wait_seconds: float = 0.0
    parses: int = 0

    def plus(self, other: "Totals") -> "Totals":
        """Both together."""
        return Totals(
            *(getattr(self, one.name) + getattr(other, one.name) for one in fields(Totals))
        )


@dataclass(frozen=True, slots=True)
class Averages:
    """Over one period: per second; times are seconds per lend, transaction and query."""

    lends: float = 0.0
    transactions: float = 0.0
    queries: float = 0.0
    received: float = 0.0
    sent: float = 0.0
    transaction_seconds: float = 0.0
    query_seconds: float = 0.0
    wait_seconds: float = 0.0
    parses: float = 0.0


TotalsByName = Mapping[str, Totals]
AveragesByName = Mapping[str, Averages]


def totals(counters: Counters, parses: int) -> Totals:
    """The totals of a database at this moment. `parses`: statements that clients prepared.

    Every answer ends a transaction but those that left one open; a transaction takes as long as its
    queries and the gaps between them.
    """
    queries = sum(tally.count for tally in counters.queries.values())
    seconds = sum(histogram.total for histogram in counters.latency.values())
    return Totals(
        counters.lends,
        max(0, queries - counters.unfinished),
        queries,
        counters.bytes_in,
        counters.bytes_out,
        seconds + counters.gap_seconds,
        seconds,
        counters.wait_seconds,
        parses,
    )


def averages(before: Totals, after: Totals, seconds: float) -> Averages:
    """What `seconds` between two samples come to."""
    if seconds <= 0:
        return Averages()
    if after.queries < before.queries:  # the database went, and another came under its name
        before = Totals()
    lends = after.lends - before.lends
    transactions = after.transactions - before.transactions
    queries = after.queries - before.queries
    return Averages(
        lends / seconds,
        transactions / seconds,
        queries / seconds,
        (after.received - before.received) / seconds,
        (after.sent - before.sent) / seconds,
        _each(after.transaction_seconds - before.transaction_seconds, transactions),
        _each(after.query_seconds - before.query_seconds, queries),
        _each(after.wait_seconds - before.wait_seconds, lends),
        (after.parses - before.parses) / seconds,
    )


def _each(seconds: float, count: int) -> float:
    return seconds / count if count > 0 else 0.0


def total_of(several: TotalsByName) -> Totals:
    """All databases together."""
    together = Totals()
    for one in several.values():
        together = together.plus(one)
    return together


class Period:
    """Averages over the last whole period; over the time since the start until one has passed."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._sample: TotalsByName = {}
        self._last: AveragesByName | None = None
        self._last_together = Averages()

    def end(self, now: float, sample: TotalsByName) -> None:
        """A period is over, the next begins."""
        self._last_together = averages(total_of(self._sample), total_of(sample), now - self._since)
        self._last = self._averages(now, sample)
        self._since, self._sample = now, sample

    def averages(self, now: float, current: TotalsByName) -> AveragesByName:
        """As the class says. `now`: seconds of the clock that `end` is given too."""
        if self._last is None:
            return self._averages(now, current)
        return {name: self._last.get(name, Averages()) for name in current}

    def together(self, now: float, current: TotalsByName) -> Averages:
        """As `averages`, of all databases together."""
        if self._last is not None:
            return self._last_together
        return averages(Totals(), total_of(current), now - self._since)

    def _averages(self, now: float, current: TotalsByName) -> AveragesByName:
        seconds = now - self._since
        return {
            name: averages(self._sample.get(name, Totals()), one, seconds)
            for name, one in current.items()
        }
