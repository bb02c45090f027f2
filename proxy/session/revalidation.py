"""Prepared statements stay what their clients were told they are, whichever server runs them.

A client decodes rows by the description it was given once. So a statement that Penstock prepares
on another server is described there before any of its rows is passed on; where the answer differs
the client gets what PostgreSQL says on a single connection, and prepares again. A Parse of the
client's own gets what the server has now.
"""

from typing import Final

from proxy.pool.description import STALE, Description
from proxy.pool.exchange import Exchange
from proxy.session import states
from proxy.session.batch import (
    AS_PARSE,
    CLOSES,
    FLUSH,
    FORWARD,
    OVERFLOW,
    QUERY,
    REQUIRES,
    Ack,
    Batch,
    Reference,
    provide,
    render,
    unverified,
)
from proxy.session.prepared import Prepared
from proxy.session.relay import Relay
from proxy.session.settlement import Settlement
from proxy.session.transaction import FAILED, IDLE
from proxy.wire import errors, messages
from proxy.wire.errors import PgError

PREPARED_CAPACITY: Final = 500
"""Prepared statements kept on one backend."""
CANCELED: Final = PgError(errors.QUERY_CANCELED, "canceling statement due to user request")
_PORTAL_DESCRIBED: Final = 68
_CHANGED = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "cached plan must not change result type",
    "prepare the statement again",
    "its columns or parameters have other types than the client was told when it prepared it",
    errors.CHANGED_RESULT,
)
_UNSURE = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "cached plan must not change result type",
    "parse the statement again, describe it by itself, or use a named one",
    "the unnamed statement has to be parsed on another server, and what the client was told of "
    "its result is not known",
    errors.CHANGED_RESULT,
)


class Revalidation(Settlement):
    """See the module's docstring."""

    def _send(self) -> None:
        """Send the batch to the linked backend (`Upstream`)."""

    def _rendered(self, batch: Batch) -> tuple[bytes, list[Ack]] | None:
        """The batch made ready for the linked backend; None if that is asked something first, or
        the batch had to be refused."""
        backend = self.backend
        assert backend is not None
        if batch.end == QUERY:
            return (batch.payload, []) if self._has_required(batch) else None
        status, unnamed = self._client.transaction.status, backend.unnamed
        if not (self._plan.reads_only or self.unsynced or status == FAILED):
            doubtful = unverified(batch, backend.prepared, unnamed)
            if doubtful:  # it would have written before its description is seen
                self._verify(doubtful)
                return None
        described = _PORTAL_DESCRIBED in batch.shape
        for reference in batch.references or ():
            if reference.unsure and reference.prepared is not unnamed and not described:
                self._give_up(_UNSURE)
                return None
        afresh = status != IDLE or self.unsynced
        if batch.end in (FLUSH, OVERFLOW) and not self._syncs_early(batch):
            afresh = True
        return render(batch, backend.prepared, unnamed, PREPARED_CAPACITY, afresh)

    def _heals(self, acks: list[Ack] | None) -> bool:
        """Whether a Parse of the client's own was left out: if the server's statement turns out
        to be of another time, the batch is sent again with it."""
        if acks is None or self._client.transaction.status != IDLE:
            return False
        return any(ack.action == AS_PARSE for ack in acks)

    def _await_told(self, batch: Batch) -> None:
        """Note whose description the client gets with this batch without Penstock's reading it."""
        described = _PORTAL_DESCRIBED in batch.shape
        for reference in batch.references or ():
            if reference.unnamed or reference.action in (CLOSES, REQUIRES):
                continue
            told = reference.prepared.description
            learns = described if told is None else told.parameters is None
            if learns:
                self._relay.tells.append(reference)
                self._relay.noteworthy = True

    def _has_required(self, batch: Batch) -> bool:
        """Whether the backend has what an EXECUTE names. If not, it is told first: behind a Parse
        that fails, the server would skip the Query, which is no Sync then."""
        backend = self.backend
        assert backend is not None
        assert backend.transport is not None
        out: list[bytes] = []
        missing = _prepare([one.prepared for one in batch.references or ()], backend.prepared, out)
        if not missing or self.unsynced:
            return True
        out.append(messages.SYNC)
        self._session.state = states.WAITING
        self._preparing = True
        self._exchange = (Exchange(), lambda exchange: self._required(missing, exchange))
        backend.transport.write(b"".join(out))
        return False

    def _required(self, names: list[bytes], exchange: Exchange) -> None:
        backend, canceled = self.backend, self._canceled
        self._preparing = self._canceled = False
        assert backend is not None
        error = CANCELED if canceled else exchange.error
        for name in names:
            backend.prepared[name] = None if exchange.error is None else STALE
        if error is not None or self._abandoned:
            self._give_up(error or CANCELED)
        else:
            self._send()

    def _verify(self, references: list[Reference]) -> None:
        """Ask the backend what these statements are there, then send or refuse the batch."""
        backend = self.backend
        assert backend is not None
        assert backend.transport is not None
        out: list[bytes] = []
        acks: list[Ack] = []
        run = [one.prepared.runs for one in references if one.prepared.runs is not None]
        required = _prepare(run, backend.prepared, out)
        for reference in references:
            name = b"" if reference.unnamed else reference.prepared.name
            has = backend.prepared.get(name, STALE)
            provide(reference.prepared, name, has, name in backend.prepared, out, acks)
        out.append(messages.SYNC)
        self._session.state = states.WAITING
        self._preparing = True
        self._exchange = (
            Exchange(),
            lambda exchange: self._verified(references, required, exchange),
        )
        backend.transport.write(b"".join(out))

    def _verified(
        self, references: list[Reference], required: list[bytes], exchange: Exchange
    ) -> None:
        backend, changed, canceled = self.backend, False, self._canceled
        self._preparing = self._canceled = False
        assert backend is not None
        self._pass_statuses(exchange.statuses)
        backend.unnamed = None
        for name in required:
            backend.prepared[name] = None if exchange.error is None else STALE
        if exchange.error is not None:
            for reference in references:
                if not reference.unnamed:
                    backend.prepared[reference.prepared.name] = STALE
            self._give_up(exchange.error)
            return
        for reference, found in zip(references, exchange.described, strict=True):
            told = reference.prepared.description
            assert told is not None
            if reference.unnamed:
                backend.unnamed = reference.prepared
            else:
                backend.prepared[reference.prepared.name] = found
            changed = changed or not found.agrees(told)
        if canceled:
            self._give_up(CANCELED)
        elif changed:
            backend.unnamed = None
            self._give_up(_CHANGED)
        else:
            self._send()

    def _give_up(self, error: PgError) -> None:
        """Refuse the batch, of which the server has run nothing that counts."""
        if self._abandoned:
            self._unlink(discard=True)
            self._settle()
            return
        idle = self._client.transaction.status == IDLE and not self.unsynced
        if idle and self._client.facts.pinned is None and not self._keeps_backend:
            self._unlink(discard=False)
        self._session.refuse(error)

    def _refuse_changed(self, relay: Relay) -> None:
        """The answer, held back, is that of a statement which the client doesn't know."""
        assert self.backend is not None
        if self._abandoned:
            self._unlink(discard=True)
            self._settle()
            return
        if relay.errors:
            self._note_errors()
        self._note_descriptions()
        self.backend.unnamed = None
        self._early_sync = False
        self._fill = None
        self._client.transaction.status = relay.status
        if len(self._plans) > 1:  # the client can't tell what of its pipeline has been done
            self._session.fatal(_CHANGED)
        else:
            self._give_up(_CHANGED)

    def _prepare_again(self) -> None:
        """The client has parsed a statement of which the backend has an outdated one."""
        backend, batch = self.backend, self._batch
        assert backend is not None
        assert batch is not None
        self._context.counters.retries["a prepared statement was outdated"] += 1
        self._forget_prepared(batch)
        self._early_sync = self.unsynced = False
        self._relay = Relay()
        self._send()

    def _note_descriptions(self) -> None:
        """What statements are on this backend, and what the client has been told they are."""
        backend, relay = self.backend, self._relay
        assert backend is not None
        for ack, found in relay.described:
            statement, name = ack.prepared, ack.client_name
            if statement is None:
                continue
            if name != b"" and statement.name in backend.prepared:
                backend.prepared[statement.name] = found
            if ack.action == FORWARD and name is not None:
                told = statement.told(found)
                self._session.tell(name, statement, told)
                if not name and backend.unnamed is statement:
                    backend.unnamed = told
        for reference in relay.tells:
            has = backend.prepared.get(reference.prepared.name)
            if has is not None and has is not STALE:
                told = reference.prepared.told(has)
                self._session.tell(reference.client_name, reference.prepared, told)


def _prepare(
    statements: list[Prepared], prepared: dict[bytes, Description | None], out: list[bytes]
) -> list[bytes]:
    """Messages that have a backend with `prepared` know these too; the names that it lacks."""
    missing: list[bytes] = []
    for statement in statements:
        name = statement.name
        if prepared.get(name, STALE) is STALE and name not in missing:
            missing.append(name)
            if name in prepared:
                out.append(messages.close_statement(name))
            out.append(messages.parse(name, statement.parse_body))
    return missing
