"""Results by epochs: lookups, conditional fills and invalidation over one link to Redis.

Every table has an epoch, a token in Redis that a write replaces by one that was never used before:
before the write is sent and again after it has ended. The whole database has one too, "*".

Why no hit is older than a write whose second move was acknowledged before the lookup:

1. A lookup reads the entry and all its epochs in one command, and serves the entry only if the
   epochs stored in it equal those. So every epoch in a hit was current when the lookup ran.
2. The epochs stored in an entry were read before the statement was sent. Tokens never come back, so
   each of them was current without a break from that reading to the hit.
3. If the second move had come between the reading and the lookup, the token would differ. If it
   came before the reading, the write had ended before the statement was sent, which therefore saw
   it. (On a replica only if that had replayed it: `Lookup.fresh_after`.)
4. A move that could not be made is owed: from the moment the link broke this process serves and
   fills nothing until, on a new connection, the "*" of the database was moved. It is moved too at
   the start of the process and whenever the server is another incarnation: data that a server read
   back from disk may hold old epochs together with their entries.
5. Which tables a result depends on is told by the catalogue, which may be outdated: the schema has
   an epoch too, one of those in every entry (see `schema`).

The store is conditional as well. Correctness needs only the lookup's comparison; the condition
keeps a late fill from taking the place of a newer entry.

What it does not cover: a process that can't reach Redis while others can. It tells them when it is
back; until then they may serve entries that its writes have made old, no longer than an entry
lives. (Where Redis was lost to all, those who are back first wait for the others: see `members`.)
To keep that from happening in a mere hiccup, a move that meets a broken link is held until
the first attempt to connect again has settled or failed.
"""

from collections.abc import Callable
from typing import Any

from proxy.cache.cascades import Cascades, Effects
from proxy.cache.commands import pack
from proxy.cache.endpoint import Endpoint
from proxy.cache.fills import Fills
from proxy.cache.keys import KeySpace, statistics_key, to_bytes
from proxy.cache.link import LinkState, Request
from proxy.cache.schema import SchemaEpoch
from proxy.cache.statistics import (
    BY_DELAY,
    BY_WRITE,
)


class ResultCache(Fills):
    """See the module's docstring. All methods are synchronous, none raises for a Redis that fails;
    each callback is called exactly once, at once or later from the event loop. The arguments are
    those of `Lookups`."""

    # Invalidation

    def move(
        self,
        database: str,
        names: frozenset[str],
        done: Callable[[], None],
        source: str = BY_WRITE,
        planned: bytes | None = None,
    ) -> None:
        """After a write: invalidate all that was read from the tables `names`; "*" is the whole
        database. `done` is called when nothing from before is served any more by any process.

        `planned`: the token of the schema by which `names` were found; where it is no longer the
        current one, "*" moves as well. None: they are right by whichever.

        If Redis can't be reached it is called when nobody can trust his memory any more, and this
        process uses the cache again only after it has moved "*" there."""
        if self._cascades:
            names = self._cascaded(database, names, ended=True)
        self._mover.move(database, names, done, source, planned)

    def try_move(
        self,
        database: str,
        names: frozenset[str],
        source: str,
        finished: Callable[[Exception | None], None],
    ) -> None:
        """As `move`, for a caller that will come again: `finished` gets None or what prevented it,
        and nothing is owed. `source`: see `statistics.SOURCES`."""
        if self._cascades:
            names = self._cascaded(database, names, ended=True)
        self._mover.try_move(database, names, source, finished)

    def request(self, command: bytes, done: Callable[[Any], None]) -> None:
        """Send a packed command of the change feed's; `done` gets its reply or a LinkLost."""
        self._link.request(command, done)

    def schema(self, database: str) -> SchemaEpoch:
        """What this process knows of the epoch of the database's schema."""
        return self._mover.schema(database)

    def keys(self, database: str) -> KeySpace:
        """The keys of this database."""
        return KeySpace(self._prefix, database)

    def announce(self, database: str, names: frozenset[str], done: Callable[[], None]) -> None:
        """Before a write: the same, but `done` is called when Redis has acknowledged it."""
        if self._cascades:
            names = self._cascaded(database, names, ended=False)
        self._mover.announce(database, names, done)

    def cascade(self, database: str, cascades: Cascades | None) -> None:
        """What writes of this database invalidate besides their tables, from now on."""
        if cascades is None:
            self._cascades.pop(database, None)
        else:
            self._cascades[database] = cascades
            if self._link.state is LinkState.UP:
                self._list_patterns(self._link.request)

    def _list_patterns(self, request: Request) -> None:
        """Say which patterns have epochs on which keys of applications must depend."""
        for database, cascades in self._cascades.items():
            if cascades.patterns:
                where = KeySpace(self._prefix, database).patterns
                request(pack(b"SADD", where, *map(to_bytes, cascades.patterns)), self._count_error)

    def cascaded(self, database: str, names: frozenset[str]) -> Effects | None:
        """What a write to these tables invalidates by rules; None where there are none."""
        cascades = self._cascades.get(database)
        return None if cascades is None or not names else cascades.of(names)

    def _cascaded(self, database: str, names: frozenset[str], *, ended: bool) -> frozenset[str]:
        effects = self.cascaded(database, names)
        if effects is None:
            return names
        if ended:
            for delay, later in effects.later:
                self._move_later((database, delay, later))
        return effects.names

    def _move_later(self, what: tuple[str, float, frozenset[str]]) -> None:
        """Invalidate once more after the delay; twice, if this is asked for again until then."""
        if what in self._delayed:
            self._delayed[what] = True
            return
        self._delayed[what] = False
        database, delay, names = what

        def due() -> None:
            again = self._delayed.pop(what)
            self._mover.move(database, names, _nothing, BY_DELAY)
            if again:
                self._move_later(what)

        self._later(delay, due)

    @property
    def identity(self) -> bytes:
        """This process's name in the list of those who keep answers in memory."""
        return self._members.identity

    @property
    def usable(self) -> bool:
        """Redis answers, nothing is owed to it, and it is asked."""
        link = self._link
        return link.state is LinkState.UP and not link.resting and not self._members.apart

    @property
    def place(self) -> Endpoint | None:
        """The server that is in use now."""
        return self._link.where if self._link.state is LinkState.UP else None

    @property
    def has_company(self) -> bool:
        """Whether other processes share this Redis, as far as is known."""
        return self._members.company

    @property
    def apart(self) -> bool:
        """Redis is not asked: other processes may owe it something yet."""
        return self._members.apart

    @property
    def channels(self) -> tuple[bytes, ...]:
        """The link's listener: what to listen to."""
        return self._members.channels

    def heard(self, channel: bytes, message: bytes) -> None:
        """The link's listener: a message on one of the channels."""
        self._members.heard(channel, message)

    def lost(self) -> None:
        """The link's listener: a connection broke."""
        self._members.lost()

    def settle(
        self,
        incarnation: str | None,
        request: Request,
        request_in_order: Request,
        ready: Callable[[], None],
    ) -> None:
        """The link's listener: pay what is owed."""
        self._list_patterns(request)
        self._mover.settle(incarnation, request, request_in_order, ready)

    def away(self) -> None:
        """The link's listener: it can't be restored for now."""
        self._mover.away()

    def start(self) -> None:
        """Renew the trust in what is in memory from now on."""
        self._members.start()

    def leave(self) -> None:
        """The end is near: keep nothing in memory any more, so that nobody waits for this process.
        Whoever waits for others is told that it is done with."""
        self._members.leave()
        self._members.release()

    # Statistics

    def publish(self) -> None:
        """Add what was counted since the last call to the hash that all processes share."""
        if self._link.state is not LinkState.UP:
            return
        self._list_patterns(self._link.request)  # again and again: Redis may have lost them
        key = statistics_key(self._prefix)
        for name, number in self.statistics.flat():
            change = number - self._published.get(name, 0)
            if change:
                self._published[name] = number
                self._link.request(
                    pack(b"HINCRBY", key, name.encode(), b"%d" % change), self._count_error
                )


def _nothing() -> None:
    pass
