"""WAL positions, and the rule by which a replica is known to hold a session's writes.

The rule: a sample that starts at monotonic time `s` asks the primary for its insert position. Every
write acknowledged before `s` has its commit record below that position, so a replica that has
replayed up to it shows all of them. No query of a session is involved.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

_SHORT_PAGE_HEADER = 24
_LONG_PAGE_HEADER = 40  # on the first page of a segment
_MOST_SAMPLES = 2048
_GRAIN = 16  # with 2,048 samples: gaps of 1 to 2 % of the age, days at ten a second


def parse_lsn(text: str) -> int:
    """The byte position that pg_lsn's text ("16/B374D848") stands for.

    Raises ValueError where the text is no pg_lsn.
    """
    high, slash, low = text.partition("/")
    try:
        if not slash or not 0 < len(high) <= 8 or not 0 < len(low) <= 8:
            raise ValueError
        if not high.isalnum() or not low.isalnum():
            raise ValueError
        return int(high, 16) << 32 | int(low, 16)
    except ValueError:
        raise ValueError(
            f"{text!r} is no WAL position: expected two hexadecimal numbers such as 16/B374D848"
        ) from None


def format_lsn(lsn: int) -> str:
    """pg_lsn's text for a byte position."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True)
class WalLayout:
    """The sizes, in bytes, that a server's WAL was made with."""

    segment_size: int
    page_size: int = 8192


def last_record_end(insert_lsn: int, layout: WalLayout) -> int:
    """Where the last record ends, given where the next one will start.

    The two differ where a record ended exactly at a page's end (always after pg_switch_wal): the
    insert position then stands behind the next page's header, while a replica, which counts ends of
    records, stays at the page's start until something more is written. On an idle server that is
    for ever. No record fits between the two, so the page's start means the same.
    """
    offset = insert_lsn % layout.page_size
    first_of_segment = insert_lsn % layout.segment_size == offset
    header = _LONG_PAGE_HEADER if first_of_segment else _SHORT_PAGE_HEADER
    return insert_lsn - offset if offset == header else insert_lsn


@dataclass(slots=True)
class Samples:
    """The primary's positions over time, ascending in both. Holds `capacity` samples at most.

    Leaving out a sample is always safe: replicas then count as less fresh than they are.
    """

    capacity: int = _MOST_SAMPLES
    _times: list[float] = field(default_factory=list)
    _lsns: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._times)

    def add(self, at: float, lsn: int) -> None:
        """A sample whose query was sent after the moment `at`, and the position it yielded.

        The position may be lower than earlier ones: a crash loses the tail that was not flushed.
        """
        while self._lsns and self._lsns[-1] >= lsn:  # says less than the new one
            self._lsns.pop()
            self._times.pop()
        self._lsns.append(lsn)
        self._times.append(at)
        if len(self._lsns) > self.capacity:
            self._thin()

    def fresh_until(self, replayed: int) -> float:
        """The moment before which every acknowledged write is replayed; -inf where unknown."""
        found = bisect_right(self._lsns, replayed)
        return self._times[found - 1] if found else float("-inf")

    @property
    def latest(self) -> tuple[float, int] | None:
        """(time, position) of the newest sample."""
        return (self._times[-1], self._lsns[-1]) if self._lsns else None

    def clear(self) -> None:
        """Forget everything: positions of another timeline can't be compared."""
        self._times.clear()
        self._lsns.clear()

    def _thin(self) -> None:
        """Keep the newest quarter whole, and before it the fewer the older: the gap between two
        grows with their age, so that a replica hours behind is still placed."""
        newest, grain = self._times[-1], _GRAIN / self.capacity
        kept: list[int] = []
        following = float("inf")
        for index in range(len(self._times) - 1, -1, -1):
            at = self._times[index]
            if len(kept) < self.capacity // 4 or following - at >= (newest - at) * grain:
                kept.append(index)
                following = at
        kept = kept[: self.capacity * 3 // 4][::-1]
        self._times = [self._times[index] for index in kept]
        self._lsns = [self._lsns[index] for index in kept]
