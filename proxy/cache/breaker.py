"""A circuit breaker: a Redis that was too slow too often is not asked for a while.

Reads only: they then go to the servers at once. Invalidations go on, for what is kept must not grow
old without anybody's knowing; so does the renewal of trust, which notices whether Redis has become
quick again.
"""

from collections.abc import Callable


class Breaker:
    """`timeouts`: so many open it, 0: nothing does. `pause`: seconds that it stays open after the
    last of them. A time-out counts together with those before it unless Redis was well for a pause
    in between."""

    def __init__(self, timeouts: int, pause: float, clock: Callable[[], float]) -> None:
        self._timeouts = timeouts
        self.pause = pause
        self._clock = clock
        self._count = 0
        self._last = 0.0

    def timed_out(self) -> bool:
        """Redis was in use and did not answer in time; whether the breaker is open now."""
        if not self._timeouts:
            return False
        now = self._clock()
        well_from = self._last
        if self._count >= self._timeouts:
            well_from += self.pause  # it was not in use before
        if now - well_from > self.pause:
            self._count = 0
        self._count += 1
        self._last = now
        return self._count >= self._timeouts

    @property
    def seconds_left(self) -> float:
        """Until reads may ask again; 0 or less: they may."""
        if not self._timeouts or self._count < self._timeouts:
            return 0.0
        return self._last + self.pause - self._clock()
