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

from proxy.net.channel import Channel, ChannelProtocol
from proxy.net.clock import clock
from proxy.pool.backend import HIGH_WATER, Backend
from proxy.routing.plan import Plan
from proxy.session import states
from proxy.session.analyst import analyst
from proxy.session.asking import Asking
from proxy.session.batch import (
    FUNCTION_CALL,
    SYNC,
    TERMINATE,
    Batch,
)
from proxy.session.client import Client
from proxy.session.combine import NOTHING, combine, executing, unexecuted
from proxy.session.context import DatabaseContext
from proxy.session.downstream import MISTAKE
from proxy.session.fast_rings import Group
from proxy.session.intake import CopyIntake
from proxy.session.plans import PlanCache, Unanalysed
from proxy.session.prepared import Prepared
from proxy.session.transaction import (
    IDLE,
)
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


class Session(Asking):
    """See the module's docstring."""

    def __init__(
        self, context: DatabaseContext, client: Client, on_closed: Callable[["Session"], None]
    ) -> None:
        super().__init__(context, client)
        self.connected_at = time.time()
        self._on_closed = on_closed

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
        self.context.plans_of(self.client.user).learn(text, analysis)
        started = self._started
        self.state = states.IDLE
        self.asking = False
        self._running = True  # the batch may be answered at once
        try:
            self._start(batch)
        except Exception:  # the analyst is there for others too
            log.exception("a connection failed", user=self.client.user)
            self.fatal(MISTAKE)
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

    def _plan_of(self, batch: Batch) -> Plan:
        plans, utf8 = self.context.plans_of(self.client.user), self.client.utf8
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

    # The fast path

    def at_rest(self) -> bool:
        return (
            self._transport is not None
            and self.state != states.CLOSED
            and self.listening is None
            and self.vacancy is None
            and self._copy is None
            and self._awaited is None
            and not self._intake.gathering
            and not self._unsent
            and not self._skipping
            and not self._awaiting
            and not self._reading_paused
            and not self.congested
            and not self.asking
        )

    @property
    def statements(self) -> dict[bytes, Prepared]:
        return self._intake.statements

    def dismissed(self, request: bytes, before: bytes, started: float) -> None:
        self.fast = False
        if request:
            self._started = started
            self._intake.served(request, before)

    def resumed(
        self, server: ChannelProtocol, request: bytes, before: bytes, started: float
    ) -> None:
        assert isinstance(server, Backend)
        group = server.owner
        assert isinstance(group, Group)
        server.unnamed = None  # what others have made of it meanwhile isn't known here
        self.fast = False
        self.context.counters.bytes_in += len(request)
        self._intake.served(request, before)
        self._intake.append(request)
        if self.upstream.resume(server, self.run):
            self._started = started
        else:
            group.pool.discard(server)  # nobody knows what it has under way

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
        self.leave_fast_path()
        self.context.counters.errors[error.sqlstate[:2]] += 1
        if not self.upstream.mid_message:
            self.write(error.encode("FATAL"))
        self.close()

    def close(self) -> None:
        """Close the connection; the server side is cleaned up."""
        self.leave_fast_path()
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        if self.state == states.CLOSED:
            return
        self.leave_fast_path()
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
