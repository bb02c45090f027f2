"""The server's side of a session: the way of a batch to a server and its answer's way back.

A node is picked, a backend borrowed and brought into the session's state, the batch sent, its
answer relayed; then it is settled (see `settlement`). What goes wrong on the way is dealt with here
too: another try elsewhere, a lost server, a client that has gone, a cancel.
"""

from collections.abc import Callable

from proxy.cache.results import ResultCache
from proxy.net.clock import clock
from proxy.pool.backend import Backend
from proxy.pool.cancel import cancel_on_server
from proxy.pool.exchange import Exchange
from proxy.pool.pool import Pool
from proxy.pool.settings_state import difference
from proxy.routing.decide import decide
from proxy.routing.plan import Plan
from proxy.routing.route import Refused
from proxy.session import caching, fast_sessions, keyed, settings_sync, states
from proxy.session.batch import FLUSH, FUNCTION_CALL, OVERFLOW, QUERY, Batch, is_ready
from proxy.session.combine import NOTHING, combine, on_primary, steps_of
from proxy.session.listening import UNCLEAR
from proxy.session.pipeline import answers_to, may_copy_in
from proxy.session.relay import Relay
from proxy.session.revalidation import CANCELED, Revalidation
from proxy.session.sharding import shard_of
from proxy.session.transaction import ABORTED, FAILED, IDLE, NO_TRANSACTIONS
from proxy.sql.listening import too_involved
from proxy.wire import errors, messages
from proxy.wire.errors import PgError, ProtocolViolation


class Upstream(Revalidation):
    """See the module's docstring."""

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
        self._moves = plan.writes
        if plan.writes and cache is not None:
            if plan.pinned_write is not None:
                self._moves = keyed.epochs_moved(plan, batch, literals, self._client.utf8)
            self._planned = self._context.planned()
            self._session.state = states.WAITING
            cache.announce(self._context.name, self._moves, self._dispatch_unless_closed)
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
                self._turn(),
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
        pool = self._pool = self._pool_of(route.node)
        self._session.state = states.WAITING
        backend = self._reserved
        if backend is not None and backend in pool.backends:
            context.counters.lends += 1
            self.backend_lent(backend)
            return
        self._queued = True
        backend = pool.acquire(self)
        if backend is not None:
            self.backend_lent(backend)

    def _turn(self) -> int:
        """Which of several replicas is the next; the one where the batch is under way, if it is."""
        context, reserved = self._context, self._reserved
        replicas = context.topology.replicas
        if reserved is not None and reserved.node in replicas:
            return replicas.index(reserved.node)
        context.turn += 1
        return context.turn

    def resume(self, backend: Backend, run: Callable[[], None]) -> bool:
        """Have the next batch be under way on this backend, which is lent to the fast path; `run`
        starts it. Whether it is: the way may have become another meanwhile."""
        self._reserved = backend
        run()
        return self._take_reserved() is None

    def _take_reserved(self) -> Backend | None:
        """What `resume` has reserved and nothing has used."""
        backend, self._reserved = self._reserved, None
        return backend

    def adopt(self, pool: Pool, backend: Backend) -> None:
        """Take a backend in the client's state that the session keeps from the start."""
        context, facts = self._context, self._client.facts
        self._pool = self._pools[backend.node.name] = pool
        self.backend = backend
        backend.owner = self
        facts.linked = backend.node
        self.route = decide(NOTHING, facts, context.topology, context.replicas, context.turn)

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
                self._preparing = True
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
            self._preparing = self._canceled = False
            self._unlink(discard=True)
            self._session.refuse(exchange.error)
            return
        self.backend.settings = self._client.settings
        if self._was_canceled() and not self._abandoned:
            self._let_go_unused()
            return
        self._linked()

    def _linked(self) -> None:
        if self._abandoned:
            self._let_go()
            return
        if self._misinformed and self.backend is not None:
            self._tell_parameters(self.backend)
        transaction = self._client.transaction
        if transaction.deferred is None:
            self._send()
        else:
            text, transaction.deferred = transaction.deferred, None
            self._preparing = True
            self._ask(text, self._begun)

    def _begun(self, exchange: Exchange) -> None:
        canceled = self._was_canceled()
        if exchange.error is not None:
            self._session.refuse(exchange.error)
        elif canceled:
            self._session.refuse(CANCELED)
        else:
            self._send()

    def _was_canceled(self) -> bool:
        """Whether the batch must not be sent; from now on a cancel request is for the server."""
        canceled, self._canceled, self._preparing = self._canceled, False, False
        return canceled

    def _let_go_unused(self) -> None:
        if self._client.facts.pinned is None:
            self._unlink(discard=False)
        self._session.refuse(CANCELED)

    def _send(self) -> None:
        backend, batch, plan = self.backend, self._batch, self._plan
        assert backend is not None
        assert batch is not None
        assert backend.transport is not None
        if self.unsynced and batch.end in (QUERY, FUNCTION_CALL) and not self._may_follow():
            return
        if plan.asks_channels and self._shows_channels():
            return
        if plan.notifies and self._signs():
            return
        whole = not self.unsynced and batch.end not in (FLUSH, OVERFLOW)
        if whole and is_ready(batch, backend.prepared, backend.unnamed):
            payload, acks, plain = batch.payload, None, True
        else:  # the parts of a batch share one list of acks, so that each must have its own
            rendered = self._rendered(batch)
            if rendered is None:
                return
            payload, acks = rendered
            plain = False
        if batch.end == QUERY:
            backend.unnamed = None
        elif batch.last_unnamed is not None:
            backend.unnamed = batch.last_unnamed
        readies = 0 if batch.end in (FLUSH, OVERFLOW) else 1
        if not readies and not self.unsynced and self._syncs_early(batch):
            payload, readies = payload[:-5] + messages.SYNC, 1
            self._early_sync = True
        transaction = self._client.transaction
        if self._session.listening is not None:
            self._relay.muted = self._may_listen(plan)
        if self.unsynced:
            self._relay.extend(readies, acks)
        else:
            writes = bool(plan.writes or transaction.writes) and not self._early_sync
            holds = self._context.cache is not None and writes
            room = 0 if self._fill is None else self._fill.room
            heals = not plain and self._heals(acks)
            self._relay.begin(readies, acks, self._may_retry(), room, holds, heals)
            self._plans.clear()
            self._sent = 0
        if not plain:
            self._await_told(batch)
        self.unsynced = readies == 0
        if plan.effects:
            transaction.note(plan, self._planned, self._moves)
            if plan.settings_unknown:
                transaction.touched |= settings_sync.named_in(batch)
            if plan.changes_schema:
                transaction.schema_changes += 1
                self._context.catalogue.schema_change_begins()
        self._plans.append(plan)
        self._quiet = (
            plain
            and plan.plain
            and plan.reads_only
            and self._fill is None
            and transaction.status == IDLE
            and not transaction.effects
            and self._client.facts.pinned is None
        )
        self._session.state = states.ACTIVE
        if self._reserved is backend:
            self._reserved = None
        else:
            backend.transport.write(payload)
        if self.unsynced:
            self._sent += answers_to(batch, acks)
            self.blocked = may_copy_in(batch)
            if self.blocked and batch.end == OVERFLOW:
                backend.transport.write(messages.FLUSH)
            self._session.run()

    def _may_follow(self) -> bool:
        """Whether a Query, which is also a Sync, may be sent behind what is under way: the server
        skips it after an error, and only its answer tells."""
        relay, backend = self._relay, self.backend
        self._session.state = states.ACTIVE
        if relay.errors:
            self._session.run()
            return False
        if relay.answered >= self._sent:
            return True
        assert backend is not None
        assert backend.transport is not None
        self.blocked = self._query_waits = True
        backend.transport.write(messages.FLUSH)
        return False

    def _unblock(self) -> None:
        """All has been answered, or skipped."""
        self.blocked = False
        if self._query_waits:
            self._query_waits = False
            self._send()
        else:
            self._session.run()

    # LISTEN

    def _may_listen(self, plan: Plan) -> bool:
        """Whether the backend listens from this plan on for what the client hears of elsewhere."""
        listening = self._session.listening
        if listening is not None and not listening.unshared and listening.sends(plan):
            self._listened = not self.listens_itself
        return self._listened

    def _shows_channels(self) -> bool:
        """Have the backend listen on the session's channels, for pg_listening_channels() to say."""
        listening = self._session.listening
        sql = b"" if listening is None or self._listened else listening.sql()
        if sql:
            self._listened = self._preparing = True
            self._ask(sql, self._channels_shown)
        return bool(sql)

    def _channels_shown(self, exchange: Exchange) -> None:
        error = CANCELED if self._was_canceled() else exchange.error
        if self._abandoned:
            self._let_go()
        elif error is None:
            self._send()
        else:
            if self._client.facts.pinned is None:
                self._listened = False
                self._unlink(discard=True)
            self._session.refuse(error)

    def _signs(self) -> bool:
        """What the batch notifies of is to be told as coming from the client, by the process id
        that it knows; whether the batch has to wait for that.

        It does where the client listens itself: it would take for its own what others, who had the
        backend before, have notified of and nobody has been told yet.
        """
        backend, listener, listening = self.backend, self._context.listener, self._session.listening
        assert backend is not None
        if self._signer or self._keeps_backend or not listener.in_use:
            return False
        self._signer = backend.process_id
        if listening is None or not listening.used or self.unsynced:
            listener.senders[self._signer] = self._client.process_id
            return False
        self._preparing = True
        self._session.state = states.WAITING
        listener.catch_up(lambda _: self._signs_on(backend))
        return True

    def _signs_on(self, backend: Backend) -> None:
        if self._session.state == states.CLOSED:
            return
        if self._was_canceled():
            self._let_go_unused()
            return
        if self.backend is backend:
            self._context.listener.senders[self._signer] = self._client.process_id
        self._dispatch()

    def _settle_channels(self, passed: bytes, aborted: bool) -> bool:
        """What the session listens on may have changed, and what it has notified of comes before
        ReadyForQuery to itself, and under its number to others; whether the answer's end waits."""
        listening, relay = self._session.listening, self._relay
        missing: list[str] = []
        if listening is not None and not listening.unshared:
            steps = steps_of([plan for plan in self._plans if plan is not NOTHING])
            if relay.errors and len(self._plans) > 1 and too_involved(steps, False):
                self._session.fatal(UNCLEAR)
                return True
            missing = listening.settle(steps, bool(relay.errors), aborted, relay.status == IDLE)
        notified = relay.status == IDLE and self._signer != 0
        if self._abandoned or not (missing or notified):
            return False

        def heard(error: PgError | None) -> None:
            if self._signer:
                self._sign_off()
            if error is not None and missing:
                self._session.fatal(error)
            else:
                self._deliver_settled(passed)

        self._settling = True
        self._session.state = states.WAITING
        if missing and listening is not None:
            listening.subscribe(missing, self._client.user, heard)
        else:
            self._context.listener.catch_up(heard)
        return True

    # The answer

    def backend_data(self, data: bytes) -> None:
        """Bytes from the server, for the client or for an exchange of Penstock's own."""
        if self._exchange is not None:
            exchange, done = self._exchange
            if exchange.feed(data):
                self._exchange = None
                unasked = exchange.notifications + exchange.rest
                if unasked:
                    self._unasked(unasked)
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
        elif relay.changed and (self.unsynced or len(self._plans) > 1):
            self._refuse_changed(relay)
            return
        if relay.held and (self.unsynced or relay.copy_in):
            self._release(relay)
        if relay.copy_in:
            relay.copy_in = self.blocked = False
            self._begin_copy()
        elif self.blocked and (relay.errors or relay.answered >= self._sent):
            self._unblock()

    def _finished(self, passed: bytes) -> None:
        """ReadyForQuery has come: settle, then let the client have the end of its answer."""
        relay, transaction = self._relay, self._client.transaction
        if self._quiet and self._is_quiet(relay):
            if self.route is not None:
                self._session.count(self.route)
            self._session.write(passed)
            backend, fast = self.backend, False
            if fast_sessions.AVAILABLE and backend is not None:
                fast = fast_sessions.enter(self, backend)
            if not fast:
                self._unlink(discard=False)
            self._session.idle()
            return
        if self._copying and not self._session.copy_is_over():
            self._copying, self._draining = False, True
            self._drain(passed + relay.held)
            return
        self.unsynced = self._copying = self.blocked = False
        if relay.retry:
            self._again(relay)
            return
        if relay.noteworthy:
            if relay.errors:
                self._note_errors()
            self._note_descriptions()
        aborted, transaction.status = transaction.status == FAILED, relay.status
        if self._early_sync:
            passed = self._without_ready(passed)
        if self._fill is not None:
            fill, self._fill = self._fill, None
            cache = self._context.cache
            if cache is None:
                pass
            elif relay.errors:
                cache.forgo(fill.ticket)
            else:
                seconds = clock.now() - self._session.started
                caching.keep(cache, fill, relay.captured(), seconds)
        self._note_effects()
        if relay.status != IDLE:
            transaction.effects = True  # it is a transaction now, whatever began it
            if self._settle_channels(passed + relay.held, aborted):
                return
            self._deliver(passed + relay.held)
            if self._single_statements and not self._abandoned:
                self._session.fatal(NO_TRANSACTIONS)
            return
        if relay.held:
            passed += relay.held
        if self._session.vacancy is not None:
            self._session.state = states.WAITING
            self._settling = True
            self._session.vacancy.forget_results(lambda: self._deliver_settled(passed))
        elif not self._settle_channels(passed, aborted):
            self._deliver_settled(passed)

    def _deliver_settled(self, passed: bytes) -> None:
        """Let the client have the end of its answer once what it wrote is out of the cache."""
        transaction = self._client.transaction
        if transaction.writes and self._context.cache is not None:
            self._deliver_invalidated(passed, self._context.cache)
        else:
            self._deliver(passed)

    def _is_quiet(self, relay: Relay) -> bool:
        """Whether the answer to what was `_quiet` has left nothing to settle either."""
        self._quiet = False
        return (
            relay.status == IDLE
            and not relay.noteworthy
            and not relay.retry
            and not relay.held
            and not relay.rest
            and not self._copying
            and not self._draining
            and not self._abandoned
            and not self._client.transaction.failed
        )

    def _deliver_invalidated(self, passed: bytes, cache: ResultCache) -> None:
        """Let the client have the end of its answer once what it wrote is out of the cache."""
        self._session.state = states.WAITING
        self._settling = True
        self._invalidate(cache, lambda: self._write_through(passed, cache))

    def _write_through(self, passed: bytes, cache: ResultCache) -> None:
        """Have what is in demand of it read again first, if a rule says so."""
        hot, transaction = self._context.hot, self._client.transaction
        if hot is None or not len(hot) or transaction.failed or self._abandoned:
            self._deliver(passed)
            return
        effects = cache.cascaded(self._context.name, transaction.outdates)
        moved = transaction.outdates if effects is None else effects.names
        hot.refresh(moved, lambda: self._deliver(passed))

    # When things go wrong

    def _again(self, relay: Relay) -> None:
        """The answer was held back: the client has seen nothing of it."""
        if relay.changed:
            self._refuse_changed(relay)
        elif errors.error_fields(relay.errors[-1]).get("R") == errors.CHANGED_RESULT:
            self._prepare_again()
        else:
            self._try_elsewhere("a standby refused a write")

    def _try_elsewhere(self, reason: str) -> None:
        """Run the batch again on the primary: the client has seen nothing of it."""
        self._context.counters.retries[reason] += 1
        plan, batch = self._plan, self._batch
        assert batch is not None
        if self._relay.retry:
            plans = self._context.plans_of(self._client.user)
            plan = plans.correct(plan, batch, reason)
            self.forgo()
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
        self._preparing = self._canceled = False
        if self._signer:
            self._sign_off()
        client.facts.linked = None
        in_exchange, self._exchange = self._exchange is not None, None
        freeing = self._freeing
        self._listened = self._freeing = False
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
            if self._said_why():
                session.close()
            else:
                session.fatal(error)
        elif freeing:
            session.idle()  # the client has its answer
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
            if self._rests:
                self._part()
                return
            self._move_unknown()
            self._unlink(discard=True)
            self._settle()
            return
        if self._copying or self.unsynced:
            self._break_off()
            return
        if all(plan.reads_only for plan in self._plans):
            self.cancel()

    def expire(self, error: PgError) -> None:
        """What runs for the client has taken too long: cancel it, close both connections."""
        if self._exchange is not None:
            self._exchange = None
            self._unlink(discard=True)
        self._session.fatal(error)
        backend, pool = self.backend, self._pool
        if backend is not None and pool is not None:
            if not backend.pending_cancels:
                cancel_on_server(backend, pool)
            self._break_off()

    def cancel(self, taken: Callable[[], None] | None = None) -> bool:
        """Cancel what runs for the client, on the server or in the pool's queue.

        True if the server has yet to take it: then `taken` is called.
        """
        backend, pool = self.backend, self._pool
        if backend is not None and pool is not None and not self._relay.done:
            cancel_on_server(backend, pool, taken)
            return True
        if self._preparing:
            self._canceled = True
        elif self._queued and pool is not None:
            pool.forget(self)
            self.backend_refused(
                PgError(errors.QUERY_CANCELED, "canceled while waiting for a server connection")
            )
        elif self._session.asking:
            self._session.asking = False
            self._session.refuse(
                PgError(errors.QUERY_CANCELED, "canceled before it was sent to a server")
            )
        return False

    # COPY

    def _drain(self, answer: bytes) -> None:
        """The client may know the end of its answer; it has to complete what it was sending."""
        self._relay.held = b""
        cache = self._context.cache
        if cache is not None and self._client.transaction.writes:
            self._invalidate(cache, lambda: self._session.write(answer))
        else:
            self._session.write(answer)

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
        """The client has gone before its COPY's end or its Sync, perhaps within a message: the end
        of the connection tells the server so, which then undoes what was not complete."""
        self._copying = self.unsynced = False
        self._move_unknown()
        self._unlink(discard=True)
        self._settle()
