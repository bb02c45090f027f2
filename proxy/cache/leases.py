"""Single flight between processes: who may run a read that several of them miss at once.

Whoever is about to run it takes a lease in Redis (`SET NX PX`), which names the epochs of its
ticket and is given back when its result has been stored, or won't be. Who finds a lease taken under
the same epochs looks again and again for the entry, and serves it as any hit: each look compares
the entry's epochs with the current ones, so waiting changes nothing of what a hit promises. Those
who follow in the same process (see `flights`) may take it as well, since it was right after their
own look-ups. If there is no lease any more and no entry either, if the lease names other epochs, or
after `patience`, the read is run here, by the ticket that was given before.

A lease that is lost or outlived costs a read that is run twice, nothing else. It costs each miss
one more round trip to Redis, and is therefore taken only while other processes are there.
"""

from collections.abc import Callable
from typing import Any, Final

from proxy.cache.commands import pack
from proxy.cache.link import Request
from proxy.cache.scope import Scope

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.02

Later = Callable[[float, Callable[[], None]], object]


class Awaited:
    """A read for which this process waits while another one runs it.

    `find` gives the entry in a reply to the scope's lookup, if it is one to serve. `over` is called
    once: with that, or with None, when the read is to be run here."""

    __slots__ = (
        "_deadline",
        "_epochs",
        "_holder",
        "_pause",
        "digest",
        "find",
        "lease",
        "over",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        digest: bytes,
        epochs: bytes,
        lease: bytes,
        deadline: float,
        find: Callable[[Any], bytes | None],
        over: Callable[[bytes | None], None],
    ) -> None:
        self.scope = scope
        self.digest = digest
        self.lease = lease
        self.find = find
        self.over = over
        self._epochs = epochs
        self._deadline = deadline
        self._pause = _FIRST_PAUSE
        self._holder: Any = None

    def look(
        self, request: Callable[[], Request], clock: Callable[[], float], later: Later
    ) -> None:
        """Ask for lease and entry, now and until it is over."""

        def held(reply: Any) -> None:
            self._holder = reply

        def looked_up(reply: Any) -> None:
            payload = self.find(reply)
            # The lease was asked for first: who gave it back before had stored the entry by then.
            if payload is not None or self._holder != self._epochs or clock() >= self._deadline:
                self.over(payload)
                return
            pause = self._pause
            self._pause = min(2 * pause, _LONGEST_PAUSE)
            later(pause, again)

        def again() -> None:
            send = request()
            send(pack(b"GET", self.lease), held)
            send(self.scope.lookup(self.digest), looked_up)

        again()


def take(lease: bytes, epochs: bytes, patience: float) -> bytes:
    """The command that takes the lease; its reply is None where another has it."""
    return pack(b"SET", lease, epochs, b"NX", b"PX", b"%d" % max(1, round(patience * 1000)))


def give_back(lease: bytes) -> bytes:
    """The command that ends it."""
    return pack(b"DEL", lease)
