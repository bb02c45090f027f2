"""What the data path counts: plain numbers, cheap to add to, read when metrics are scraped.

One `Counters` for each database and one for what belongs to none, written only from the event loop,
so no locks. All numbers but `clients` and `opening` only grow. Times are seconds, sizes bytes.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from proxy.topology.statement_tallies import StatementTallies

BUCKET_BOUNDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of the latency buckets, inclusive, in seconds; one more bucket holds the rest."""


_FIRST_BOUND: Final = 0.0001
_SECOND_BOUND: Final = 0.00025
_THIRD_BOUND: Final = 0.0005


class Histogram:
    """Counts of durations by bucket."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKET_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.total += seconds
        if seconds <= _FIRST_BOUND:
            self.counts[0] += 1
        elif seconds <= _SECOND_BOUND:
            self.counts[1] += 1
        elif seconds <= _THIRD_BOUND:
            self.counts[2] += 1
        else:
            self.counts[bisect_left(BUCKET_BOUNDS, seconds)] += 1

    def include(self, other: "Histogram") -> None:
        """Count what another has counted too."""
        self.total += other.total
        self.counts = [own + more for own, more in zip(self.counts, other.counts, strict=True)]


class Tally:
    """Queries of one kind that went one way: counted without a look-up by the data path."""

    __slots__ = ("count", "durations")

    def __init__(self, durations: Histogram) -> None:
        self.count = 0
        self.durations = durations

    def add(self, seconds: float) -> None:
        """Count one that took `seconds`."""
        self.count += 1
        self.durations.observe(seconds)


def _tally() -> defaultdict[str, int]:
    return defaultdict(int)


@dataclass(slots=True)
class Counters:
    """Of one database or process. The mappings start at zero: `counters.errors["23"] += 1`."""

    queries: dict[tuple[str, str, str], Tally] = field(default_factory=dict)
    """By (route, node, kind): a `Target`'s value, a node's name or "", a plan's kind."""
    latency: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    """By route: from the query's last byte read to its ReadyForQuery (or its answer) written."""
    errors: defaultdict[str, int] = field(default_factory=_tally)
    """ErrorResponses sent to clients, by SQLSTATE class (its first two characters)."""
    retries: defaultdict[str, int] = field(default_factory=_tally)
    """Queries sent a second time, by reason."""

    cache_bypasses: defaultdict[str, int] = field(default_factory=_tally)
    """Reads that a rule caches and that did not ask the cache, by reason: "transaction has
    written", … What the cache itself counts (hits, misses, fills) is in its own statistics."""
    cache_unfilled: defaultdict[str, int] = field(default_factory=_tally)
    """Results that were to be kept and were never offered, by reason: "too large", …"""

    statements: StatementTallies = field(default_factory=StatementTallies)
    """What the cache did for each statement that a rule names."""

    clients: int = 0
    """Client connections open now."""
    opening: int = 0
    """Connections accepted whose login is not over."""
    clients_refused: int = 0
    logins: int = 0
    login_failures: defaultdict[str, int] = field(default_factory=_tally)
    """By SQLSTATE."""
    bytes_in: int = 0
    """Received from clients."""
    bytes_out: int = 0
    """Sent to clients."""
    cancels: int = 0
    """Cancel requests with a known key."""

    fast: int = 0
    """Queries that the fast path has relayed; they are among all others too."""
    lends: int = 0
    """Times that a server connection was lent."""
    wait_seconds: float = 0.0
    """What clients have waited before a connection was lent to them."""
    unfinished: int = 0
    """Answers that left a transaction open: all others ended one."""
    gap_seconds: float = 0.0
    """What open transactions have waited for their client's next statement."""

    plan_hits: int = 0
    plan_misses: int = 0
    """Query strings that had to be analysed."""

    def tally(self, route: str, node: str, kind: str) -> Tally:
        """The tally of (route, node, kind), made when first asked for; keep it."""
        tally = self.queries.get((route, node, kind))
        if tally is None:
            tally = self.queries[route, node, kind] = Tally(self.latency[route])
        return tally

    def include(self, other: "Counters") -> None:
        """Count what another has counted too; but for `statements`, which are a database's own."""
        for key, tally in other.queries.items():
            self.tally(*key).count += tally.count
        for route, histogram in other.latency.items():
            self.latency[route].include(histogram)
        for own, more in (
            (self.errors, other.errors),
            (self.retries, other.retries),
            (self.cache_bypasses, other.cache_bypasses),
            (self.cache_unfilled, other.cache_unfilled),
            (self.login_failures, other.login_failures),
        ):
            for name, count in more.items():
                own[name] += count
        self.clients += other.clients
        self.opening += other.opening
        self.clients_refused += other.clients_refused
        self.logins += other.logins
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.cancels += other.cancels
        self.fast += other.fast
        self.lends += other.lends
        self.wait_seconds += other.wait_seconds
        self.unfinished += other.unfinished
        self.gap_seconds += other.gap_seconds
        self.plan_hits += other.plan_hits
        self.plan_misses += other.plan_misses


def together(several: Iterable[Counters]) -> Counters:
    """What several have counted, as one that nobody writes to."""
    total = Counters()
    for one in several:
        total.include(one)
    return total
