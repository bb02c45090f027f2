"""What was written and read, when; and whether any read saw what it must not.

Each key has one writer, so its writes are in order. A read is right if some write explains it that
is not older than the last one acknowledged before the read began, and that had begun before the
read ended. A write whose outcome is unknown explains reads and demands nothing. A promise may allow
reads a certain age: then only writes acknowledged longer before demand to be seen.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

State = int | None
"""The version of a row, None where there is no row."""


@dataclass(slots=True)
class Write:
    """`ended`: when it was acknowledged; None: unknown, or not yet."""

    state: State
    began: float
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """By connection `reader`."""

    key: Hashable
    state: State
    began: float
    ended: float
    reader: str


@dataclass(frozen=True, slots=True)
class Violation:
    """A read that no admissible write explains."""

    read: Read
    floor: State
    age: float
    """Seconds between the acknowledgement of what it had to see and its begin."""

    def __str__(self) -> str:
        read = self.read
        return (
            f"{read.reader} read {read.state} for {read.key}, {self.age * 1000:.1f} ms after "
            f"{self.floor} was acknowledged"
        )


class History:
    """Filled while the workload runs, checked afterwards. Times are time.monotonic()."""

    def __init__(self, allowed: float = 0.0) -> None:
        self.allowed = allowed
        """Seconds that a read may be old."""
        self.writes: dict[Hashable, list[Write]] = defaultdict(list)
        self.reads: list[Read] = []

    def begin(self, key: Hashable, state: State, at: float) -> Write:
        """A write of `key` is about to be sent."""
        write = Write(state, at)
        self.writes[key].append(write)
        return write

    def saw(self, key: Hashable, state: State, began: float, ended: float, reader: str) -> None:
        """A read has been answered."""
        self.reads.append(Read(key, state, began, ended, reader))

    @property
    def acknowledged(self) -> int:
        return sum(write.ended is not None for each in self.writes.values() for write in each)

    def violations(self) -> Iterator[Violation]:
        """Every read that is wrong."""
        for read in self.reads:
            writes = self.writes[read.key]
            floor = _floor(writes, read.began - self.allowed)
            admissible = writes[max(floor, 0) :]
            if floor < 0 and read.state is None:
                continue  # nothing had to be there yet
            if not any(w.state == read.state and w.began < read.ended for w in admissible):
                last = writes[floor] if floor >= 0 else None
                ended = last.ended if last is not None and last.ended is not None else read.began
                yield Violation(read, last.state if last else None, read.began - ended)

    def verdict(self) -> str:
        """The first of them in words; empty if every read was right."""
        found = list(self.violations())
        if not found:
            return ""
        return "\n".join([f"{len(found)} of {len(self.reads)} reads:", *map(str, found[:10])])


def _floor(writes: list[Write], moment: float) -> int:
    """The last write acknowledged before `moment`; -1 for none."""
    for index in range(len(writes) - 1, -1, -1):
        ended = writes[index].ended
        if ended is not None and ended < moment:
            return index
    return -1
