"""The server's side of a session: borrows a backend for a batch, relays its answer, settles.

Settling is what a batch leaves to do once its answer is known: epochs of what was written move a
second time before the client hears of it, changed settings are read back, statements that came or
went are noted, and the backend returns to its pool.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.pool.backend import Backend, Borrower
from proxy.pool.cancel import cancel_on_server
from proxy.pool.pool import Pool
from proxy.pool.settings_state import SettingsState, difference
from proxy.routing.decide import decide
from proxy.routing.plan import Access, Plan
from proxy.routing.route import Refused, Route
from proxy.session import caching, settings_sync, states
from proxy.session.batch import AS_PARSE, FLUSH, OVERFLOW, QUERY, Batch, is_ready, render
from proxy.session.client import Client
from proxy.session.combine import NOTHING, combine, on_primary
from proxy.session.context import DatabaseContext
from proxy.session.exchange import Exchange
from proxy.session.relay import Relay
from proxy.session.sharding import shard_of
from proxy.session.transaction import ABORTED, FAILED, IDLE, Transaction
from proxy.topology.node import Node, Role
from proxy.wire import errors, messages
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.framing import split_messages, whole_messages

if TYPE_CHECKING:
    from proxy.session.session import Session

_SETTINGS_UNKNOWN = PgError(
    errors.CONNECTION_FAILURE,
    "the connection to the server was lost before the session's settings could be read back",
    "connect again: settings that were changed last may not be in force",
)
_PARAMETER_STATUS: Final = ord("S")
PREPARED_CAPACITY: Final = 500
"""Prepared statements kept on one backend."""
_CHANGED_RESULT: Final = "RevalidateCachedQuery"
"""Where PostgreSQL's "cached plan must not change result type" comes from, in any language."""
_MOST_RETRIES: Final = 2


class Upstream(Borrower):
    """See the module's docstring."""

    def __init__(self, session: "Session", context: DatabaseContext, client: Client) -> None:
        self._session = session
        self._context = context
        self._client = client
        self._relay = Relay()
        self._batch: Batch | None = None
        self._plan: Plan = NOTHING
        self._literals: tuple[bytes | None, ...] = ()
        self._fill: caching.Fill | None = None
        self._pool: Pool | None = None
        self._pools: dict[str, Pool] = {}
        """Those used so far, by node."""
        self._exchange: tuple[Exchange, Callable[[Exchange], None]] | None = None
        self._plans: list[Plan] = []
        """Plans of what was sent since the last ReadyForQuery."""
        self._retries = 0
        self._early_sync = False
        """The client flushed where Penstock synced: this ReadyForQuery is not for the client."""
        self._abandoned = False
        self._copying = False
        """The server waits for COPY data, and its end has not been sent."""
        self._draining = False
        """The server has ended COPY, the client is in the middle of a message of it."""
        self._queued = False
        """In the pool's queue."""
        self._reading_back = False
        """The client has its answer, the session's settings are being read."""
        self._releasing = False
        """Part of an answer is held until the epochs have moved."""
        self._settling = False
        """The answer's end is held until the epochs have moved."""
        self._aside = b""
        """Part of a message that came outside any answer."""
        self._keeps_backend = context.pool_settings.mode == "session"
        self.route: Route | None = None
        self.backend: Backend | None = None
        self.unsynced = False
        """Messages were sent with no Sync behind them yet: the backend stays ours."""
        self.congested = False
        """The server doesn't read as fast as it is written to."""

    @property
    def mid_message(self) -> bool:
        """Whether the client has been sent part of a message."""
        return self._relay.mid_message

    # From batch to backend

    def run(
        self,
        batch: Batch,
        plan: Plan,
        literals: tuple[bytes | None, ...],
        fill: caching.Fill | None,
    ) -> None:
        """Get the batch answered by a server."""
        if plan is not NOTHING and batch.end in (FLUSH, OVERFLOW) and not self._syncs_early(batch):
            plan = combine([plan, NOTHING])  # what follows may write
        self._batch, self._plan, self._literals, self._fill = batch, plan, literals, fill
        self._retries = 0
        cache = self._context.cache
        if plan.writes and cache is not None:
            self._session.state = states.WAITING
            cache.move(self._context.name, plan.writes, self._dispatch_unless_closed)
        else:
            self._dispatch()

    def _dispatch_unless_closed(self) -> None:
        if self._session.state != states.CLOSED:
            self._dispatch()

    def _dispatch(self) -> None:
        """Pick a node and borrow a backend there, or go on with the one that is linked."""
        transaction = self._client.transaction
        if transaction.failed:  # its connection was lost while the cache was asked
            error, transaction.lost = transaction.lost or ABORTED, None
            self._session.refuse(error)
            return
        if self.backend is not None and not self._context.sharded:
            self._check_fill(self.backend.node)
            self._send()
            return
        context, facts, plan = self._context, self._client.facts, self._plan
        context.turn += 1
        facts.fresh_after = context.fresh_after(self._client, plan)
        if self._fill is not None and self._fill.fresh_after > facts.fresh_after:
            facts.fresh_after = self._fill.fresh_after
        try:
            shard = None if plan.shard is None else self._shard()
            route = decide(
                plan,
                facts,
                context.topology,
                context.replicas,
                context.turn,
                shard,
                context.max_lag,
            )
        except Refused as refused:
            self._session.refuse(PgError(refused.sqlstate, refused.message, refused.hint))
            return
        if self.backend is not None:
            self._send()
            return
        assert route.node is not None
        self.route = route
        pool = self._pools.get(route.node.name)
        if pool is None:
            pool = self._pools[route.node.name] = context.pool_of(route.node, self._client.user)
        self._pool = pool
        self._session.state = states.WAITING
        self._queued = True
        backend = pool.acquire(self)
        if backend is not None:
            self.backend_lent(backend)

    def _check_fill(self, node: Node) -> None:
        """A transaction on a replica may read what is older than a fill has to be."""
        fill = self._fill
        if fill is not None and node.role is Role.REPLICA and node.fresh_until < fill.fresh_after:
            self._fill = None

    def _shard(self) -> int | None:
        assert self._batch is not None
        return shard_of(self._plan, self._batch, self._literals, self._client.utf8)

    def backend_lent(self, backend: Backend) -> None:
        """The pool's answer: bring the backend into the client's state, then send."""
        self._queued = False
        self.backend = backend
        backend.owner = self
        self._client.facts.linked = backend.node
        if self._session.congested:
            self.pause_reading(True)
        wanted = self._client.settings
        if backend.settings is not wanted:
            sql = difference(backend.settings, wanted)
            if sql:
                self._ask(sql, self._settings_applied)
                return
            backend.settings = wanted
        self._linked()

    def backend_refused(self, error: PgError) -> None:
        """The pool's answer: there is no backend to be had."""
        self._queued = False
        self._pool = None
        if self._may_retry() and error.sqlstate != errors.QUERY_CANCELED:
            self._try_elsewhere("no connection to a replica")
        else:
            self._session.refuse(error)

    def _settings_applied(self, exchange: Exchange) -> None:
        assert self.backend is not None
        self._pass_statuses(exchange.statuses)
        if exchange.error is not None:
            self._unlink(discard=True)
            self._session.refuse(exchange.error)
            return
        self.backend.settings = self._client.settings
        self._linked()

    def _linked(self) -> None:
        if self._abandoned:
            self._let_go()
            return
        transaction = self._client.transaction
        if transaction.deferred is None:
            self._send()
        else:
            text, transaction.deferred = transaction.deferred, None
            self._ask(text, self._begun)

    def _begun(self, exchange: Exchange) -> None:
        if exchange.error is not None:
            self._session.refuse(exchange.error)
        else:
            self._send()

    def _ask(self, sql: bytes, done: Callable[[Exchange], None]) -> None:
        """Run a query of Penstock's own on the linked backend."""
        assert self.backend is not None
        assert self.backend.transport is not None
        self._session.state = states.WAITING
        self._exchange = (Exchange(), done)
        self.backend.unnamed = None
        self.backend.transport.write(messages.query(sql))

    def _send(self) -> None:
        backend, batch, plan = self.backend, self._batch, self._plan
        assert backend is not None
        assert batch is not None
        assert backend.transport is not None
        whole = not self.unsynced and batch.end not in (FLUSH, OVERFLOW)
        if whole and is_ready(batch, backend.prepared, backend.unnamed):
            payload, acks = batch.payload, None
        else:  # the parts of a batch share one list of acks, so that each must have its own
            payload, acks = render(batch, backend.prepared, backend.unnamed, PREPARED_CAPACITY)
        if batch.end == QUERY:
            backend.unnamed = None
        elif batch.last_unnamed is not None:
            backend.unnamed = batch.last_unnamed
        readies = 0 if batch.end in (FLUSH, OVERFLOW) else 1
        if not readies and not self.unsynced and self._syncs_early(batch):
            payload, readies = payload[:-5] + messages.SYNC, 1
            self._early_sync = True
        transaction = self._client.transaction
        if self.unsynced:
            self._relay.extend(readies, acks)
        else:
            writes = bool(plan.writes or transaction.writes) and not self._early_sync
            holds = self._context.cache is not None and writes
            room = 0 if self._fill is None else self._fill.room
            self._relay.begin(readies, acks, self._may_retry(), room, holds)
            self._plans.clear()
        self.unsynced = readies == 0
        if plan.effects:
            transaction.note(plan)
            if plan.changes_schema:
                transaction.schema_changes += 1
                self._context.catalogue.schema_change_begins()
        self._plans.append(plan)
        self._session.state = states.ACTIVE
        backend.transport.write(payload)
        if self.unsynced:
            self._session.run()

    def _syncs_early(self, batch: Batch) -> bool:
        """Parse, Describe and Close alone can be synced at once, which frees the backend."""
        return (
            batch.end == FLUSH
            and self._client.transaction.status == IDLE
            and not self.unsynced
            and not batch.shape.strip(b"PdCH")
        )

    def _may_retry(self) -> bool:
        """Whether a standby's refusal, or its loss, can be made good on another node."""
        return (
            self._client.transaction.status == IDLE
            and self.route is not None
            and self.route.on_replica
            and self._client.facts.pinned is None
            and self._retries < _MOST_RETRIES
        )

    # The answer

    def backend_data(self, data: bytes) -> None:
        """Bytes from the server, for the client or for an exchange of Penstock's own."""
        if self._exchange is not None:
            exchange, done = self._exchange
            if exchange.feed(data):
                self._exchange = None
                done(exchange)
            return
        relay = self._relay
        if relay.done:
            self._unasked(data)
            return
        try:
            passed = relay.feed(data)
        except ProtocolViolation as violation:
            self._session.fatal(PgError(errors.PROTOCOL_VIOLATION, str(violation)))
            return
        if relay.statuses:
            self._note_statuses()
        if relay.done:
            self._finished(passed)
            return
        if passed:
            self._session.write(passed)
        if relay.held and (self.unsynced or relay.copy_in):
            self._release(relay)
        if relay.copy_in:
            relay.copy_in = False
            self._begin_copy()

    def _release(self, relay: Relay) -> None:
        """The client waits for what is held, and the answer's end waits for the client."""
        cache, ready = self._context.cache, len(relay.held)
        if self._releasing or cache is None:
            return
        self._releasing = True

        def moved() -> None:
            self._releasing = False
            if relay is not self._relay or relay.done:
                return  # the end of the answer has brought it
            released, relay.held = relay.held[:ready], relay.held[ready:]
            self._session.write(released)
            if relay.held:
                self._release(relay)

        cache.move(self._context.name, frozenset(self._client.transaction.writes), moved)

    def _unasked(self, data: bytes) -> None:
        """Bytes outside any answer: notifications, notices, parameters, a server's last words."""
        if self._settling:
            self._relay.rest += data  # the end of the answer goes first
            return
        self._aside += data
        data, self._aside = whole_messages(self._aside)
        for kind, body in split_messages(data):
            if kind == _PARAMETER_STATUS:
                self._client.note_status(body)
                self._note_parameters([body])
        if data:
            self._session.write(data)

    def _note_statuses(self) -> None:
        """ParameterStatus that passed through to the client."""
        bodies, self._relay.statuses = self._relay.statuses, []
        for body in bodies:
            self._client.note_status(body)
        self._note_parameters(bodies)

    def _pass_statuses(self, bodies: list[bytes]) -> None:
        """ParameterStatus that Penstock's own exchange drew: news for the client if it differs."""
        for body in bodies:
            if self._client.note_status(body):
                self._session.write(messages.message(b"S", body))
        self._note_parameters(bodies)

    def _note_parameters(self, bodies: list[bytes]) -> None:
        """The backend has them whoever owns it."""
        if self.backend is not None:
            for body in bodies:
                name, _, value = body[:-1].partition(b"\0")
                self.backend.parameters[name] = value

    def _finished(self, passed: bytes) -> None:
        """ReadyForQuery has come: settle, then let the client have the end of its answer."""
        relay, transaction = self._relay, self._client.transaction
        if self._copying and not self._session.copy_is_over():
            self._copying, self._draining = False, True
            self._session.write(passed)
            return
        self.unsynced = self._copying = False
        if relay.retry:
            self._try_elsewhere("a standby refused a write")
            return
        if relay.errors or relay.failed_acks:
            self._note_errors()
        transaction.status = relay.status
        if self._early_sync:
            passed = self._without_ready(passed)
        if self._fill is not None:
            fill, self._fill = self._fill, None
            if not relay.errors and self._context.cache is not None:
                caching.keep(self._context.cache, fill, relay.captured())
        self._note_effects()
        if relay.status != IDLE:
            self._deliver(passed + relay.held)
            return
        if transaction.writes and self._context.cache is not None:
            passed += relay.held
            moved = frozenset(transaction.writes)
            self._session.state = states.WAITING
            self._settling = True
            self._context.cache.move(self._context.name, moved, lambda: self._deliver(passed))
        else:
            self._deliver(passed + relay.held if relay.held else passed)

    def _note_errors(self) -> None:
        relay, backend = self._relay, self.backend
        assert backend is not None
        counters = self._context.counters
        for body in relay.errors:
            fields = errors.error_fields(body)
            counters.errors[fields.get("C", "XX")[:2]] += 1
            if fields.get("R") == _CHANGED_RESULT:
                self._context.prepared.retire()
        for ack in reversed(relay.failed_acks):
            if ack.prepared is not None and ack.action != AS_PARSE and not ack.closes:
                backend.prepared.pop(ack.prepared.name, None)
            if ack.evicts is not None:
                backend.prepared[ack.evicts] = None
            self._session.undo_name(ack)
        backend.unnamed = None

    def _without_ready(self, passed: bytes) -> bytes:
        self._early_sync = False
        if self._relay.errors:
            self._session.skip_to_sync()
        return passed[:-6]

    def _note_effects(self) -> None:
        """What the statements did to the session and to its backend."""
        facts, backend, relay = self._client.facts, self.backend, self._relay
        if (
            self._plan.plain
            and self._plan.reads_only
            and len(self._plans) == 1
            and relay.status == IDLE
            and not facts.in_transaction
        ):
            return
        assert backend is not None
        for plan in self._plans:
            if plan.pins is not None and facts.pinned is None and self._took_hold(plan):
                facts.pinned = plan.pins
            if plan.deallocates_all and not relay.errors:
                backend.prepared.clear()
                backend.unnamed = None
                self._session.forget_statements()
        facts.in_transaction = relay.status != IDLE
        if relay.status == IDLE and self._wrote():
            tables = frozenset(self._client.transaction.writes)
            self._client.wrote_at = self._context.writes.tick(tables)

    def _took_hold(self, plan: Plan) -> bool:
        return not self._relay.errors or len(plan.analysis.statements) > 1

    def _wrote(self) -> bool:
        """Whether the transaction that has ended may have written."""
        transaction, backend = self._client.transaction, self.backend
        assert backend is not None
        if transaction.read_only or (self.route is not None and self.route.on_replica):
            return False
        return transaction.wrote or any(plan.access is Access.WRITE for plan in self._plans)

    def _deliver(self, passed: bytes) -> None:
        """The client may know the end of its answer; then clean up."""
        relay = self._relay
        relay.held = b""
        self._settling = False
        if self._client.transaction.failed:
            pass
        elif self.route is not None and not self._abandoned:
            self._session.count(self.route)
        if passed:
            self._session.write(passed)
        if relay.rest and (
            relay.status != IDLE or self._client.facts.pinned or self._keeps_backend
        ):
            rest, relay.rest = relay.rest, b""
            self._unasked(rest)
        if relay.status == IDLE:
            self._settle()
        elif self._abandoned:
            self._unlink(discard=True)
            self._settle()
        else:
            self._session.idle()

    def _settle(self) -> None:
        """The transaction is over: read back settings that may have changed, then let go."""
        client, context = self._client, self._context
        transaction = client.transaction
        if transaction.schema_changes:
            context.prepared.retire()
        for _ in range(transaction.schema_changes):
            context.catalogue.schema_change_ends()
        if transaction.effects:
            client.transaction = Transaction()
        if self.backend is None:
            if transaction.changed_settings and not transaction.failed:
                self._session.fatal(_SETTINGS_UNKNOWN)
            self._session.idle()
            return
        if transaction.changed_settings:
            if self._abandoned:
                self._unlink(discard=True)
                return
            if not settings_sync.resets(self._plans) or self._relay.errors:
                sql = settings_sync.question(transaction, client.settings, client.startup_settings)
                self._reading_back = True
                self._ask(sql, lambda exchange: self._settings_read(transaction, exchange))
                return
            self._take_settings(settings_sync.after_reset(client.startup_settings))
        self._let_go()

    def _settings_read(self, transaction: Transaction, exchange: Exchange) -> None:
        client = self._client
        self._reading_back = False
        if exchange.error is not None:
            self._session.fatal(exchange.error)
            return
        self._take_settings(
            settings_sync.after(transaction, client.settings, client.startup_settings, exchange)
        )
        self._let_go()

    def _take_settings(self, states: tuple[SettingsState, SettingsState]) -> None:
        """Note what the session's and its backend's settings are now."""
        assert self.backend is not None
        self._client.settings, self.backend.settings = states
        self._client.learn_settings()

    def _let_go(self) -> None:
        """Give the backend back unless the session keeps it, and go on."""
        if self._abandoned:
            self._unlink(discard=self._client.facts.pinned is not None or self._keeps_backend)
        elif self._client.facts.pinned is None and not self._keeps_backend:
            self._unlink(discard=False)
        self._session.idle()

    def _unlink(self, discard: bool) -> None:
        """Part from the backend."""
        backend, self.backend = self.backend, None
        self._client.facts.linked = None
        if backend is None or self._pool is None:
            return
        backend.owner = None
        if self._session.congested and backend.transport is not None and not backend.closed:
            backend.transport.resume_reading()
        rest, self._relay.rest = self._relay.rest, b""
        if rest:
            backend.returned_bytes(rest)
        self.congested = False
        if discard:
            self._pool.discard(backend)
        else:
            self._pool.release(backend)

    def roll_back(self, done: Callable[[], None]) -> None:
        """End a transaction that has failed for the client, whatever the server thinks of it."""

        def rolled_back(_: Exchange | None) -> None:
            self._relay.status = IDLE
            self._client.facts.in_transaction = False
            done()
            transaction = self._client.transaction
            self._client.transaction = Transaction()
            self._move_after(frozenset(transaction.writes))
            transaction.touched.clear()
            self._client.transaction = transaction
            transaction.effects = True
            self._settle()

        if self.backend is None:
            rolled_back(None)
        else:
            self._ask(b"ROLLBACK", rolled_back)

    def _move_after(self, tables: frozenset[str]) -> None:
        """Move the epochs of writes whose outcome nobody waits for."""
        if tables and self._context.cache is not None:
            self._context.cache.move(self._context.name, tables, _nothing)

    # When things go wrong

    def _try_elsewhere(self, reason: str) -> None:
        """Run the batch again on the primary: the client has seen nothing of it."""
        self._context.counters.retries[reason] += 1
        plan, batch = self._plan, self._batch
        assert batch is not None
        if self._relay.retry:
            plan = self._context.plans.correct(plan, batch, reason)
            self._fill = None
        else:
            plan = on_primary(plan)
        retries = self._retries + 1
        if self.backend is not None:
            self._unlink(discard=False)
        self.unsynced = False
        self._relay = Relay()
        self.run(batch, plan, self._literals, self._fill)
        self._retries = retries

    def backend_lost(self, error: PgError) -> None:
        """The server's connection broke, at whatever point."""
        session, client, relay = self._session, self._client, self._relay
        self.backend = None
        client.facts.linked = None
        in_exchange, self._exchange = self._exchange is not None, None
        self._move_unknown()
        if self._abandoned:
            self._settle()
            return
        if (
            relay.mid_message
            or client.facts.pinned is not None
            or self._keeps_backend
            or self._reading_back
            or self._draining
        ):
            session.fatal(error)
        elif self._settling:
            pass  # the epochs' answer will go on from here, and find no backend
        elif session.state == states.IDLE or (session.state == states.WAITING and not in_exchange):
            if self.unsynced:
                session.fatal(error)
            elif client.transaction.status != IDLE:
                client.transaction.failed = True
                client.transaction.lost = error
                client.transaction.status = FAILED
        elif not relay.done and relay.untouched and self._may_retry():
            self._try_elsewhere("the connection to a replica was lost")
        else:
            copying = session.state == states.COPY_IN
            told = bool(relay.errors) and not relay.untouched
            self.unsynced = self._early_sync = self._copying = False
            self._relay = Relay()
            session.refuse(error, skip=copying, told=told)

    def _move_unknown(self) -> None:
        """Writes were under way whose outcome is unknown: what they touched can't be trusted."""
        transaction = self._client.transaction
        tables = frozenset(transaction.writes)
        self._move_after(tables)
        if not transaction.read_only:
            self._client.wrote_at = self._context.writes.tick(tables)

    def abandon(self) -> None:
        """The client has gone: let what runs come to its end, and clean up."""
        self._abandoned = True
        backend, relay = self.backend, self._relay
        if backend is None:
            if self._pool is not None:
                self._pool.forget(self)
            self._settle()
            return
        if self._session.congested and backend.transport is not None:
            backend.transport.resume_reading()
        if self._exchange is not None:
            return  # `_linked` and `_let_go` see that nobody is there any more
        if relay.done:
            self._move_unknown()
            self._unlink(discard=True)
            self._settle()
            return
        if self._copying:
            self._break_off()
            return
        if self.unsynced and backend.transport is not None:
            backend.transport.write(messages.SYNC)
            relay.extend(1, None)
            self.unsynced = False
        if all(plan.access is Access.READ for plan in self._plans):
            self.cancel()

    def cancel(self) -> None:
        """Cancel what runs for the client, on the server or in the pool's queue."""
        backend, pool = self.backend, self._pool
        if backend is not None and pool is not None and not self._relay.done:
            cancel_on_server(backend, pool)
        elif self._queued and pool is not None:
            pool.forget(self)
            self.backend_refused(
                PgError(errors.QUERY_CANCELED, "canceled while waiting for a server connection")
            )

    def backend_congested(self, congested: bool) -> None:
        """The server doesn't take bytes as fast as the client sends them, or does again."""
        self.congested = congested
        if congested:
            self._session.pause_reading(True)
        else:
            self._session.relieve()

    def pause_reading(self, pause: bool) -> None:
        """The client doesn't take bytes as fast as the server sends them, or does again."""
        backend = self.backend
        if backend is None or backend.transport is None or backend.closed:
            return
        if pause:
            backend.transport.pause_reading()
        else:
            backend.transport.resume_reading()

    # COPY

    def send_copy(self, data: bytes) -> None:
        """COPY data from the client."""
        if self.backend is not None and self.backend.transport is not None:
            self.backend.transport.write(data)

    def _begin_copy(self) -> None:
        self._copying = True
        if self._batch is not None and self._batch.end != QUERY:
            # A Sync that came before COPY began means nothing to the server: another must follow.
            self._relay.awaiting = 0
            self.unsynced = True
        if self._abandoned:
            self._break_off()
        else:
            self._session.begin_copy()

    def copy_ended(self) -> None:
        """CopyDone or CopyFail has been sent, or what was missing after the server ended COPY."""
        self._copying = False
        if self._draining:
            self._draining = False
            self._finished(b"")

    def _break_off(self) -> None:
        """The client has gone, perhaps in the middle of a message: only the end of the connection
        tells the server so, which then undoes the COPY."""
        self._copying = self.unsynced = False
        self._move_unknown()
        self._unlink(discard=True)
        self._settle()


def _nothing() -> None:
    """Nobody waits."""
