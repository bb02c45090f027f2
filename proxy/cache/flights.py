"""Single flight: a read waits for the same read that is under way, instead of being run as well.

A reader may follow another only if the epochs that its own look-up found are those of the other's
ticket. Tokens never come back, so the epochs were the same from that ticket to this look-up: every
write acknowledged before the look-up had moved them before the ticket was given, thus had ended
before the other's statement was sent, which therefore sees it, under the same condition for
replicas that a fill has (`Lookup.fresh_after`).
"""

from collections.abc import Callable
from typing import Final

import structlog

from proxy.cache.members import Later

log = structlog.get_logger(__name__)

Landed = Callable[[bytes | None], None]
"""Takes the result, or None: then the follower reads by itself."""


class Flight:
    """A read under way."""

    __slots__ = ("epochs", "followers", "key", "over")

    def __init__(self, key: tuple[object, bytes] | None, epochs: bytes) -> None:
        self.key = key
        self.epochs = epochs
        self.followers: list[Landed] = []
        self.over = key is None


NO_FLIGHT: Final = Flight(None, b"")
"""Of a read that nobody may follow."""


class Flights:
    """All that are under way. `patience`: seconds that a follower waits at most; 0: nobody
    follows."""

    def __init__(self, patience: float, later: Later) -> None:
        self._patience = patience
        self._later = later
        self._flights: dict[tuple[object, bytes], Flight] = {}

    def join(self, scope: object, digest: bytes, epochs: bytes, landed: Landed) -> Flight | None:
        """Follow the same read if one is under way: `landed` is called at its end, and this returns
        None. Otherwise this returns the flight that begins, for `land`."""
        if not self._patience:
            return NO_FLIGHT
        key = scope, digest
        flight = self._flights.get(key)
        if flight is None or flight.epochs != epochs:
            flight = self._flights[key] = Flight(key, epochs)
            return flight
        if not flight.followers:
            leading = flight
            self._later(self._patience, lambda: self.land(leading, None))
        flight.followers.append(landed)
        return None

    def lead(self, scope: object, digest: bytes, epochs: bytes) -> Flight | None:
        """The flight that begins; None if the same read is under way."""
        key = scope, digest
        flight = self._flights.get(key)
        if flight is not None and flight.epochs == epochs:
            return None
        flight = self._flights[key] = Flight(key, epochs)
        return flight

    def land(self, flight: Flight, payload: bytes | None) -> None:
        """The read is over, with this result or without one that others could take."""
        if flight.over:
            return
        flight.over = True
        assert flight.key is not None
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        followers, flight.followers = flight.followers, []
        for landed in followers:
            try:
                landed(payload)
            except Exception:
                # One follower's mistake must not keep the others waiting.
                log.exception("a cache callback failed")
