"""Moving epochs: invalidation that can be late, but is never forgotten.

A move that Redis has not acknowledged is owed. While anything is owed the link is not up, so this
process neither serves nor fills; `settle` pays before the link is used again, always with the epoch
of the whole database.

The move after a write is done when no process answers from before it: see `members`. While Redis is
away nobody can be asked, so it is done when the others' trust must have ended too. The move before
a write (`announce`) waits for Redis alone: nobody is told of anything yet, and what is answered
from before it meanwhile is answered before the write's end. Its use is that the write is known of,
should this process die.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import hiredis
import structlog

from proxy.cache.commands import argument, pack, pack_head
from proxy.cache.endpoint import Endpoint
from proxy.cache.entry import TOKEN_SIZE, token_source
from proxy.cache.errors import LinkLost
from proxy.cache.keys import EVERYTHING, SCHEMA, KeySpace, moved_with
from proxy.cache.link import LinkState, Request
from proxy.cache.members import Later, Members
from proxy.cache.schema import SchemaEpoch
from proxy.cache.statistics import BY_RECONNECT, BY_WRITE, Statistics

log = structlog.get_logger(__name__)

_EVERYTHING: Final = frozenset((EVERYTHING, SCHEMA))


class Link(Protocol):
    """What the cache needs of its `RedisLink`."""

    state: LinkState
    request: Request
    resting: bool
    """Reads had better not ask now."""

    where: Endpoint | None
    """The server that is used, or was last."""

    @property
    def congested(self) -> bool: ...

    def break_off(self, reason: str) -> None: ...


class EpochMover:
    """See the module's docstring. `databases`: those known at the start; others are enrolled when
    first named. `clock`: time.monotonic. `later`: the event loop's call_later."""

    def __init__(
        self,
        link: Link,
        members: Members,
        prefix: str,
        databases: Iterable[str],
        clock: Callable[[], float],
        later: Later,
        statistics: Statistics,
    ) -> None:
        self.new_token = token_source()
        self._link = link
        self._members = members
        self._prefix = prefix
        self._clock = clock
        self._later = later
        self._statistics = statistics
        self._known = set(databases)
        self._owed = set(self._known)
        self._held: list[Callable[[], None]] = []
        """Moves after writes."""
        self._announced: list[Callable[[], None]] = []
        """Moves before writes."""
        self._incarnation: str | None = None
        self._seen: dict[bytes, tuple[bytes, float]] = {}
        self._schemas: dict[str, SchemaEpoch] = {}

    def move(
        self,
        database: str,
        names: frozenset[str],
        done: Callable[[], None],
        source: str = BY_WRITE,
        planned: bytes | None = None,
    ) -> None:
        """Invalidate all that was read from the tables `names`; "*" is the whole database.

        `done` is called when nothing read before is served any more. If Redis can't be reached it
        is called when nobody else trusts what it has in memory, and this process uses the cache
        again only after it has moved "*" there. `planned`: see `ResultCache.move`."""
        if planned is None or not names or EVERYTHING in names:
            self._move(database, names, source, _nothing, done)
            return
        left = 2

        def finished() -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        def compared(token: Any) -> None:
            # Without one nothing can be stored; without a link "*" is owed.
            if token is None or token == planned or isinstance(token, LinkLost):
                finished()
                return
            if isinstance(token, bytes):
                self.schema(database).see(token)
            self._move(database, frozenset((EVERYTHING,)), source, _nothing, finished)

        self._move(database, names, source, _nothing, finished)
        self._link.request(pack(b"GET", KeySpace(self._prefix, database).epoch(SCHEMA)), compared)

    def schema(self, database: str) -> SchemaEpoch:
        """What this process knows of the epoch of the database's schema."""
        epoch = self._schemas.get(database)
        if epoch is None:
            epoch = self._schemas[database] = SchemaEpoch()
        return epoch

    def announce(
        self,
        database: str,
        names: frozenset[str],
        done: Callable[[], None],
        source: str = BY_WRITE,
    ) -> None:
        """As `move`, but `done` is called when Redis has acknowledged it, or can't be reached."""
        self._move(database, names, source, done, None)

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

        def moved(failure: Exception | None) -> None:
            if failure is not None:
                finished(failure)

        def confirmed() -> None:
            finished(None)

        wanted = names & _EVERYTHING if EVERYTHING in names else names
        self._send_move(self._link.request, database, wanted, source, moved, confirmed)

    def _move(
        self,
        database: str,
        names: frozenset[str],
        source: str,
        acknowledged: Callable[[], None],
        confirmed: Callable[[], None] | None,
    ) -> None:
        self.enrol(database)
        if not names:
            acknowledged()
            if confirmed is not None:
                confirmed()
            return
        if self._link.state is not LinkState.UP:
            self._owe(database, acknowledged, confirmed)
            return

        def moved(failure: Exception | None) -> None:
            if failure is None:
                acknowledged()
                return
            if not isinstance(failure, LinkLost):
                # A server that can't invalidate must not serve: the settling keeps the link down.
                self._link.break_off(f"Redis refused an invalidation: {failure}")
            self._owe(database, acknowledged, confirmed)

        wanted = names & _EVERYTHING if EVERYTHING in names else names
        self._send_move(self._link.request, database, wanted, source, moved, confirmed)

    def _owe(
        self,
        database: str,
        acknowledged: Callable[[], None],
        confirmed: Callable[[], None] | None,
    ) -> None:
        self._statistics.owed_moves += 1
        self._owed.add(database)
        if self._link.state is LinkState.CONNECTING:
            self._announced.append(acknowledged)
            if confirmed is not None:
                self._held.append(confirmed)
            return
        acknowledged()
        if confirmed is not None:
            self._held.append(confirmed)
            self._release_alone()

    def _send_move(
        self,
        request: Request,
        database: str,
        names: frozenset[str],
        source: str,
        finished: Callable[[Exception | None], None],
        confirmed: Callable[[], None] | None,
    ) -> None:
        """Give each epoch a new token; `finished` gets None or what prevented it. After None,
        `confirmed` is called when nobody serves from memory what was read before."""
        names = moved_with(names)
        space = KeySpace(self._prefix, database)
        keys = [space.epoch(name) for name in names]
        token = self.new_token()
        command = pack_head(b"MSET", total=1 + 2 * len(keys)) + b"".join(
            argument(key) + argument(token) for key in keys
        )
        refused = False
        number = 0

        def moved(reply: Any) -> None:
            nonlocal refused
            if isinstance(reply, hiredis.ReplyError):
                self._statistics.errors += 1
                refused = True
            elif not isinstance(reply, LinkLost):
                if SCHEMA in names:
                    self.schema(database).see(token)
                now = self._clock()
                self._seen.update((key, (token, now)) for key in keys)

        def deleted(reply: Any) -> None:
            nonlocal refused
            refused = isinstance(reply, Exception)
            if refused:
                self._members.withdraw(number)
                finished(reply)

        def told(failure: Exception | None) -> None:
            if failure is None:
                self._statistics.moves += 1
                self._statistics.moves_by[source] += 1
            finished(failure)

        def told_first(failure: Exception | None) -> None:
            nonlocal number
            if failure is not None or not refused:
                told(failure)
                return
            # A full Redis refuses to write but deletes: a missing epoch invalidates as well.
            self._members.withdraw(number)
            request(pack(b"DEL", *keys), deleted)
            number = self._members.tell(request, database, names, told_again, confirmed)

        def told_again(failure: Exception | None) -> None:
            if not refused:
                told(failure)

        request(command, moved)
        number = self._members.tell(request, database, names, told_first, confirmed)

    def enrol(self, database: str) -> None:
        """A database named for the first time: what was stored by an earlier process is not
        trusted.

        Commands are answered in order, so a lookup sent after this move already sees it."""
        if database not in self._known:
            self._known.add(database)
            if self._link.state is LinkState.UP:
                self._learn_schema(self._link.request, database)
            self.announce(database, frozenset((EVERYTHING,)), _nothing, BY_RECONNECT)

    def look_at_schema(self, database: str) -> None:
        """Others have changed the schema."""
        if database in self._known and self._link.state is LinkState.UP:
            self._learn_schema(self._link.request, database)

    def _learn_schema(self, request: Request, database: str) -> None:
        """See the schema's token before a lookup does, which would have to pass the cache by."""

        def shown(token: Any) -> None:
            if isinstance(token, bytes):
                self.schema(database).see(token)

        key = KeySpace(self._prefix, database).epoch(SCHEMA)
        request(pack(b"SET", key, self.new_token(), b"NX"), _ignore)
        request(pack(b"GET", key), shown)

    def settle(
        self,
        incarnation: str | None,
        request: Request,
        request_in_order: Request,
        ready: Callable[[], None],
    ) -> None:
        """Move the "*" of every database that is owed it, then let the link be used."""
        if incarnation is None or incarnation != self._incarnation:
            self._owed |= self._known
        self._incarnation = incarnation
        unconfirmed = 1  # one for the settling itself

        paid: list[Callable[[], None]] = []

        def confirmed() -> None:
            nonlocal unconfirmed
            unconfirmed -= 1
            if not unconfirmed:
                _call_all(paid)

        def settle_next() -> None:
            nonlocal unconfirmed
            if not self._owed:
                for known in self._known:
                    self._learn_schema(request, known)
                self._members.arrive()
                ready()
                paid.extend(self._held)
                self._held.clear()
                _call_all(self._announced)
                confirmed()
                return
            database = self._owed.pop()
            unconfirmed += 1

            def settled(failure: Exception | None) -> None:
                if failure is None:
                    settle_next()
                    return
                self._owed.add(database)
                if not isinstance(failure, LinkLost):
                    self._link.break_off(f"Redis refused an invalidation: {failure}")

            self._send_move(
                request, database, frozenset((EVERYTHING,)), BY_RECONNECT, settled, confirmed
            )

        self._members.join(incarnation, request_in_order, settle_next)

    def away(self) -> None:
        """The link can't be restored for now: nobody waits for that."""
        _call_all(self._announced)
        self._release_alone()

    def _release_alone(self) -> None:
        """Let the moves be done as soon as nobody can trust what was read before."""
        if not self._held or self._link.state in (LinkState.UP, LinkState.CONNECTING):
            return  # then the settling does it
        wait = self._members.seconds_until_alone()
        if wait <= 0 or self._link.state is LinkState.CLOSED:
            _call_all(self._held)
        else:
            self._later(wait, self._release_alone)

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


def _call_all(waiting: list[Callable[[], None]]) -> None:
    called = list(waiting)
    waiting.clear()
    for done in called:
        try:
            done()
        except Exception:
            # One caller's mistake must not keep the others waiting.
            log.exception("a cache callback failed")


def _nothing() -> None:
    pass


def _ignore(_reply: Any) -> None:
    pass
