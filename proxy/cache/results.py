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

from collections.abc import Callable, Iterable
from functools import partial
from struct import error as StructError
from typing import Any, NamedTuple
from zlib import crc32

import hiredis

from proxy.cache.cascades import Cascades, Effects
from proxy.cache.codec import Codec
from proxy.cache.commands import pack
from proxy.cache.endpoint import Endpoint
from proxy.cache.entry import CHECK_SIZE, HEADER_SIZE, SOUND, TOKEN_SIZE
from proxy.cache.errors import LinkLost
from proxy.cache.flights import NO_FLIGHT, Flight, Flights
from proxy.cache.keys import KeySpace, statistics_key, to_bytes
from proxy.cache.leases import Awaited, give_back, take
from proxy.cache.link import LinkState, Request
from proxy.cache.members import Later, Members
from proxy.cache.moves import EpochMover, Link
from proxy.cache.schema import SchemaEpoch
from proxy.cache.scope import Scope
from proxy.cache.statistics import (
    ABSENT,
    APART,
    AWAY,
    BY_DELAY,
    BY_WRITE,
    EXPIRED,
    OTHER_SCHEMA,
    REFUSED,
    RENEWED,
    RESTING,
    UNKNOWN_EPOCH,
    Statistics,
)
from proxy.cache.tier import Right, Tier, View

_MAX_SCOPES = 20_000


class Clocks(NamedTuple):
    """What the cache takes the time from, and an alarm."""

    monotonic: Callable[[], float]
    """time.monotonic"""
    lease: Callable[[], float]
    """`members.lease_clock`"""
    later: Later
    """The event loop's call_later."""


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


_AWAY = Lookup(None, None, AWAY, 0.0)
_REFUSED = Lookup(None, None, REFUSED, 0.0)
_APART = Lookup(None, None, APART, 0.0)
_RESTING = Lookup(None, None, RESTING, 0.0)
_ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
"""How a node of a cluster says that it is not, or not now, the one to ask."""
_OTHER_SCHEMA = Lookup(None, None, OTHER_SCHEMA, 0.0)


class ResultCache:
    """See the module's docstring. All methods are synchronous, none raises for a Redis that fails;
    each callback is called exactly once, at once or later from the event loop.

    `databases`: those known at the start; others are enrolled when first named. `clocks`: as
    `Clocks()` says. `memory`: bytes for the tier in this process, 0 for none. `patience`: seconds
    for which a read waits for the same read under way, 0: not at all. `reunion`: see `Members`.
    `codec`: makes entries of payloads. `cautious`: see `Members`."""

    def __init__(
        self,
        link: Link,
        prefix: str,
        databases: Iterable[str],
        clocks: Clocks,
        memory: int = 0,
        patience: float = 0.0,
        reunion: float = 2.0,
        codec: Codec | None = None,
        *,
        cautious: bool = False,
    ) -> None:
        self.statistics = Statistics()
        self.tier = Tier(memory, self.statistics)
        self._link = link
        self._prefix = prefix
        self._codec = codec or Codec()
        self._clock = clocks.monotonic
        self._lease_clock = clocks.lease
        self._later = clocks.later
        self._patience = patience
        members = Members(
            prefix,
            self.tier,
            link.break_off,
            self._schema_moved,
            clocks.lease,
            clocks.later,
            self.statistics,
            reunion,
            cautious=cautious,
        )
        self._members = members
        self._mover = EpochMover(
            link, members, prefix, databases, clocks.monotonic, clocks.later, self.statistics
        )
        self._flights = Flights(patience, clocks.later)
        self._scopes: dict[tuple[str, str, tuple[str, ...], str], Scope] = {}
        self._published: dict[str, int] = {}
        self._cascades: dict[str, Cascades] = {}
        self._delayed: dict[tuple[str, float, frozenset[str]], bool] = {}
        """Invalidations to come, and whether there was reason for another meanwhile."""

    def _schema_moved(self, database: str) -> None:
        self._mover.look_at_schema(database)

    # Lookups and fills

    def lookup(
        self,
        database: str,
        label: str,
        digest: bytes,
        reads: tuple[str, ...],
        done: Callable[[Lookup], None],
        rule: str = "",
        stale: float = 0.0,
    ) -> None:
        """Ask for the result `digest` of a statement that reads the tables `reads`.

        `rule` names the cache rule, for the statistics. `stale`: seconds at the end of an entry's
        life in which one caller gets the right to fill, the others the entry."""
        scope = self._scope(database, label, reads, rule, done)
        if scope is None:
            return
        link = self._link
        scope.stale = stale
        if not self.tier.limit and not stale:
            link.request(scope.lookup(digest), partial(self._looked_up, scope, digest, done, None))
            return
        # Its life first: should another entry take its place in between, this errs to the short.
        view = self.tier.view(database, scope.reads)
        rights: list[Right] = []
        link.request(
            scope.life(digest), partial(self._note_life, rights, view, view.version, stale)
        )
        link.request(scope.lookup(digest), partial(self._looked_up, scope, digest, done, rights))

    def renew(
        self,
        database: str,
        label: str,
        digest: bytes,
        reads: tuple[str, ...],
        done: Callable[[Lookup], None],
        rule: str = "",
    ) -> None:
        """Forget the result `digest` here, in Redis and in all other processes, then give the right
        to store another, which a replica may serve only if it has replayed all up to this moment.

        What was read before, by anybody, and is stored after that is replaced by the new result or
        gone with its epochs or its TTL, as ever."""
        scope = self._scope(database, label, reads, rule, done)
        if scope is None:
            return
        asked_at, request = self._clock(), self._link.request
        again = False

        def looked_up(reply: Any) -> None:
            nonlocal again
            if type(reply) is not list:
                done(self._failed_lookup(reply))
                return
            reply.pop()
            if None in reply and not again:
                again = True
                self._create_epochs(scope, reply)
                request(scope.lookup(digest), looked_up)
                return
            epochs = b"" if None in reply else b"".join(reply)
            if len(epochs) != scope.width:
                done(Lookup(None, None, UNKNOWN_EPOCH, 0.0))
                return
            if not self._knows_schema(scope, epochs):
                done(_OTHER_SCHEMA)
                return
            self.statistics.renewals += 1
            self._mover.learn(scope.epoch_keys, epochs)
            ticket = Ticket(scope, digest, epochs, NO_FLIGHT)
            done(Lookup(None, ticket, RENEWED, asked_at))

        def told(failure: Exception | None) -> None:
            if failure is not None:
                done(self._failed_lookup(failure))

        request(scope.forget(digest), self._count_error)
        self._members.tell(
            request,
            database,
            scope.reads,
            told,
            lambda: request(scope.lookup(digest), looked_up),
        )

    def _scope(
        self,
        database: str,
        label: str,
        reads: tuple[str, ...],
        rule: str,
        done: Callable[[Lookup], None],
    ) -> Scope | None:
        """The scope of a look-up; None where the cache can't be asked, which `done` was told."""
        if self._link.state is not LinkState.UP:
            self.statistics.bypasses[AWAY] += 1
            done(_AWAY)
            return None
        if self._members.apart:
            self.statistics.bypasses[APART] += 1
            done(_APART)
            return None
        if self._link.resting:
            self.statistics.bypasses[RESTING] += 1
            done(_RESTING)
            return None
        scope = self._scopes.get((database, label, reads, rule))
        if scope is None:
            try:
                scope = self._add_scope(database, label, reads, rule)
            except StructError:
                self.statistics.bypasses[REFUSED] += 1
                done(_REFUSED._replace(reason="reads too many tables"))
        return scope

    def _note_life(
        self, rights: list[Right], view: View, version: int, stale: float, reply: Any
    ) -> None:
        if isinstance(reply, int) and reply > 0:
            rights.append(Right(view, version, self._lease_clock() + reply / 1000 - stale))

    def _looked_up(
        self,
        scope: Scope,
        digest: bytes,
        done: Callable[[Lookup], None],
        rights: list[Right] | None,
        reply: Any,
        again: bool = False,
    ) -> None:
        if type(reply) is not list:
            done(self._failed_lookup(reply))
            return
        entry: bytes | None = reply.pop()
        try:
            epochs = b"".join(reply)
        except TypeError:  # a missing epoch is None
            self._create_epochs(scope, reply)
            if again:
                done(self._miss(scope, UNKNOWN_EPOCH))
            else:  # many may ask for the same at once: each needs a ticket, to wait for one of them
                self._link.request(
                    scope.lookup(digest),
                    partial(self._looked_up, scope, digest, done, None, again=True),
                )
            return
        if len(epochs) != scope.width:  # somebody else wrote there
            done(self._miss(scope, UNKNOWN_EPOCH))
        elif entry is None:
            self._miss_with_ticket(scope, ABSENT, digest, epochs, done)
        elif entry.startswith(scope.head + epochs) and crc32(entry, crc32(digest)) == SOUND:
            # As `Codec.decode` would find, with a call and an object less for each hit.
            payload = entry[HEADER_SIZE + scope.width : -CHECK_SIZE]
            self._hit(scope, digest, epochs, payload, done, rights)
        else:
            found = self._codec.decode(digest, entry, epochs)
            if found.payload is None:
                self._miss_with_ticket(scope, found.reason, digest, epochs, done)
            else:
                self._hit(scope, digest, epochs, found.payload, done, rights)

    def _hit(
        self,
        scope: Scope,
        digest: bytes,
        epochs: bytes,
        payload: bytes,
        done: Callable[[Lookup], None],
        rights: list[Right] | None,
    ) -> None:
        if scope.stale and rights and rights[0].expires <= self._lease_clock():
            self._outlived(scope, digest, epochs, payload, done)
            return
        statistics = self.statistics
        statistics.hits += 1
        statistics.bytes_served += len(payload)
        scope.counters.hits += 1
        done(Lookup(payload, None, "hit", 0.0, rights[0] if rights else None))

    def _outlived(
        self,
        scope: Scope,
        digest: bytes,
        epochs: bytes,
        payload: bytes,
        done: Callable[[Lookup], None],
    ) -> None:
        """A valid entry past its time: one reads anew, and meanwhile it is good for the others, of
        whichever process."""
        flight = None
        if self._knows_schema(scope, epochs):
            flight = self._flights.lead(scope, digest, epochs)
        if flight is None:
            self._serve_outlived(scope, payload, done)
            return
        fresh_after = self._mover.learn(scope.epoch_keys, epochs)
        ticket = Ticket(scope, digest, epochs, flight)
        self._lease(
            Lookup(None, ticket, EXPIRED, fresh_after),
            partial(self._read_anew, scope, done),
            partial(self._read_elsewhere, ticket, payload, done),
        )

    def _read_anew(self, scope: Scope, done: Callable[[Lookup], None], expired: Lookup) -> None:
        self._miss(scope, EXPIRED)
        done(expired)

    def _read_elsewhere(
        self, ticket: Ticket, payload: bytes, done: Callable[[Lookup], None]
    ) -> None:
        """Another process reads what is outlived."""
        self._flights.land(ticket.flight, None)
        self._serve_outlived(ticket.scope, payload, done)

    def _serve_outlived(self, scope: Scope, payload: bytes, done: Callable[[Lookup], None]) -> None:
        statistics = self.statistics
        statistics.hits += 1
        statistics.stale_hits += 1
        statistics.bytes_served += len(payload)
        scope.counters.hits += 1
        done(Lookup(payload, None, "hit", 0.0))

    def _failed_lookup(self, reply: Any) -> Lookup:
        if isinstance(reply, LinkLost):
            self.statistics.bypasses[AWAY] += 1
            return _AWAY
        self.statistics.errors += 1
        self.statistics.bypasses[REFUSED] += 1
        if str(reply).startswith(_ELSEWHERE):
            self._link.break_off(f"Redis refused a lookup: {reply}")
        return _REFUSED

    def _miss(self, scope: Scope, reason: str) -> Lookup:
        self.statistics.misses[reason] += 1
        scope.counters.misses += 1
        return Lookup(None, None, reason, 0.0)

    def _miss_with_ticket(
        self,
        scope: Scope,
        reason: str,
        digest: bytes,
        epochs: bytes,
        done: Callable[[Lookup], None],
    ) -> None:
        if not self._knows_schema(scope, epochs):
            done(_OTHER_SCHEMA)
            return
        self._miss(scope, reason)
        fresh_after = self._mover.learn(scope.epoch_keys, epochs)
        # No closures on the way of each miss: those that hold one another stay until the collector
        # comes, which then stops everybody for tens of milliseconds.
        alone = Lookup(None, Ticket(scope, digest, epochs, NO_FLIGHT), reason, fresh_after)
        flight = self._flights.join(scope, digest, epochs, partial(self._landed, alone, done))
        if flight is None:
            return
        if flight is NO_FLIGHT:
            done(alone)
            return
        miss = Lookup(None, Ticket(scope, digest, epochs, flight), reason, fresh_after)
        self._lease(miss, done, partial(self._follow, miss, done))

    def _lease(
        self, miss: Lookup, done: Callable[[Lookup], None], elsewhere: Callable[[], None]
    ) -> None:
        """Give the right to fill to one of all processes; in the others `elsewhere` is called."""
        ticket = miss.ticket
        assert ticket is not None
        if not self._patience or not self._members.company:
            done(miss)
            return
        lease = ticket.scope.lease(ticket.digest)
        leased = partial(self._leased, miss, lease, done, elsewhere)
        self._link.request(take(lease, ticket.epochs, self._patience), leased)

    def _landed(self, alone: Lookup, done: Callable[[Lookup], None], payload: bytes | None) -> None:
        """The read that was followed is over; without a result each reads alone."""
        if payload is None:
            done(alone)
        else:
            self.statistics.coalesced += 1
            done(Lookup(payload, None, "coalesced", 0.0))

    def _leased(
        self,
        miss: Lookup,
        lease: bytes,
        done: Callable[[Lookup], None],
        elsewhere: Callable[[], None],
        reply: Any,
    ) -> None:
        """Redis has said whether the lease was to be had."""
        if reply is None:
            elsewhere()
        elif isinstance(reply, Exception) or miss.ticket is None:
            done(miss)
        else:
            done(miss._replace(ticket=miss.ticket._replace(lease=lease)))

    def _follow(self, miss: Lookup, done: Callable[[Lookup], None]) -> None:
        """Another process runs the read: wait for its entry."""
        ticket = miss.ticket
        assert ticket is not None
        scope, digest = ticket.scope, ticket.digest
        lease, over = scope.lease(digest), partial(self._awaited, miss, done)
        self._await(scope, digest, ticket.epochs, lease, over)

    def _awaited(self, miss: Lookup, done: Callable[[Lookup], None], payload: bytes | None) -> None:
        """The other process has stored its result, or won't."""
        ticket = miss.ticket
        assert ticket is not None
        if payload is None:
            done(miss)
            return
        self.statistics.coalesced += 1
        done(Lookup(payload, None, "coalesced", 0.0))
        self._flights.land(ticket.flight, payload)

    def _await(
        self,
        scope: Scope,
        digest: bytes,
        epochs: bytes,
        lease: bytes,
        over: Callable[[bytes | None], None],
    ) -> None:
        def find(reply: Any) -> bytes | None:
            if type(reply) is not list:
                return None
            entry: bytes | None = reply.pop()
            if None in reply or entry is None or len(b"".join(reply)) != scope.width:
                return None
            return self._codec.decode(digest, entry, b"".join(reply)).payload

        deadline = self._lease_clock() + self._patience
        awaited = Awaited(scope, digest, epochs, lease, deadline, find, over)
        awaited.look(lambda: self._link.request, self._lease_clock, self._later)

    def _knows_schema(self, scope: Scope, epochs: bytes) -> bool:
        """Whether a ticket may be given: what fills by it has to know the schema of its epochs."""
        if scope.schema.see(epochs[:TOKEN_SIZE]):
            return True
        self.statistics.bypasses[OTHER_SCHEMA] += 1
        return False

    def _create_epochs(self, scope: Scope, current: list[bytes | None]) -> None:
        """Make the missing ones, for the next lookup. SET NX: all processes must agree on one."""
        for key, token in zip(scope.epoch_keys, current, strict=True):
            if token is None:
                self._link.request(
                    pack(b"SET", key, self._mover.new_token(), b"NX"), self._count_error
                )

    def fill(
        self,
        ticket: Ticket,
        payload: bytes,
        ttl_seconds: float,
        kept: Callable[[Right], None] | None = None,
        stale: float = 0.0,
    ) -> None:
        """Store the result that was read after `ticket` was given, for at most `ttl_seconds`, and
        for `stale` seconds more in which one reads anew.

        It is stored only if none of its epochs has moved since. Then `kept` is called with the
        right to keep it in memory too. Who waits for this read gets it at once."""
        self._flights.land(ticket.flight, payload)
        link = self._link
        if link.state is not LinkState.UP or link.congested:
            self.statistics.dropped_fills += 1
            self._give_back(ticket)
            return
        entry = self._codec.encode(ticket.digest, ticket.epochs, payload)
        milliseconds = max(1, round((ttl_seconds + stale) * 1000))
        view = self.tier.view(ticket.scope.database, ticket.scope.reads)
        right = Right(view, view.version, self._lease_clock() + ttl_seconds)

        stored = partial(self._stored, ticket.scope, len(payload), kept, right)
        link.request(
            ticket.scope.store(ticket.digest, entry, milliseconds, whole=False),
            partial(self._stored_first, ticket, entry, milliseconds, stored),
        )
        self._give_back(ticket)

    def _give_back(self, ticket: Ticket) -> None:
        if ticket.lease:
            self._link.request(give_back(ticket.lease), self._count_error)

    def share(self, ticket: Ticket, payload: bytes) -> None:
        """Give the result to who waits for it, and keep nothing."""
        self._flights.land(ticket.flight, payload)
        self._give_back(ticket)

    def forgo(self, ticket: Ticket) -> None:
        """Nothing will come of the read, or not soon: who waits for it reads by himself."""
        self._flights.land(ticket.flight, None)
        self._give_back(ticket)

    def retain(
        self,
        key: bytes,
        reply: bytes,
        payload_from: int,
        terms: object,
        rule: str,
        right: Right,
    ) -> None:
        """Keep the answer in memory, by the right that a hit or a fill gave."""
        self.tier.keep(key, reply, payload_from, terms, self.statistics.rules[rule], right)

    def _stored_first(
        self,
        ticket: Ticket,
        entry: tuple[bytes, ...],
        milliseconds: int,
        stored: Callable[[Any], None],
        reply: Any,
    ) -> None:
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            whole = ticket.scope.store(ticket.digest, entry, milliseconds, whole=True)
            self._link.request(whole, stored)
        else:
            stored(reply)

    def _stored(
        self,
        scope: Scope,
        size: int,
        kept: Callable[[Right], None] | None,
        right: Right,
        reply: Any,
    ) -> None:
        self._filled(scope, size, reply)
        if reply == 1 and kept is not None:
            kept(right)

    def _filled(self, scope: Scope, size: int, reply: Any) -> None:
        if reply == 1:
            self.statistics.fills += 1
            self.statistics.bytes_stored += size
            scope.counters.fills += 1
        elif reply == 0:
            self.statistics.refused_fills += 1
        else:
            self.statistics.dropped_fills += 1
            self._count_error(reply)

    def _count_error(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self.statistics.errors += 1

    def _add_scope(self, database: str, label: str, reads: tuple[str, ...], rule: str) -> Scope:
        if len(self._scopes) >= _MAX_SCOPES:
            self._scopes.clear()
            self._mover.forget()
        self._mover.enrol(database)
        scope = Scope(
            KeySpace(self._prefix, database),
            label,
            reads,
            self.statistics.rules[rule],
            self._codec.plain_header,
            self._mover.schema(database),
        )
        self._scopes[database, label, reads, rule] = scope
        return scope

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
