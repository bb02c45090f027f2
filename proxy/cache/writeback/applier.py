"""Applies what waits in Redis to PostgreSQL, each write once, in the order of their writing.

The position of the last write that was applied is kept in PostgreSQL and changed in the transaction
that applies it; its row is locked meanwhile. So any process may apply at any time, and one that
dies anywhere leaves nothing half done: the next begins behind what was committed. What was
committed is removed from Redis only when the epochs of what it wrote have moved.

A write that PostgreSQL refuses for good (nothing that `check` could see) goes to the table
`rejected` and the others go on. What may go well later, an outage or a deadlock, is tried again.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from proxy.cache.errors import CacheUnavailable
from proxy.cache.writeback import progress
from proxy.cache.writeback.entry import NOWHERE, Entry, Position, statement
from proxy.cache.writeback.store import Store, Waiting
from proxy.cache.writeback.target import Target, load_targets
from proxy.pool.backend import Backend
from proxy.pool.connections import Connections
from proxy.pool.own_query import ask, exchange
from proxy.wire import errors, messages
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

_PASSING: Final = frozenset({"08", "25", "40", "53", "55", "57", "58", "XX"})
"""Classes of SQLSTATE that say nothing against the write itself."""
_PARAMETERS: Final = {
    "application_name": "penstock write-back",
    "client_encoding": "UTF8",
    # Who holds a row may himself wait for what comes behind it: see `WriteBack.barrier`.
    "lock_timeout": "1s",
    # A process that stands still must not keep the others from applying.
    "idle_in_transaction_session_timeout": "10s",
}
_NO_SCHEMA: Final = frozenset({errors.UNDEFINED_TABLE, errors.INVALID_SCHEMA_NAME})


@dataclass(frozen=True, slots=True)
class Applied:
    """What one round has done. `upto`: all up to there has been applied; `more`: others wait."""

    upto: Position
    count: int
    rejected: int
    more: bool


class Applier:
    """Of one database in one process. `connections`: to its primary as it is now.

    Not for concurrent use. Methods raise PgError and CacheUnavailable; then nothing was done, or
    it is found done the next time."""

    def __init__(self, store: Store, connections: Callable[[], Connections], most: int) -> None:
        self._store = store
        self._connections = connections
        self._most = most
        self._backend: Backend | None = None

    async def close(self) -> None:
        """Close the connection."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    async def targets(self, names: frozenset[str]) -> tuple[Target, ...]:
        """The tables of these names."""
        return await load_targets(await self._connected(), names)

    async def claim(self, stream: str, above: int) -> int:
        """See `writer.Claim`."""
        try:
            answer = await self._ask(progress.claim(stream, above), begins=True)
        except PgError as error:
            if error.sqlstate not in _NO_SCHEMA:
                raise
            message = f"there is no {progress.SCHEMA}.progress: run penstock cache write-back setup"
            raise PgError(error.sqlstate, message) from error
        return int(answer[0][0] or b"0")

    async def apply(self) -> Applied:
        """Apply what waits, no more than so many at once."""
        state = await self._store.read_state()
        if not state.stream:
            return Applied(NOWHERE, 0, 0, False)
        applied, waiting = await self._begin(state.stream)
        new = [one for one in waiting if one.position > applied]
        rejected = 0
        if new:
            names = await self._names({one.entry.table_oid for one in new})
            if not await self._all_at_once(state.stream, new, names):
                applied, waiting = await self._begin(state.stream)
                new = [one for one in waiting if one.position > applied]
                rejected = await self._one_by_one(state.stream, new, names)
        else:
            await self._ask("ROLLBACK")
        if waiting:
            # Of those that were found applied too: who did it may have died before he could.
            await self._store.move({name for one in waiting for name in one.entry.epochs})
            upto = max(applied, waiting[-1].position)
            await self._store.remove(state.generation, waiting[-1].position, time.monotonic())
        else:
            upto = applied
        return Applied(upto, len(new) - rejected, rejected, len(waiting) >= self._most)

    async def _begin(self, stream: str) -> tuple[Position, list[Waiting]]:
        """Open the transaction; how far all has been applied, and what waits in Redis."""
        rows = await self._ask(progress.begin(stream), begins=True)
        if not rows:
            await self._ask("ROLLBACK")
            raise PgError(
                errors.OBJECT_NOT_IN_PREREQUISITE_STATE,
                f"{progress.SCHEMA}.progress knows nothing of the stream {stream}",
                "is this the database that the stream in Redis belongs to?",
            )
        generation, milliseconds, sequence = (int(one or b"0") for one in rows[0])
        try:
            waiting = await self._store.first(self._most)
        except CacheUnavailable:
            await self._ask("ROLLBACK")
            raise
        return Position(generation, milliseconds, sequence), waiting

    async def _names(self, oids: Iterable[int]) -> dict[int, str]:
        rows = await self._ask(progress.relations(oids))
        return {int(oid or b"0"): (name or b"").decode() for oid, name in rows}

    async def _all_at_once(
        self, stream: str, new: Sequence[Waiting], names: dict[int, str]
    ) -> bool:
        """Apply all and commit; False where one of them was refused, and nothing was done."""
        if any(one.entry.table_oid not in names for one in new):
            await self._ask("ROLLBACK")
            return False
        parts: list[bytes] = []
        parsed = b""
        for one in new:
            body = _parse_body(one.entry, names[one.entry.table_oid])
            if body != parsed:
                parts.append(messages.parse(b"", body))
                parsed = body
            parts.append(_execution(one.entry))
        for sql in (progress.advance(stream, new[-1].position), "COMMIT"):
            parts += messages.parse(b"", sql.encode() + b"\0\0\0"), _BARE
        parts.append(messages.SYNC)
        answer = await self._exchange(b"".join(parts))
        if answer is None:
            return True
        await self._ask("ROLLBACK")
        self._raise_passing(answer)
        return False

    async def _one_by_one(self, stream: str, new: Sequence[Waiting], names: dict[int, str]) -> int:
        """Apply each that can be, keep the others for a person to look at; how many those are."""
        rejected = 0
        for one in new:
            error = await self._apply_one(one.entry, names.get(one.entry.table_oid))
            if error is None:
                continue
            rejected += 1
            log.error(
                "an acknowledged write was refused by PostgreSQL",
                table=names.get(one.entry.table_oid, one.entry.table_oid),
                sqlstate=error.sqlstate,
                error=error.message,
                hint=f"it is kept in {progress.SCHEMA}.rejected",
            )
            await self._ask(
                progress.reject(
                    stream,
                    one.position,
                    one.entry.table_oid,
                    one.entry.encode().decode(),
                    error.sqlstate,
                    error.message,
                )
            )
        if new:
            await self._ask(progress.advance(stream, new[-1].position))
        await self._ask("COMMIT")
        return rejected

    async def _apply_one(self, entry: Entry, table: str | None) -> PgError | None:
        """Within the transaction; why the write was refused. Raises PgError for what passes."""
        if table is None:
            return PgError(errors.UNDEFINED_TABLE, "its table is no more")
        await self._ask("SAVEPOINT penstock")
        body = _parse_body(entry, table)
        error = await self._exchange(messages.parse(b"", body) + _execution(entry) + messages.SYNC)
        if error is not None:
            self._raise_passing(error)
            await self._ask("ROLLBACK TO penstock")
        await self._ask("RELEASE penstock")
        return error

    def _raise_passing(self, error: PgError) -> None:
        # A right that the login lacks can be given: nothing is to be thrown away for want of it.
        may_not = error.sqlstate == errors.INSUFFICIENT_PRIVILEGE
        if error.sqlstate[:2] in _PASSING or may_not:
            raise error

    # The connection

    async def _connected(self) -> Backend:
        backend = self._backend
        if backend is None or backend.closed:
            backend = self._backend = await self._connections().open(_PARAMETERS, _nothing)
        return backend

    def _in_transaction(self) -> Backend:
        """The connection that `_begin` was sent over: what follows must not go over another one,
        where the row of the progress is not locked."""
        backend = self._backend
        if backend is None or backend.closed:
            raise PgError(errors.CONNECTION_FAILURE, "the connection to the primary was lost")
        return backend

    async def _ask(self, sql: str, *, begins: bool = False) -> list[list[bytes | None]]:
        """Rows. Whatever goes wrong ends the connection, and the transaction with it."""
        backend = await self._connected() if begins else self._in_transaction()
        try:
            return (await ask(backend, sql.encode())).rows
        except BaseException:
            await self.close()
            raise

    async def _exchange(self, payload: bytes) -> PgError | None:
        """The server's error, if it reports one."""
        backend = self._in_transaction()
        try:
            return (await exchange(backend, payload)).error
        except BaseException:
            await self.close()
            raise


def _nothing(_: Backend) -> None:
    pass


_BARE: Final = b"".join(
    (
        messages.message(b"B", b"\0\0" + b"\0\0" * 3),
        messages.message(b"E", b"\0\0\0\0\0"),
    )
)
"""Runs the unnamed statement without parameters."""


def _parse_body(entry: Entry, table: str) -> bytes:
    oids = [cell.type_oid for cell in (*entry.cells, *entry.keys)]
    types = b"".join(oid.to_bytes(4) for oid in oids)
    return statement(entry, table).encode() + b"\0" + len(oids).to_bytes(2) + types


def _execution(entry: Entry) -> bytes:
    values = [cell.value for cell in (*entry.cells, *entry.keys)]
    body = b"".join(
        b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4) + value for value in values
    )
    bind = b"\0\0" + b"\0\1\0\1" + len(values).to_bytes(2) + body + b"\0\0"
    return messages.message(b"B", bind) + messages.message(b"E", b"\0\0\0\0\0")
