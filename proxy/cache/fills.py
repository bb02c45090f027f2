"""Fills: storing what was read by a ticket, and reading anew on purpose.

The second of the parts of `results.ResultCache`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import hiredis

from proxy.cache.flights import NO_FLIGHT
from proxy.cache.leases import give_back
from proxy.cache.link import LinkState
from proxy.cache.lookups import Lookups
from proxy.cache.scope import Scope
from proxy.cache.statistics import (
    RENEWED,
    UNKNOWN_EPOCH,
)
from proxy.cache.ticket import OTHER_SCHEMA_NOW, Lookup, Ticket
from proxy.cache.tier import Right


class Fills(Lookups):
    """See the module's docstring."""

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
                done(OTHER_SCHEMA_NOW)
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
