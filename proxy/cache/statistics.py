"""What the cache counts: plain numbers, written from the event loop only, read by whoever asks."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.topology.statement_tallies import saved_ms

ABSENT = "no entry"
INVALIDATED = "invalidated"
UNKNOWN_EPOCH = "epoch not known yet"
DAMAGED = "damaged entry"
FOREIGN = "entry of another version or key"
EXPIRED = "entry to be read anew"
AWAY = "redis is away"
REFUSED = "redis refused the lookup"
RESTING = "redis was too slow too often"
APART = "other processes may not have found redis again"
OTHER_SCHEMA = "the schema was changed elsewhere"
RENEWED = "a hint asks for a new result"

BY_WRITE = "write"
BY_FEED = "feed"
BY_SCHEMA = "schema"
BY_RECONNECT = "reconnect"
BY_DELAY = "delay"

SOURCES = (BY_WRITE, BY_FEED, BY_SCHEMA, BY_RECONNECT, BY_DELAY)
"""What moves epochs: writes through Penstock, the change feed, schema changes by others, the start
or return of a link to Redis, and rules that invalidate once more. What `CacheManager` moves is
counted in Redis alone."""

BY_PATTERN = "pattern"
BY_CLEAR = "clear"
BY_HAND = (BY_PATTERN, BY_CLEAR)
"""By `CacheManager`: of tables that a pattern matches, and of everything."""

MISSES = (ABSENT, INVALIDATED, UNKNOWN_EPOCH, DAMAGED, FOREIGN, EXPIRED)
"""Reasons of a lookup that Redis answered and that found nothing to serve. The others are
bypasses."""


@dataclass(slots=True)
class RuleCounters:
    """Of one `[[cache.rule]]`."""

    hits: int = 0
    misses: int = 0
    fills: int = 0
    reads: int = 0
    """Answers of servers that were to be kept, and the seconds that they took in all, the wait for
    a connection included."""
    read_seconds: float = 0.0

    def include(self, other: "RuleCounters") -> None:
        """Count what another has counted too."""
        self.hits += other.hits
        self.misses += other.misses
        self.fills += other.fills
        self.reads += other.reads
        self.read_seconds += other.read_seconds

    @property
    def saved_ms(self) -> int:
        """What its hits have saved."""
        return saved_ms(self.hits, self.reads, self.read_seconds)


@dataclass(slots=True)
class Statistics:
    """Of one process since its start. Sizes are bytes of payload."""

    hits: int = 0
    memory_hits: int = 0
    """Those of `hits` that were answered from this process's memory."""
    coalesced: int = 0
    """Reads that took the answer of the same read under way."""
    misses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MISSES, 0))
    bypasses: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((AWAY, REFUSED, APART, OTHER_SCHEMA, RESTING), 0)
    )
    stale_hits: int = 0
    """Those of `hits` after an entry's time, while another client was reading anew."""
    renewals: int = 0
    """Reads that a hint had run although there may have been a hit."""
    refreshed: int = 0
    """Results that were read again after a write, before its writer had the answer."""
    refreshed_late: int = 0
    """Those that took longer than the writer had to wait."""
    fills: int = 0
    refused_fills: int = 0
    """An epoch had moved since the lookup."""
    dropped_fills: int = 0
    """Not sent: Redis was away, or slow to read."""
    moves: int = 0
    """Acknowledged moves of epochs."""
    moves_by: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))
    """The same by their source."""
    owed_moves: int = 0
    """Moves that could not be made at the time: the database was invalidated at the next
    connect."""
    errors: int = 0
    """Error replies of Redis."""
    bytes_served: int = 0
    bytes_stored: int = 0
    memory_bytes: int = 0
    """In use by the answers in this process's memory, now."""
    memory_entries: int = 0
    evictions: int = 0
    """Answers that left this process's memory for want of room."""
    unconfirmed_moves: int = 0
    """Moves that waited until another process's right to answer from memory had run out."""
    rules: defaultdict[str, RuleCounters] = field(default_factory=lambda: defaultdict(RuleCounters))

    @property
    def hit_rate(self) -> float:
        """Share of hits among the lookups that Redis answered, 0 to 1; 0 before the first."""
        return hit_rate(self.hits, sum(self.misses.values()))

    def flat(self) -> Iterator[tuple[str, int]]:
        """(field, number) of every counter, as the shared hash in Redis names them."""
        yield "hits", self.hits
        yield "memory_hits", self.memory_hits
        yield "coalesced", self.coalesced
        yield "misses", sum(self.misses.values())
        yield "bypasses", sum(self.bypasses.values())
        yield "stale_hits", self.stale_hits
        yield "renewals", self.renewals
        yield "refreshed", self.refreshed
        yield "refreshed_late", self.refreshed_late
        yield "fills", self.fills
        yield "refused_fills", self.refused_fills
        yield "dropped_fills", self.dropped_fills
        yield "moves", self.moves
        for source, count in self.moves_by.items():
            yield f"moves:{source}", count
        yield "owed_moves", self.owed_moves
        yield "errors", self.errors
        yield "bytes_served", self.bytes_served
        yield "bytes_stored", self.bytes_stored
        yield "evictions", self.evictions
        yield "unconfirmed_moves", self.unconfirmed_moves
        for rule, counters in self.rules.items():
            yield f"rule:{rule}:hits", counters.hits
            yield f"rule:{rule}:misses", counters.misses
            yield f"rule:{rule}:fills", counters.fills
            yield f"rule:{rule}:saved_ms", counters.saved_ms


def hit_rate(hits: int, misses: int) -> float:
    """Share of hits, 0 to 1; 0 where nothing was looked up."""
    return hits / (hits + misses) if hits else 0.0
