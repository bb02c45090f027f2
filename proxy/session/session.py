"""One client, logged in: takes its batches one at a time and gets each answered.

The order for each batch: plan it, refuse or answer it where that needs no server, ask the cache,
and hand the rest to `upstream`. States are in `states`, decisions in `routing`.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from proxy.cache.calls import Result
from proxy.net.channel import Channel
from proxy.net.clock import clock
from proxy.pool.backend import HIGH_WATER
from proxy.routing.plan import Access, CachePlan, Plan
from proxy.routing.route import Target
from proxy.session import cache_calls, caching, sequences, signals, states, written_back
from proxy.session.analyst import analyst
from proxy.session.answers import CACHEABLE_SHAPES, answer, failure
from proxy.session.batch import (
    CLOSES,
    FLUSH,
    FUNCTION_CALL,
    OVERFLOW,
    PARSES,
    SYNC,
    TERMINATE,
    Ack,
    Batch,
)
from proxy.session.client import Client
from proxy.session.combine import NOTHING, combine, executing, on_primary, unexecuted
from proxy.session.context import DatabaseContext
from proxy.session.downstream import Downstream
from proxy.session.intake import CopyIntake, Intake
from proxy.session.listening import Listening, listening_is_shared
from proxy.session.plans import PlanCache, Unanalysed
from proxy.session.prepared import Prepared
from proxy.session.transaction import (
    ABORTED,
    FAILED,
    IDLE,
    IN_TRANSACTION,
    NO_TRANSACTIONS,
    Transaction,
)
from proxy.session.upstream import Upstream
from proxy.session.vacancy import Vacancy
from proxy.sql.calls import CacheCall
from proxy.sql.statement import Analysis
from proxy.wire import errors, messages
from proxy.wire.errors import PgError, ProtocolViolation

log = structlog.get_logger(__name__)

UNENDED_SECONDS: Final = 0.01
"""How long messages are held back for a Sync or Flush to follow."""
UNSENT: Final = 64 * 1024
"""Bytes of answers from memory that wait for the next."""
READ_AHEAD: Final = 256 * 1024
"""Bytes of batches to come at which a client is no longer read from."""


class Session(Downstream):
    """See the module's docstring."""

    def __init__(
        self, context: DatabaseContext, client: Client, on_closed: Callable[["Session"], None]
    ) -> None:
        super().__init__(context, client)
        self.connected_at = time.time()
        self.upstream = Upstream(self, context, client)
        self._on_closed = on_closed
        keeps = context.keeps_backends(client.user)
        self._intake = Intake(context.prepared, context.max_message_size, keeps)
        self._copy: CopyIntake | None = None
        self._batch: Batch | None = None
        self._literals: tuple[bytes | None, ...] = ()
        self.idle_since = 0.0
        """time.perf_counter() when a sweep for time-outs first saw it idle after its last batch."""
        self.idle_after = 0.0
        """`started` of that batch."""
        self._skipping = False
        """After an error the client's messages are ignored until its Sync."""
        self._running = False
        self._unsent: list[bytes] = []
        """Answers from memory, to be sent together with those behind them."""
        self._unsent_size = 0
        self._awaiting = False
        """A batch waits for writes to be applied."""
        self._awaited: Batch | None = None
        """A batch whose end has not come when its beginning had."""

    def start(self, transport: Channel, unread: bytes) -> None:
        """Take over the transport after login, with the bytes that came behind it."""
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        transport.set_protocol(self)
        if unread:
            self.data_received(unread)

    @property
    def transport(self) -> Channel | None:
        """The client's connection; None before `start`."""
        return self._transport

    @property
    def keeps_backend(self) -> bool:
        """Whether the client has a server connection to itself from its login on."""
        return self.upstream.pooling.mode == "session"

    @property
    def gathering(self) -> bool:
        """Whether part of a message or batch has come."""
        return self._intake.gathering

    @property
    def prepared_count(self) -> int:
        """Named statements that the client has prepared."""
        return len(self._intake.statements)

    # Bytes from the client

    def data_received(self, data: bytes) -> None:
        self.context.counters.bytes_in += len(data)
        if self._copy is not None:
            self._copy_received(data)
            return
        self._intake.append(data)
        self.run()

    def run(self) -> None:
        """Start batches until one has to wait or none is there; read on if the latter."""
        if self._running:
            return  # a batch was answered at once: the loop below takes the next
        upstream, wanting = self.upstream, False
        self._running = True
        try:
            while not self.congested and (
                self.state == states.IDLE
                or (upstream.unsynced and self.state == states.ACTIVE and not upstream.blocked)
            ):
                if self._awaiting:
                    break
                batch = self._intake.next()
                if batch is None:
                    wanting = True  # also for the rest of a message, however long it is
                    break
                self._start(batch)
        except ProtocolViolation as violation:
            self.fatal(PgError(errors.PROTOCOL_VIOLATION, str(violation)))
            return
        finally:
            self._running = False
        if self._unsent:
            self._flush()
        if wanting:
            if self._intake.unended is not None:
                self._await_end()
            if self._reading_paused and not upstream.congested:
                self.pause_reading(False)
        elif self._intake.unread > READ_AHEAD:
            self.pause_reading(True)
        elif self._reading_paused and not upstream.congested:
            self.pause_reading(False)

    def _await_end(self) -> None:
        """What has come of a batch is run without its end if that doesn't come soon: a server
        doesn't wait for it either, and reports an error at once."""
        if self._awaited is None:
            self._awaited = self._intake.unended
            asyncio.get_running_loop().call_later(UNENDED_SECONDS, self._end_unended)

    def _end_unended(self) -> None:
        awaited, self._awaited = self._awaited, None
        unended = self._intake.unended
        if unended is None or self.state == states.CLOSED:
            return
        upstream = self.upstream
        ready = self.state == states.IDLE or (
            upstream.unsynced and self.state == states.ACTIVE and not upstream.blocked
        )
        if unended is awaited and ready and not self.congested:
            self._running = True  # the batch may be answered at once
            try:
                self._start(self._intake.cut())
            finally:
                self._running = False
            self.run()
        else:
            self._await_end()

    def _start(self, batch: Batch) -> None:
        if batch.end == TERMINATE:
            self.close()
            return
        if self._skipping:
            self._undo_names(batch)
            if batch.end == SYNC:
                self._skipping = False
                self.write(messages.ready_for_query(self.client.transaction.status))
            return
        self._started = clock.now()
        self._batch = batch
        try:
            self._plan = plan = self._plan_of(batch)
        except Unanalysed as unanalysed:
            self._have_analysed(batch, unanalysed.text)
            return
        self._start_planned(batch, plan)

    def _have_analysed(self, batch: Batch, text: str) -> None:
        """Have the text analysed elsewhere, and go on then."""
        self.state = states.WAITING
        self.asking = True
        analyst.ask(text, partial(self._analysed, batch, text))

    def _analysed(self, batch: Batch, text: str, analysis: Analysis | None) -> None:
        if self.state != states.WAITING or not self.asking or batch is not self._batch:
            return
        self._plans().learn(text, analysis)
        started = self._started
        self.state = states.IDLE
        self.asking = False
        self._running = True  # the batch may be answered at once
        try:
            self._start(batch)
        except Exception:  # the analyst is there for others too
            log.exception("a connection failed", user=self.client.user)
            self.fatal(PgError(errors.INTERNAL_ERROR, "Penstock failed; its log says how"))
            return
        finally:
            self._running = False
        self._started = started
        self.run()

    def _start_planned(self, batch: Batch, plan: Plan) -> None:
        if self.client.transaction.failed:
            self._start_in_failed(batch, plan)
        elif (self.listening is not None or plan.listens) and self._listens(batch, plan):
            pass  # it has been answered, or goes on when its channels are listened on
        elif plan.occupies and self._vacates(plan):
            pass  # it goes on when nobody of Penstock's idles in those databases
        elif plan.written_back and self._writes_back(batch, plan):
            pass  # Redis has it before PostgreSQL
        elif self.upstream.unsynced or (
            not self._answered_here(batch, plan)
            and (plan.cache is None or not self._ask_cache(batch, plan))
        ):
            self._go_upstream(None)

    def _plans(self) -> PlanCache:
        plans = self.context.plans
        return plans.of_user(self.client.user) if plans.by_user else plans

    def _plan_of(self, batch: Batch) -> Plan:
        plans, utf8 = self._plans(), self.client.utf8
        can_wait = not self.upstream.unsynced
        if not self.client.plain_strings:
            return plans.of_unknown("standard_conforming_strings is off")
        if batch.text is not None:
            plan, self._literals = plans.of_text(batch.text, utf8, can_wait)
            if plan.executes is not None:
                target = self._intake.execute(batch)
                if target is not None:
                    return executing(plan, plans.of_prepared(target, utf8))
            return plan
        bound = batch.bound
        if batch.unseen or batch.end == FUNCTION_CALL:
            return plans.of_unknown("its text was not seen by Penstock")
        if len(bound) == 1:
            return _plan_of_bound(plans, bound[0], utf8, can_wait)
        if bound:
            return combine(
                [_plan_of_bound(plans, one, utf8, can_wait) for one in dict.fromkeys(bound)]
            )
        if batch.described is not None:
            return unexecuted(plans.of_prepared(batch.described, utf8, can_wait))
        return NOTHING

    def _go_upstream(self, fill: caching.Fill | None) -> None:
        assert self._batch is not None
        if self.context.write_back is not None and self._awaits_writes(fill):
            return
        self.upstream.run(self._batch, self._plan, self._literals, fill)

    # Write-back

    def _writes_back(self, batch: Batch, plan: Plan) -> bool:
        """Hand the write over; False where it is to be run as any other."""
        context, client = self.context, self.client
        write_back = context.write_back
        if write_back is None or self.upstream.unsynced or not batch.runs:
            return False
        reason = written_back.objection(context, client, batch)
        if reason is not None:
            write_back.decline(reason)
            return False
        self.state = states.WAITING
        self.asking = True
        done = partial(self._written_back, batch)
        written_back.Write(context, client, batch, plan, self._literals, done).start()
        return True

    def _written_back(self, batch: Batch, outcome: written_back.Outcome) -> None:
        if self.state != states.WAITING or batch is not self._batch:
            return
        self.asking = False
        if isinstance(outcome, PgError):
            self.refuse(outcome)
        elif outcome is None:
            self._go_upstream(None)
        else:
            self._answer_command(outcome, IDLE)
            self.idle()

    def _awaits_writes(self, fill: caching.Fill | None) -> bool:
        """Wait until what was acknowledged has been applied; False if there is no need."""
        write_back, batch = self.context.write_back, self._batch
        if write_back is None or batch is None:
            return False
        if not written_back.depends(self.context, self.client, self._plan):
            return False
        self._awaiting = True
        if not self.upstream.unsynced:  # else what is under way goes on meanwhile
            self.state = states.WAITING
        holds = self.client.transaction.status != IDLE
        write_back.barrier(partial(self._writes_applied, batch, fill), holds=holds)
        return True

    def _writes_applied(
        self, batch: Batch, fill: caching.Fill | None, error: PgError | None
    ) -> None:
        self._awaiting = False
        if self.state not in (states.WAITING, states.ACTIVE) or batch is not self._batch:
            self._forgo(fill)
            return
        if error is not None:
            self._forgo(fill)
            self.refuse(error)
        else:
            self.upstream.run(batch, self._plan, self._literals, fill)

    # Answers without a server

    def _answered_here(self, batch: Batch, plan: Plan) -> bool:
        """Answer what needs no server; whether that was so."""
        if plan.plain and batch.runs:
            return False
        transaction, shape = self.client.transaction, batch.shape
        if plan.access is Access.REFUSE and plan.refusal is not None:
            refusal = plan.refusal
            self.refuse(PgError(refusal.sqlstate, refusal.message, refusal.hint))
        elif plan.call is not None:
            self._call_cache(batch, plan.call)
        elif plan.access is Access.LOCAL:
            description, result = self.context.explain(self.context, self.client, plan)
            self._answer(answer(shape, description, result, transaction.status))
        elif shape == b"S" or (self.upstream.backend is None and not shape.strip(b"CS")):
            self._answer(answer(shape, b"", b"", transaction.status))
        elif shape in (b"H", b""):
            pass
        elif plan.begin is not None and self.upstream.pooling.mode == "statement":
            self.refuse(NO_TRANSACTIONS)
        elif plan.deallocates is not None and self._intake.forget(plan.deallocates.encode()):
            self._answer_command("DEALLOCATE", transaction.status)
        elif plan.signals and self._signaled(batch):
            pass
        elif sequences.looks_back(plan) and not self.upstream.has_sequences():
            self.refuse(sequences.LOST)
        else:
            return self._deferred(batch, plan)
        return True

    def _signaled(self, batch: Batch) -> bool:
        """End another client, or cancel what it runs, if it is one of those that can be."""
        sessions, call = self.context.sessions, signals.call_in(batch)
        if sessions is None or call is None or self.upstream.unsynced:
            return False
        other = sessions.told(call.process_id)
        if other is None or other.client.user != self.client.user:
            return False
        if not call.terminates:
            other.upstream.cancel()
        elif other.state != states.CLOSED:
            other.upstream.expire(signals.TERMINATED)
        self._answer(
            answer(batch.shape, *signals.answer_of(call, batch), self.client.transaction.status)
        )
        return True

    def _deferred(self, batch: Batch, plan: Plan) -> bool:
        """With sharded tables BEGIN waits for the statement that tells the server."""
        transaction, facts = self.client.transaction, self.client.facts
        if not self.context.sharded or self.upstream.backend is not None:
            return False
        if (
            plan.begin is not None
            and transaction.deferred is None
            and batch.end
            not in (
                FLUSH,
                OVERFLOW,
            )
        ):
            transaction.note(plan, b"")
            transaction.deferred = batch.text if batch.text is not None else batch.bound[0].text
            transaction.status = IN_TRANSACTION
            facts.in_transaction = True
            self._answer_command("BEGIN", IN_TRANSACTION)
            return True
        if plan.ends_transaction and transaction.deferred is not None:
            self.client.transaction = Transaction()
            facts.in_transaction = False
            self._answer_command(plan.kind.upper(), IDLE)
            if self.listening is not None:
                self.listening.rest()
            return True
        return False

    def _start_in_failed(self, batch: Batch, plan: Plan) -> None:
        """The client's transaction has failed; the server's may be fine, or gone."""
        transaction, backend = self.client.transaction, self.upstream.backend
        if batch.shape == b"S":
            self.write(messages.READY_FAILED)
        elif plan.ends_transaction:
            self.upstream.roll_back(lambda: self._answer_command("ROLLBACK", IDLE))
        elif plan.rolls_back and backend is not None:
            transaction.failed = False
            self._go_upstream(None)
        else:
            error, transaction.lost = transaction.lost or ABORTED, None
            self._fail(batch, error)

    def _answer_command(self, tag: str, status: int) -> None:
        assert self._batch is not None
        self.context.counters.unfinished += status != IDLE
        complete = messages.command_complete(tag)
        self._answer(answer(self._batch.shape, messages.NO_DATA, complete, status))

    def _answer(self, reply: bytes) -> None:
        tally = self.context.counters.tally(Target.LOCAL.value, "", self._plan.kind)
        tally.add(clock.now() - self._started)
        self.write(reply)

    def refuse(self, error: PgError, skip: bool = False, told: bool = False) -> None:
        """Give the client an error of Penstock's own instead of what it asked for.

        `skip`: a Sync is still to come that ends what failed. `told`: the client has been sent an
        error of the server's already, so that only the end of the answer is missing.
        """
        batch, transaction = self._batch, self.client.transaction
        self.upstream.forgo()
        if batch is None or self.upstream.unsynced:
            self.fatal(error)  # the server waits for a Sync that can't be placed any more
            return
        if transaction.status == IN_TRANSACTION:
            transaction.failed = True
            transaction.status = FAILED
        if skip and batch.end == SYNC:
            batch.end = FLUSH
        self._fail(batch, error, told)
        self.idle()

    def _fail(self, batch: Batch, error: PgError, told: bool = False) -> None:
        self._undo_names(batch)
        self._skipping = batch.end in (FLUSH, OVERFLOW)
        self.context.counters.errors[error.sqlstate[:2]] += 1
        self.write(failure(batch, None if told else error, self.client.transaction.status))

    def _undo_names(self, batch: Batch) -> None:
        """No server will see the batch: names are what they were before it."""
        self.doubt_names(batch)
        for reference in reversed(batch.references or ()):
            if reference.action in (PARSES, CLOSES):
                closed = reference.action == CLOSES
                self._intake.undo(reference.client_name, reference.prepared, closed)

    # LISTEN

    def _listens(self, batch: Batch, plan: Plan) -> bool:
        """See to the channels that the batch is about; whether that is all for now."""
        listening = self._listening_for(plan)
        if listening is None:
            return False
        objection = listening.objection(plan, self.upstream.unsynced)
        if objection is not None:
            self.refuse(objection)
            return True
        if plan.asks_channels and listening.outlook.channels:
            self._plan = on_primary(plan)
        wanted = () if self.upstream.unsynced else listening.wanted(plan.steps)
        if not wanted:
            return self._listens_now(batch, plan, listening)
        self.state = states.WAITING
        listening.subscribe(wanted, self.client.user, self._subscribed)
        return True

    def _listening_for(self, plan: Plan) -> Listening | None:
        """What serves the session's LISTENs; None where its own backend does."""
        listening, upstream = self.listening, self.upstream
        if upstream.listens_itself:
            return None
        if listening is not None:
            if listening.unshared and upstream.unsynced:
                return None
            listening.unshared = ""
        elif plan.listens and listening_is_shared(upstream.pooling):
            context = self.context
            listening = Listening(self, context.listener, context.notification_backlog)
            self.listening = listening
        return listening

    def _listens_now(self, batch: Batch, plan: Plan, listening: Listening) -> bool:
        """Answer a LISTEN or UNLISTEN that stands alone; whether it was one."""
        transaction, steps = self.client.transaction, plan.steps
        alone = len(steps) == len(plan.analysis.statements) == 1 and plan.kind == "listen"
        if alone and batch.shape in CACHEABLE_SHAPES and not self.upstream.unsynced:
            listening.settle(steps, False, False, transaction.status == IDLE)
            verb = steps[0].verb.value.rstrip(" *")
            self._answer_command(verb, transaction.status)
            return True
        if plan.ends_transaction and transaction.deferred is not None:
            listening.settle(steps, False, False, True)
        return False

    def _subscribed(self, error: PgError | None) -> None:
        """The channels are listened on from now on, or can't be."""
        batch, plan, listening = self._batch, self._plan, self.listening
        if self.state != states.WAITING or batch is None or listening is None:
            return
        if error is not None and listening.used:
            self.refuse(error)
        elif error is not None:
            listening.unshared = f"no connection listens for all ({error.message})"
            self._go_upstream(None)
        elif not self.client.transaction.failed and (
            self._listens_now(batch, plan, listening) or self._answered_here(batch, plan)
        ):
            self.idle()
        else:
            self._go_upstream(None)

    # DROP DATABASE and the like

    def _vacates(self, plan: Plan) -> bool:
        """Have databases vacated for this; false where there is no need."""
        vacate = self.context.vacate
        outside = self.client.transaction.status == IDLE and not self.upstream.unsynced
        if vacate is None or not outside or plan.access is Access.REFUSE:
            return False
        self.state = states.WAITING
        vacate(self.context, plan.occupies, self._vacated)
        return True

    def _vacated(self, vacancy: Vacancy) -> None:
        if self.state == states.WAITING:
            self.vacancy = vacancy
            self._go_upstream(None)
        else:
            vacancy.end()

    def _occupy(self) -> None:
        vacancy, self.vacancy = self.vacancy, None
        if vacancy is not None:
            vacancy.end()

    # The cache

    def _ask_cache(self, batch: Batch, plan: Plan) -> bool:
        """Start a look-up; False if the batch bypasses the cache."""
        terms = plan.cache
        assert terms is not None
        reason = caching.bypass(self.context, self.client, batch, plan)
        if reason is not None:
            if batch.bound or batch.text is not None:  # it is a read
                self.context.counters.cache_bypasses[reason] += 1
                terms.tally.bypasses[reason] += 1
            return False
        key, answer = caching.remembered(self.context, self.client, batch, plan)
        if answer is not None:
            if batch.references is not None and caching.tells(batch):
                self._tell_cached(batch, answer.reply[answer.payload_from :])
            self.count_cached()
            terms.tally.hits += 1
            if terms.refresh_seconds:
                self.touch_hot(key)
            self._write_soon(caching.remembered_reply(answer, self.client.transaction.status))
            return True
        self.state = states.WAITING
        self.asking = True
        answered = partial(self._cache_answered, batch)
        caching.ask(
            self.context, self.client, batch, plan, self._literals, key, answered, self.note_hot
        )
        return True

    def note_hot(self, key: bytes, batch: Batch, terms: CachePlan, reads: tuple[str, ...]) -> None:
        """The client asks for a result that is to be refreshed after writes."""
        if self.context.hot is not None:
            self.context.hot.note(key, self.client, batch, terms, reads)

    def touch_hot(self, key: bytes) -> None:
        """The client has got such a result from memory."""
        if self.context.hot is not None:
            self.context.hot.touch(key)

    def _cache_answered(self, batch: Batch, hit: bytes | None, fill: caching.Fill | None) -> None:
        if self.state != states.WAITING or batch is not self._batch:
            self._forgo(fill)
            return
        self.asking = False
        if hit is None or self.client.transaction.failed:
            self._go_upstream(fill)
            return
        if batch.references is not None:
            self._tell_cached(batch, hit)
        self.count_cached()
        self.write(caching.reply(batch, hit, self.client.transaction.status))
        self.idle()

    def _forgo(self, fill: caching.Fill | None) -> None:
        """Nobody need wait for what this session was to fetch."""
        if fill is not None and self.context.cache is not None:
            self.context.cache.forgo(fill.ticket)

    def _write_soon(self, answer: bytes) -> None:
        """Send, in one piece with the answers to what came in one piece with the question."""
        if self._unsent or self._intake.gathering:
            self._unsent.append(answer)
            self._unsent_size += len(answer)
            if self._unsent_size < UNSENT:
                return
            self._flush()
        else:
            self.write(answer)

    def _flush(self) -> None:
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._unsent_size = 0
            super().write(data)

    def write(self, data: bytes) -> None:
        """Send to the client, behind what was to be sent soon."""
        if self._unsent:
            self._flush()
        super().write(data)

    def _tell_cached(self, batch: Batch, hit: bytes) -> None:
        """A hit's description counts as any other."""
        found = caching.description_in(batch, hit)
        reference = batch.references[0] if batch.references else None
        if found is not None and reference is not None:
            self.tell(reference.client_name, reference.prepared, reference.prepared.told(found))

    # Functions of Penstock's own

    def _call_cache(self, batch: Batch, call: CacheCall) -> None:
        """Answer a call, or what prepares it."""
        if not cache_calls.is_run(batch):
            self._answer(self._called(batch, call, b""))
            return
        calls = self.context.calls
        if calls is None:
            self.refuse(cache_calls.NO_CACHE)
            return
        try:
            arguments = cache_calls.arguments_of(call, batch, self.client)
        except PgError as error:
            self.refuse(error)
            return
        self.state = states.WAITING
        calls.call(call.function, arguments, partial(self._call_done, batch, call))

    def _call_done(self, batch: Batch, call: CacheCall, result: Result | PgError) -> None:
        if self.state != states.WAITING or batch is not self._batch:
            return
        if self.client.transaction.failed:  # its connection was lost meanwhile
            self._go_upstream(None)
            return
        try:
            if isinstance(result, PgError):
                raise result
            row = cache_calls.row_of(call, batch, self.client, result)
        except PgError as error:
            self.refuse(error)
            return
        self._answer(self._called(batch, call, row))
        self.idle()

    def _called(self, batch: Batch, call: CacheCall, row: bytes) -> bytes:
        description = cache_calls.description_of(call, batch)
        parameters = cache_calls.parameters_of(call, batch)
        return answer(batch.shape, description, row, self.client.transaction.status, parameters)

    # What upstream calls

    def idle(self) -> None:
        """The batch has been answered: the next may start."""
        if self.state == states.CLOSED:
            return
        self.state = states.IDLE
        self._copy = None
        if self.vacancy is not None:
            self._occupy()
        if self.listening is not None and self.client.transaction.status == IDLE:
            self.listening.rest()
        if self._intake.gathering or self._reading_paused:
            self.run()

    def skip_to_sync(self) -> None:
        """The server reported an error to a flush that was synced early."""
        self._skipping = True

    def undo_name(self, ack: Ack) -> None:
        """The server refused or skipped this Parse or Close."""
        if ack.client_name is not None and ack.prepared is not None:
            self._intake.undo(ack.client_name, ack.prepared, ack.closes)

    def tell(self, name: bytes, prepared: Prepared, told: Prepared) -> None:
        """The client has been told what this statement of its is."""
        self._intake.tell(name, prepared, told)

    def doubt_names(self, batch: Batch) -> None:
        """Parses of this batch may have had no effect."""
        if batch.parsed is not None:
            self._intake.doubt(batch.parsed)

    def forget_statements(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL went through."""
        self._intake.forget_all()

    def relieve(self) -> None:
        """The server takes bytes again."""
        self.run()

    # COPY from the client

    def begin_copy(self) -> None:
        """The server waits for COPY data: what the client sends goes straight to it."""
        self.state = states.COPY_IN
        self._copy = CopyIntake()
        unread = self._intake.take_unread()
        if unread:
            self._copy_received(unread)
        if self.state == states.COPY_IN and not self.upstream.congested:
            self.pause_reading(False)

    def copy_is_over(self) -> bool:
        """The server has ended COPY. False if the client is in the middle of a message of it:
        the rest goes to the server too, then `upstream.copy_drained` is called."""
        copy = self._copy
        if copy is None:
            return True
        if copy.drain():
            return False
        self._copy = None
        self._intake.append(copy.rest())
        return True

    def _copy_received(self, data: bytes) -> None:
        copy = self._copy
        assert copy is not None
        try:
            passed, rest = copy.feed(data)
        except ProtocolViolation as violation:
            self.fatal(PgError(errors.PROTOCOL_VIOLATION, str(violation)))
            return
        if passed:
            self.upstream.send_copy(passed)
        if copy.ended:
            self._copy = None
            if self.state == states.COPY_IN:
                self.state = states.ACTIVE
            self.upstream.copy_ended()
            if rest:
                self.data_received(rest)

    # The end

    def pause_writing(self) -> None:
        self.congested = True
        self.upstream.forgo()  # nobody else is to wait for this client
        self.upstream.pause_reading(True)

    def resume_writing(self) -> None:
        self.congested = False
        self.upstream.pause_reading(False)
        self.run()
        if self.listening is not None and self.state == states.IDLE:
            self.idle()

    def overwhelmed(self, error: PgError) -> None:
        """The client doesn't take what waits for it: close at once."""
        transport = self._transport
        self.fatal(error)
        if transport is not None:
            transport.abort()

    def fatal(self, error: PgError) -> None:
        """Tell the client why, and close."""
        self.context.counters.errors[error.sqlstate[:2]] += 1
        if not self.upstream.mid_message:
            self.write(error.encode("FATAL"))
        self.close()

    def close(self) -> None:
        """Close the connection; the server side is cleaned up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        if self.state == states.CLOSED:
            return
        self.state = states.CLOSED
        self._occupy()
        if self.listening is not None:
            self.listening.leave()
        self.asking = False
        self.upstream.forgo()
        self.upstream.abandon()
        self._on_closed(self)


def _plan_of_bound(plans: PlanCache, prepared: Prepared, utf8: bool, can_wait: bool) -> Plan:
    """With what it runs, if it is an EXECUTE in SQL."""
    plan, runs = plans.of_prepared(prepared, utf8, can_wait), prepared.runs
    return plan if runs is None else executing(plan, plans.of_prepared(runs, utf8))
