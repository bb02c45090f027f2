"""Moving epochs: invalidation that can be late, but is never forgotten.

A move that Redis has not acknowledged is owed. While anything is owed the link is not up, so this
process neither serves nor fills; `settle` pays before the link is used again, always with the epoch
of the whole database.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import hiredis
import structlog

from proxy.cache.commands import argument, pack, pack_head
from proxy.cache.entry import TOKEN_SIZE, token_source
from proxy.cache.errors import LinkLost
from proxy.cache.keys import EVERYTHING, KeySpace
from proxy.cache.link import LinkState, Request
from proxy.cache.statistics import BY_RECONNECT, BY_WRITE, Statistics

log = structlog.get_logger(__name__)


class Link(Protocol):
    """What the cache needs of its `RedisLink`."""

    state: LinkState
    request: Request

    @property
    def congested(self) -> bool: ...

    def break_off(self, reason: str) -> None: ...


class EpochMover:
    """See the module's docstring. `databases`: those known at the start; others are enrolled when
    first named. `clock`: time.monotonic."""

    def __init__(
        self,
        link: Link,
        prefix: str,
        databases: Iterable[str],
        clock: Callable[[], float],
        statistics: Statistics,
    ) -> None:
        self.new_token = token_source()
        self._link = link
        self._prefix = prefix
        self._clock = clock
        self._statistics = statistics
        self._known = set(databases)
        self._owed = set(self._known)
        self._held: list[Callable[[], None]] = []
        self._incarnation: str | None = None
        self._seen: dict[bytes, tuple[bytes, float]] = {}

    def move(
        self,
        database: str,
        names: frozenset[str],
        done: Callable[[], None],
        source: str = BY_WRITE,
    ) -> None:
        """Invalidate all that was read from the tables `names`; "*" is the whole database.

        `done` is called when Redis has acknowledged it. If Redis can't be reached it is called all
        the same, and this process uses the cache again only after it has moved "*" there."""
        self.enrol(database)
        if not names:
            done()
        elif self._link.state is LinkState.UP:
            wanted = frozenset((EVERYTHING,)) if EVERYTHING in names else names
            keys = [KeySpace(self._prefix, database).epoch(name) for name in wanted]
            moved = partial(self._moved, database, done)
            self._send_move(self._link.request, keys, source, moved)
        else:
            self._owe(database, done)

    def try_move(
        self,
        database: str,
        names: frozenset[str],
        source: str,
        finished: Callable[[Exception | None], None],
    ) -> None:
        """As `move`, for a caller that will come again: `finished` gets None or what prevented it,
        and nothing is owed."""
        if self._link.state is not LinkState.UP:
            finished(LinkLost("Redis is away"))
            return
        wanted = frozenset((EVERYTHING,)) if EVERYTHING in names else names
        keys = [KeySpace(self._prefix, database).epoch(name) for name in wanted]
        self._send_move(self._link.request, keys, source, finished)

    def _moved(self, database: str, done: Callable[[], None], failure: Exception | None) -> None:
        if failure is None:
            done()
            return
        if not isinstance(failure, LinkLost):
            # A server that can't invalidate must not serve: the settling keeps the link down.
            self._link.break_off(f"Redis refused an invalidation: {failure}")
        self._owe(database, done)

    def _owe(self, database: str, done: Callable[[], None]) -> None:
        self._statistics.owed_moves += 1
        self._owed.add(database)
        if self._link.state is LinkState.CONNECTING:
            self._held.append(done)
        else:
            done()

    def _send_move(
        self,
        request: Request,
        keys: list[bytes],
        source: str,
        finished: Callable[[Exception | None], None],
    ) -> None:
        """Give each key a new token; `finished` gets None or what prevented it."""
        token = self.new_token()
        command = pack_head(b"MSET", total=1 + 2 * len(keys)) + b"".join(
            argument(key) + argument(token) for key in keys
        )

        def moved(reply: Any) -> None:
            if isinstance(reply, hiredis.ReplyError):
                # A full Redis refuses to write but deletes: a missing epoch invalidates as well.
                self._statistics.errors += 1
                request(pack(b"DEL", *keys), deleted)
            elif isinstance(reply, LinkLost):
                finished(reply)
            else:
                now = self._clock()
                self._seen.update((key, (token, now)) for key in keys)
                succeeded()

        def deleted(reply: Any) -> None:
            if isinstance(reply, Exception):
                finished(reply)
            else:
                succeeded()

        def succeeded() -> None:
            self._statistics.moves += 1
            self._statistics.moves_by[source] += 1
            finished(None)

        request(command, moved)

    def enrol(self, database: str) -> None:
        """A database named for the first time: what was stored by an earlier process is not
        trusted.

        Commands are answered in order, so a lookup sent after this move already sees it."""
        if database not in self._known:
            self._known.add(database)
            self.move(database, frozenset((EVERYTHING,)), _nothing, BY_RECONNECT)

    def settle(self, incarnation: str | None, request: Request, ready: Callable[[], None]) -> None:
        """Move the "*" of every database that is owed it, then let the link be used."""
        if incarnation is None or incarnation != self._incarnation:
            self._owed |= self._known
        self._incarnation = incarnation
        self._settle_next(request, ready)

    def _settle_next(self, request: Request, ready: Callable[[], None]) -> None:
        if not self._owed:
            ready()
            self._release()
            return
        database = self._owed.pop()

        def settled(failure: Exception | None) -> None:
            if failure is None:
                self._settle_next(request, ready)
                return
            self._owed.add(database)
            if not isinstance(failure, LinkLost):
                self._link.break_off(f"Redis refused an invalidation: {failure}")

        everything = [KeySpace(self._prefix, database).epoch(EVERYTHING)]
        self._send_move(request, everything, BY_RECONNECT, settled)

    def away(self) -> None:
        """The link can't be restored for now: nobody waits for that."""
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for done in held:
            try:
                done()
            except Exception:
                # One caller's mistake must not keep the others waiting.
                log.exception("a cache callback failed")

    def learn(self, keys: list[bytes], epochs: bytes) -> float:
        """Note the epochs and return when the youngest of them was first seen here.

        That is later than the end of the write that moved it, as far as any move told of an end."""
        latest = 0.0
        start = 0
        for key in keys:
            token = epochs[start : start + TOKEN_SIZE]
            start += TOKEN_SIZE
            seen = self._seen.get(key)
            if seen is None or seen[0] != token:
                seen = self._seen[key] = (token, self._clock())
            latest = max(latest, seen[1])
        return latest

    def forget(self) -> None:
        """Drop what `learn` has noted: everything is then seen for the first time again."""
        self._seen.clear()


def _nothing() -> None:
    pass
