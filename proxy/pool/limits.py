"""Limits on server connections that several pools share: of a node, a database or a user.

Whoever can't open a connection for such a limit is `starved`. It gets the place of a connection
that another pool has idle at once, else of one that another pool gives back and doesn't need, and
where all are busy, one of the largest pool's a second (`demand`), so that nobody waits forever.
"""

from collections.abc import Iterator
from typing import Protocol


class Limited(Protocol):
    """A pool, as far as a limit knows it."""

    @property
    def size(self) -> int: ...

    def idle_longest(self) -> float | None:
        """Since when the longest unused connection that can be spared is; None without one."""

    def spare(self) -> None:
        """Close that connection."""

    def heed(self) -> None:
        """Somebody is starved: give back what is not needed from now on."""

    def surrender(self) -> None:
        """Close the next connection that comes back, needed or not."""

    def grow(self) -> None:
        """There may be room again."""


class Limit:
    """At most `most` connections over its pools, those being opened included; 0: no limit."""

    def __init__(self, most: int, name: str) -> None:
        self.most = most
        self.name = name
        """The setting, for messages."""
        self.count = 0
        self.pools: dict[Limited, None] = {}
        self._starved: dict[Limited, None] = {}
        """Longest waiting first."""

    @property
    def reached(self) -> bool:
        """Whether there may be no further connection."""
        return 0 < self.most <= self.count

    @property
    def starving(self) -> bool:
        """Whether a pool waits for room."""
        return bool(self._starved)

    def admits(self, pool: Limited) -> bool:
        """Whether `pool` may open a connection; an idle one of another makes room if need be."""
        if self.reached and not self._make_room(pool):
            return False
        return not self.reached

    def _make_room(self, pool: Limited) -> bool:
        others = [(since, other) for other, since in self._idle() if other is not pool]
        if not others:
            return False
        starved, self._starved = self._starved, {}  # the room is for `pool`, not for the next
        min(others, key=lambda pair: pair[0])[1].spare()
        self._starved = starved
        return True

    def _idle(self) -> Iterator[tuple[Limited, float]]:
        for pool in self.pools:
            since = pool.idle_longest()
            if since is not None:
                yield pool, since

    def starve(self, pool: Limited) -> None:
        """`pool` needs a connection and must wait until one has gone."""
        self._starved.setdefault(pool)
        for other in self.pools:
            if other is not pool:
                other.heed()

    def demand(self, pool: Limited) -> None:
        """`pool` has been starved for long: the largest other one must give up a connection."""
        others = [other for other in self.pools if other is not pool and other.size > 0]
        largest = max(others, key=lambda other: other.size, default=None)
        if pool in self._starved and largest is not None and largest.size > pool.size:
            largest.surrender()

    def content(self, pool: Limited) -> None:
        """`pool` needs no room any more."""
        self._starved.pop(pool, None)

    def opening(self) -> None:
        """A connection is being opened."""
        self.count += 1

    def gone(self) -> None:
        """A connection has gone, or could not be opened: the next one's turn."""
        self.count -= 1
        while self._starved and not self.reached:
            pool = next(iter(self._starved))
            del self._starved[pool]
            pool.grow()

    def leave(self, pool: Limited) -> None:
        """The pool is no more."""
        self.pools.pop(pool, None)
        self._starved.pop(pool, None)
