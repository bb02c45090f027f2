"""The time of the data path: one reading for all that a round of the poller has found.

What is ready when a round begins has come by then, so that a query's duration from round to round
is what passed between its last byte and the end of its answer, without a reading for each.
"""

from time import perf_counter
from typing import Final


class Clock:
    """See the module's docstring."""

    __slots__ = ("round",)

    def __init__(self) -> None:
        self.round = 0.0
        """perf_counter() when the round began that is being served; 0 outside any."""

    def now(self) -> float:
        """Seconds as of time.perf_counter()."""
        return self.round or perf_counter()


clock: Final = Clock()
"""Of this process, whose data path is one thread."""
