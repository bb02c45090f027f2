"""What was written and read, when; and whether any read saw what it must not.

Each key has one writer, so its writes are in order. A read is right if some write explains it that
is not older than the last one acknowledged before the read began, and that had begun before the
read ended. A write whose outcome is unknown explains reads and demands nothing. A promise may allow
reads a certain age: then only writes acknowledged longer before demand to be seen.
"""

from collections import defaultdict
from collections.abc import Hashable
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
    """Filled while the workload runs. Times are time.monotonic().

    A read is checked when it is noted, and only wrong ones are kept, so that a history may be as
    long as one likes: all that can excuse or accuse it has begun, and been noted, by then."""

    def __init__(self, allowed: float = 0.0) -> None:
        self.allowed = allowed
        """Seconds that a read may be old."""
        self.writes: dict[Hashable, list[Write]] = defaultdict(list)
        self.reads = 0
        self.wrong: list[Violation] = []

    def begin(self, key: Hashable, state: State, at: float) -> Write:
        """A write of `key` is about to be sent."""
        write = Write(state, at)
        self.writes[key].append(write)
        return write

    def saw(self, key: Hashable, state: State, began: float, ended: float, reader: str) -> None:
        """A read has been answered."""
        self.reads += 1
        found = self._violation(Read(key, state, began, ended, reader))
        if found is not None:
            self.wrong.append(found)

    @property
    def operations(self) -> int:
        """Reads and writes, of whatever outcome."""
        return self.reads + sum(map(len, self.writes.values()))

    @property
    def acknowledged(self) -> int:
        return sum(write.ended is not None for each in self.writes.values() for write in each)

    def _violation(self, read: Read) -> Violation | None:
        writes = self.writes[read.key]
        floor = _floor(writes, read.began - self.allowed)
        if floor < 0 and read.state is None:
            return None  # nothing had to be there yet
        for index in range(max(floor, 0), len(writes)):
            if writes[index].state == read.state and writes[index].began < read.ended:
                return None
        last = writes[floor] if floor >= 0 else None
        ended = last.ended if last is not None and last.ended is not None else read.began
        return Violation(read, last.state if last else None, read.began - ended)

    def verdict(self) -> str:
        """The first of the wrong reads in words; empty if every read was right."""
        if not self.wrong:
            return ""
        return "\n".join([f"{len(self.wrong)} of {self.reads} reads:", *map(str, self.wrong[:10])])


def _floor(writes: list[Write], moment: float) -> int:
    """The last write acknowledged before `moment`; -1 for none."""
    for index in range(len(writes) - 1, -1, -1):
        ended = writes[index].ended
        if ended is not None and ended < moment:
            return index
    return -1
