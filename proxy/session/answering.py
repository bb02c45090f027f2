"""Answers that need no server, refusals, and what goes before a server is asked.

The first of the parts of `session.Session`.
"""

from functools import partial
from typing import Final

import structlog

from proxy.cache.calls import Result
from proxy.net.clock import clock
from proxy.routing.plan import Access, Plan
from proxy.routing.route import Target
from proxy.session import cache_calls, caching, sequences, signals, states, written_back
from proxy.session.answers import answer, failure
from proxy.session.batch import (
    CLOSES,
    FLUSH,
    OVERFLOW,
    PARSES,
    SYNC,
    Ack,
    Batch,
)
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.session.downstream import Downstream
from proxy.session.intake import CopyIntake, Intake
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
from proxy.sql.calls import CacheCall
from proxy.wire import messages
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

UNSENT: Final = 64 * 1024
"""Bytes of answers from memory that wait for the next."""


class Answering(Downstream):
    """See the module's docstring."""

    def __init__(self, context: DatabaseContext, client: Client) -> None:
        super().__init__(context, client)
        self.upstream = Upstream(self, context, client)
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

    # What goes to the client

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

    # Names of statements

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
