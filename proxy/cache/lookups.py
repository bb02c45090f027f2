"""Lookups: what Redis holds of a result, who may fill it, and who waits for whom.

The first of the parts of `results.ResultCache`, whose docstring tells why a hit is right.
"""

from collections.abc import Callable, Iterable
from functools import partial
from struct import error as StructError
from typing import Any, NamedTuple
from zlib import crc32

import hiredis

from proxy.cache.cascades import Cascades
from proxy.cache.codec import Codec
from proxy.cache.commands import pack
from proxy.cache.doorkeeper import Doorkeeper
from proxy.cache.entry import CHECK_SIZE, HEADER_SIZE, SOUND, TOKEN_SIZE
from proxy.cache.errors import LinkLost
from proxy.cache.flights import NO_FLIGHT, Flights
from proxy.cache.keys import KeySpace
from proxy.cache.leases import Awaited, take
from proxy.cache.link import LinkState
from proxy.cache.members import Later, Members
from proxy.cache.moves import EpochMover, Link
from proxy.cache.scope import Scope
from proxy.cache.statistics import (
    ABSENT,
    APART,
    AWAY,
    EXPIRED,
    OTHER_SCHEMA,
    REFUSED,
    RESTING,
    UNKNOWN_EPOCH,
    Statistics,
)
from proxy.cache.ticket import (
    APART_NOW,
    AWAY_NOW,
    OTHER_SCHEMA_NOW,
    REFUSED_NOW,
    RESTING_NOW,
    Lookup,
    Ticket,
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


_ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
"""How a node of a cluster says that it is not, or not now, the one to ask."""


class Lookups:
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
        self.doorkeeper = Doorkeeper()
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
            done(AWAY_NOW)
            return None
        if self._members.apart:
            self.statistics.bypasses[APART] += 1
            done(APART_NOW)
            return None
        if self._link.resting:
            self.statistics.bypasses[RESTING] += 1
            done(RESTING_NOW)
            return None
        scope = self._scopes.get((database, label, reads, rule))
        if scope is None:
            try:
                scope = self._add_scope(database, label, reads, rule)
            except StructError:
                self.statistics.bypasses[REFUSED] += 1
                done(REFUSED_NOW._replace(reason="reads too many tables"))
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
            return AWAY_NOW
        self.statistics.errors += 1
        self.statistics.bypasses[REFUSED] += 1
        if str(reply).startswith(_ELSEWHERE):
            self._link.break_off(f"Redis refused a lookup: {reply}")
        return REFUSED_NOW

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
            done(OTHER_SCHEMA_NOW)
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
