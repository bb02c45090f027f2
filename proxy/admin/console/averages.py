"""What went through lately, per second: from two samples of totals that only grow."""

from dataclasses import dataclass

from proxy.topology.counters import Counters


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the process started."""

    queries: int = 0
    query_seconds: float = 0.0
    received: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Averages:
    """Over one period: per second, and seconds per query."""

    queries: float = 0.0
    query_seconds: float = 0.0
    received: float = 0.0
    sent: float = 0.0


def totals(counters: Counters) -> Totals:
    """The totals at this moment."""
    return Totals(
        sum(tally.count for tally in counters.queries.values()),
        sum(histogram.total for histogram in counters.latency.values()),
        counters.bytes_in,
        counters.bytes_out,
    )


def averages(before: Totals, after: Totals, seconds: float) -> Averages:
    """What `seconds` between two samples come to."""
    if seconds <= 0:
        return Averages()
    queries = after.queries - before.queries
    return Averages(
        queries / seconds,
        (after.query_seconds - before.query_seconds) / queries if queries else 0.0,
        (after.received - before.received) / seconds,
        (after.sent - before.sent) / seconds,
    )


class Period:
    """Averages over the last whole period; over the time since the start until one has passed."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._sample = Totals()
        self._last: Averages | None = None

    def end(self, now: float, sample: Totals) -> None:
        """A period is over, the next begins."""
        self._last = averages(self._sample, sample, now - self._since)
        self._since, self._sample = now, sample

    def averages(self, now: float, current: Totals) -> Averages:
        """As the class says. `now`: seconds of the clock that `end` is given too."""
        if self._last is not None:
            return self._last
        return averages(self._sample, current, now - self._since)
