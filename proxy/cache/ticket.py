"""What a lookup gives: a result, the right to store one, or why there is neither."""

from typing import Final, NamedTuple

from proxy.cache.flights import Flight
from proxy.cache.scope import Scope
from proxy.cache.statistics import APART, AWAY, OTHER_SCHEMA, REFUSED, RESTING
from proxy.cache.tier import Right


class Ticket(NamedTuple):
    """The right to fill: the epochs as they were before the read."""

    scope: Scope
    digest: bytes
    epochs: bytes
    flight: Flight
    """Others who wait for this read: `ResultCache.fill` or `forgo` must be called."""
    lease: bytes = b""
    """The key of the lease that it holds, if any: the same goes for others elsewhere."""


class Lookup(NamedTuple):
    """What the cache knows of a request. Tuples: twice as fast to make as frozen dataclasses."""

    payload: bytes | None
    """The stored result: a hit."""
    ticket: Ticket | None
    """On a miss that may be filled."""
    reason: str
    """Why there was no hit, in words; "hit" for one."""
    fresh_after: float
    """With a ticket: a replica may serve the fill only if it has replayed all writes acknowledged
    before this moment (seconds of time.monotonic(); the loop's own clock stands still within a
    turn)."""
    right: Right | None = None
    """With a hit of which `retain` may keep the answer."""


AWAY_NOW: Final = Lookup(None, None, AWAY, 0.0)
REFUSED_NOW: Final = Lookup(None, None, REFUSED, 0.0)
APART_NOW: Final = Lookup(None, None, APART, 0.0)
RESTING_NOW: Final = Lookup(None, None, RESTING, 0.0)
OTHER_SCHEMA_NOW: Final = Lookup(None, None, OTHER_SCHEMA, 0.0)
