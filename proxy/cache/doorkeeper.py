"""What was asked for before: what is asked for once needs no cache.

A fixed table of hashes, like the doorkeeper of TinyLFU (Einziger, Friedman, Manes 2017), in which a
later request takes an earlier one's place where they collide. Forgetting costs a look-up more or
less, never a wrong answer. The fast path reads and writes the same table (`net/_fast_path.c`).
"""

from mmap import mmap
from typing import Final

PLACES: Final = 1 << 19
_MASK: Final = PLACES - 1
_WIDTH: Final = 8


class Doorkeeper:
    """Of one process. Its memory is 4 MiB, taken as it is used."""

    __slots__ = ("_seen", "memory")

    def __init__(self) -> None:
        self.memory = mmap(-1, PLACES * _WIDTH)
        self._seen = memoryview(self.memory).cast("q")

    def seen(self, request: bytes) -> bool:
        """Whether this request, as the server gets it, was asked about before; now it was."""
        value = hash(request)
        place = value & _MASK
        if self._seen[place] == value:
            return True
        self._seen[place] = value
        return False
