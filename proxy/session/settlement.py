"""What a batch leaves to do once its answer is known.

Statements that came or went are noted, epochs of what was written move a second time before the
client hears of it, changed settings are read back, and the backend returns to its pool.
"""

from collections.abc import Callable
from typing import Final

from proxy.net.clock import clock
from proxy.pool import leftovers
from proxy.pool.description import STALE
from proxy.pool.exchange import Exchange
from proxy.pool.pool import DISCARD_ALL
from proxy.pool.settings_state import SettingsState, difference
from proxy.routing.plan import Access, Plan
from proxy.session import settings_sync
from proxy.session.batch import AS_PARSE, QUERY, Batch
from proxy.session.link import Link
from proxy.session.prepared import Prepared
from proxy.session.relay import Relay
from proxy.session.transaction import IDLE, IN_TRANSACTION, Transaction
from proxy.sql.pins import (
    HELD_CURSORS,
    SEQUENCE_PIN,
    UNTOLD_SETTINGS,
    is_over,
    outlives_errors,
    relieved,
)
from proxy.wire import errors
from proxy.wire.errors import PgError

_SETTINGS_UNKNOWN = PgError(
    errors.CONNECTION_FAILURE,
    "the connection to the server was lost before the session's settings could be read back",
    "connect again: settings that were changed last may not be in force",
)
_EXECUTE: Final = 69
_READY: Final = b"Z\0\0\0\5"

_DEALLOCATED: Final = frozenset({"PREPARE"})
_DISCARDED: Final = _DEALLOCATED | {
    HELD_CURSORS,
    "LISTEN",
    "holds an advisory lock",
    SEQUENCE_PIN,
    "session advisory lock",
    UNTOLD_SETTINGS,
    "temporary object",
    "temporary schema",
    "temporary table",
}
"""What DISCARD ALL ends, in the words of `sql.pins`; not what LOAD, setseed or dblink leave."""


class Settlement(Link):
    """See the module's docstring."""

    def _note_errors(self) -> None:
        relay, backend = self._relay, self.backend
        assert backend is not None
        counters = self._context.counters
        for body in relay.errors:
            fields = errors.error_fields(body)
            counters.errors[fields.get("C", "XX")[:2]] += 1
            if fields.get("R") == errors.CHANGED_RESULT and self._batch is not None:
                self._forget_prepared(self._batch)
        for ack in reversed(relay.failed_acks):
            if ack.evicts is not None:
                backend.prepared[ack.evicts] = None
            if ack.describes:
                self._forget(ack.prepared)
                continue
            if ack.prepared is not None and ack.replaces:
                self._forget(ack.prepared)
            elif ack.prepared is not None and ack.action != AS_PARSE and not ack.closes:
                backend.prepared.pop(ack.prepared.name, None)
            self._session.undo_name(ack)
        backend.unnamed = None
        if self._batch is not None:
            self._session.doubt_names(self._batch)

    def _forget_prepared(self, batch: Batch) -> None:
        """What the batch names is outdated on this backend: it must be parsed anew."""
        assert self.backend is not None
        self.backend.unnamed = None
        for reference in batch.references or ():
            self._forget(reference.prepared)

    def _forget(self, prepared: Prepared | None) -> None:
        backend = self.backend
        assert backend is not None
        if prepared is not None and prepared.name in backend.prepared:
            backend.prepared[prepared.name] = STALE

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
            pins = self._pins_of(plan) if plan.pins is not None else None
            if pins is not None and self._took_hold(plan):
                self._pin(pins)
            elif pins is not None and outlives_errors(pins):
                self._client.transaction.leaves = self._client.transaction.effects = True
            if plan.deallocates_all and not relay.errors:
                backend.prepared.clear()
                backend.unnamed = None
                self._session.forget_statements()
                self._unpin(_DISCARDED if plan.kind == "discard" else _DEALLOCATED)
                if plan.kind == "discard":
                    self._sequences.forget()
                    backend.sequences = None
            if plan.ends and self._ran_alone():
                self._unpin(plan.ends)
        facts.in_transaction = relay.status != IDLE
        if relay.status == IDLE and self._wrote():
            tables = frozenset(self._client.transaction.writes)
            self._client.wrote_at = self._context.writes.tick(tables)
            if self._sequences.wrote(backend):
                self._pin(SEQUENCE_PIN)

    def _pin(self, reason: str) -> None:
        """The backend stays with the session."""
        self._pins.add(reason)
        self._client.facts.pinned = self._client.facts.pinned or reason

    def _pins_of(self, plan: Plan) -> str | None:
        """Why the plan keeps its backend, as things are: LISTEN does only where nobody else
        listens for the session."""
        listening = self._session.listening
        if listening is None or plan.pins is None or "LISTEN" not in plan.pins:
            return plan.pins
        return relieved(plan.pins, "LISTEN", listening.unshared)

    def _unpin(self, gone: frozenset[str]) -> None:
        """State of these kinds is no more; without any the backend need not be kept."""
        self._pins = {reason for reason in self._pins if not is_over(reason, gone)}
        if not self._keeps_backend:
            self._client.facts.pinned = min(self._pins, default=None)

    def _ran_alone(self) -> bool:
        """Whether one statement, outside a transaction, has run to its end."""
        relay, batch = self._relay, self._batch
        if relay.errors or relay.status != IDLE or self._client.facts.in_transaction:
            return False
        executed = batch is not None and (batch.end == QUERY or _EXECUTE in batch.shape)
        return executed and len(self._plans) == 1

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
        listening = self._session.listening
        if listening is not None and relay.status == IDLE and passed[-6:-1] == _READY:
            passed = passed[:-6] + listening.take() + passed[-6:]
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
            self._count_unfinished()
            if self._client.transaction.restores:
                self._restore_within()
            else:
                self._session.idle()

    def _restore_within(self) -> None:
        """A RESET in a transaction gave the server's default where the client has its own."""
        client = self._client
        sql = settings_sync.restoration(client.transaction, client.startup_settings)
        if sql and self._relay.status == IN_TRANSACTION:
            self._ask(sql, self._restored_within)
        else:
            self._session.idle()

    def _restored_within(self, exchange: Exchange) -> None:
        self._pass_statuses(exchange.statuses)
        if self._abandoned:
            self._unlink(discard=True)
            self._settle()
        elif exchange.error is not None:
            self._session.fatal(exchange.error)
        else:
            self._session.idle()

    def _count_unfinished(self) -> None:
        """The transaction goes on. Note the time for which it has waited for this statement."""
        transaction, started = self._client.transaction, self._session.started
        counters = self._context.counters
        counters.unfinished += 1
        if transaction.ready_at:
            counters.gap_seconds += max(0.0, started - transaction.ready_at)
        transaction.ready_at = clock.now()

    def _settle(self) -> None:
        """The transaction is over: read back settings that may have changed, then let go."""
        client, context = self._client, self._context
        transaction = client.transaction
        if transaction.schema_changes:
            context.prepared.retire()
        for _ in range(transaction.schema_changes):
            context.catalogue.schema_change_ends()
        if transaction.ready_at:
            gap = self._session.started - transaction.ready_at
            context.counters.gap_seconds += max(0.0, gap)
            transaction.ready_at = 0.0
        if transaction.effects:
            client.transaction = Transaction()
        if self.backend is None:
            if transaction.changed_settings and not transaction.failed:
                self._session.fatal(_SETTINGS_UNKNOWN)
            self._session.idle()
            return
        self._leaves = transaction.leaves and not self._keeps_backend
        if self._abandoned and (self._leaves or transaction.changed_settings):
            self._unlink(discard=True)
            return
        if transaction.changed_settings:
            known = self._known_settings(transaction)
            if known is None:
                self._read_back(transaction)
                return
            self._take_settings(known)
        self._keep_settings()

    def _known_settings(
        self, transaction: Transaction
    ) -> tuple[SettingsState, SettingsState] | None:
        if self._relay.errors:
            return None
        client = self._client
        return settings_sync.without_asking(
            self._plans, transaction, client.settings, client.startup_settings
        )

    def _read_back(self, transaction: Transaction) -> None:
        client = self._client
        certain = not self._relay.errors and settings_sync.sets_alone(self._plans, transaction)
        current, startup = client.settings, client.startup_settings
        sql = settings_sync.question(transaction, current, startup, certain)
        self._reading_back = True
        self._ask(sql, lambda exchange: self._settings_read(transaction, exchange, certain))

    def _settings_read(self, transaction: Transaction, exchange: Exchange, certain: bool) -> None:
        client = self._client
        self._reading_back = False
        if exchange.error is not None:
            self._session.fatal(exchange.error)
            return
        self._take_settings(
            settings_sync.after(
                transaction, client.settings, client.startup_settings, exchange, certain
            )
        )
        self._keep_settings()

    def _keep_settings(self) -> None:
        """A backend that stays with the session gets the state back that a RESET took from it."""
        if self._leaves:
            self._leaves, self._reading_back = False, True
            self._ask(leftovers.QUESTION, self._leftovers_told)
            return
        backend, client = self.backend, self._client
        stays = (client.facts.pinned is not None or self._keeps_backend) and not self._abandoned
        if backend is None or not stays or backend.settings is client.settings:
            self._let_go()
        else:
            self._ask(difference(backend.settings, client.settings), self._settings_kept)

    def _leftovers_told(self, exchange: Exchange) -> None:
        self._reading_back = False
        if exchange.error is not None:
            self._session.fatal(exchange.error)
            return
        for reason in leftovers.reasons(exchange.rows):
            self._pin(reason)
        self._keep_settings()

    def _settings_kept(self, exchange: Exchange) -> None:
        assert self.backend is not None
        if exchange.error is None:  # else a role that it has taken on may not set what it did
            self._pass_statuses(exchange.statuses)
            self.backend.settings = self._client.settings
            self._misinformed = False
        self._let_go()

    def _take_settings(self, states: tuple[SettingsState, SettingsState]) -> None:
        """Note what the session's and its backend's settings are now."""
        assert self.backend is not None
        self._client.settings, self.backend.settings = states
        self._misinformed = self._misinformed or states[0] is not states[1]
        self._client.learn_settings()

    def _let_go(self) -> None:
        """Give the backend back unless the session keeps it, and go on."""
        if self._abandoned:
            self._part()
        elif self._listened and self.backend is not None:
            self._freeing = True
            self._ask(b"UNLISTEN *", self._unlistened)
            return
        elif self._client.facts.pinned is None and not self._keeps_backend:
            self._unlink(discard=False)
        self._session.idle()

    def _unlistened(self, exchange: Exchange) -> None:
        """The backend has been freed of LISTENs that are served elsewhere."""
        self._listened = self._freeing = False
        if exchange.error is not None:
            self._session.fatal(exchange.error)
        else:
            self._let_go()

    @property
    def _rests(self) -> bool:
        """Whether a pinned backend has nothing under way for the client."""
        return (
            self._relay.done
            and self._client.facts.pinned is not None
            and self._client.transaction.status == IDLE
            and not (self._settling or self._copying or self._draining or self._aside)
        )

    def _part(self) -> None:
        """The client has gone, outside a transaction: leave its backend as others expect it."""
        cleanable = all(is_over(reason, _DISCARDED) for reason in self._pins)
        if self._keeps_backend and cleanable:
            self._unlink(discard=False, clean_with=self.pooling.reset_query)
        elif self._keeps_backend or not cleanable:
            self._unlink(discard=True)
        else:
            clean = bool(self._pins) or self._listened
            self._unlink(discard=False, clean_with=DISCARD_ALL if clean else None)

    def roll_back(self, done: Callable[[], None]) -> None:
        """End a transaction that has failed for the client, whatever the server thinks of it."""

        def rolled_back(exchange: Exchange | None) -> None:
            self._relay.status = IDLE
            if exchange is not None:
                self._pass_statuses(exchange.statuses)
            self._client.facts.in_transaction = False
            done()
            transaction = self._client.transaction
            self._client.transaction = Transaction()
            if self._session.listening is not None:
                self._session.listening.rolled_back()
            self._move_after(transaction.outdates, transaction.planned)
            transaction.touched.clear()
            self._client.transaction = transaction
            transaction.effects = True
            self._settle()

        if self.backend is None:
            rolled_back(None)
        else:
            self._ask(b"ROLLBACK", rolled_back)

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

        self._invalidate(cache, moved)
