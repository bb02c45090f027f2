"""Python's collector of cyclic garbage, set for a process with much that stays and little garbage.

A query leaves no cycles, only a client that goes and what is planned anew do. As Python comes, the
collector looks at the young objects after every 700 that have stayed, and now and then at all:
half of the time that a statement took whose text was new.
"""

import gc
from typing import Final

_YOUNG: Final = 20_000
"""Objects that have come to stay since they were looked at last; a client has some thirty."""
_MIDDLE: Final = 20


def settle() -> None:
    """What is there now, modules above all, is there for good: never look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _MIDDLE)
