"""One client of the console, from its login to its end: messages in, answers out.

A client is served by one task, a message at a time. The console is no data path: it is written
to be read, and holds no more than one message and its answer in memory.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from proxy.admin.console import messages as frontend
from proxy.admin.console.commands import PARAMETERS, Reply, calls, run
from proxy.admin.console.overview import Overview
from proxy.admin.console.parsing import Call
from proxy.admin.console.rows import Row, data_row, formats_of, row_description
from proxy.net.channel import Channel
from proxy.net.listening import listen_to
from proxy.tasks import spawn
from proxy.wire import errors
from proxy.wire.errors import PgError, ProtocolViolation, notice_response
from proxy.wire.messages import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    EMPTY_QUERY,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    READY_IDLE,
    READY_IN_TRANSACTION,
    backend_key_data,
    command_complete,
    parameter_status,
)

log = structlog.get_logger(__name__)

MOST_BYTES: Final = 1 << 20
"""Of one message; commands are short."""
_READ_AHEAD: Final = 64 * 1024
_MOST_NAMES: Final = 1000
_INVALID_CURSOR_NAME: Final = "34000"
_PORTAL_SUSPENDED: Final = b"s\0\0\0\4"
_KNOWN: Final = frozenset(b"QPBDECHSXFcdf")


@dataclass(slots=True)
class Portal:
    """A call that may be executed, and what is left of its rows once it has begun."""

    call: Call | None
    """None: an empty query."""
    formats: tuple[int, ...]
    rows: list[Row] | None = None
    sent: int = 0


class ConsoleClient:
    """See the module's docstring. `ended` is called once, when the connection is over."""

    def __init__(
        self,
        channel: Channel,
        user: str,
        insight: Overview,
        ended: Callable[["ConsoleClient"], None],
    ) -> None:
        self.channel = channel
        self.user = user
        self._insight = insight
        self._ended = ended
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._statements: dict[str, Call | None] = {}
        self._portals: dict[str, Portal] = {}
        self._in_transaction = False
        """As the client believes; portals live until its end. Nothing is ever undone by one."""
        self._skipping = False
        """After an error messages are ignored until Sync."""
        self._over = False
        self._running: asyncio.Task[Reply | PgError] | None = None

    # The channel's side

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _READ_AHEAD:
            self.channel.pause_reading()
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._arrived.set()
        self._writable.set()
        self._ended(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # The task

    async def serve(self, process_id: int, secret: bytes, unread: bytes) -> None:
        """Welcome the client and answer it until it leaves."""
        listen_to(self.channel, self)
        statuses = [parameter_status(*pair) for pair in PARAMETERS.items()]
        self._write(b"".join((*statuses, backend_key_data(process_id, secret), READY_IDLE)))
        if unread:
            self.data_received(unread)
        try:
            while (received := await self._next()) is not None:
                await self._answer(*received)
                await self._writable.wait()
        except ProtocolViolation as violation:
            self.end(PgError(errors.PROTOCOL_VIOLATION, str(violation)))
        except Exception:
            self.end(PgError(errors.INTERNAL_ERROR, "the console has failed: see Penstock's log"))
            raise

    def end(self, error: PgError) -> None:
        """Tell the client why, and close."""
        self._write(error.encode("FATAL"))
        self._over = True
        self.channel.close()

    async def _next(self) -> tuple[int, bytes] | None:
        """(type, body) of the next message; None at the end. Raises ProtocolViolation."""
        while not self._over:
            if len(self._buffer) >= 5:
                kind, length = self._buffer[0], int.from_bytes(self._buffer[1:5])
                if kind not in _KNOWN or not 4 <= length <= MOST_BYTES:
                    raise ProtocolViolation(
                        f"message {chr(kind)!r} of {length} bytes: the console takes queries of "
                        f"{MOST_BYTES} bytes at most"
                    )
                if len(self._buffer) > length:
                    body = bytes(self._buffer[5 : length + 1])
                    del self._buffer[: length + 1]
                    return kind, body
            self.channel.resume_reading()
            self._arrived.clear()
            await self._arrived.wait()
        return None

    def _write(self, data: bytes) -> None:
        if not self._over:
            self.channel.write(data)

    # Messages

    async def _answer(self, kind: int, body: bytes) -> None:
        letter = chr(kind)
        if letter == "X":
            self._over = True
            self.channel.close()
        elif letter == "S":
            self._skipping = False
            self._ready()
        elif not self._skipping:
            try:
                await self._dispatch(letter, body)
            except PgError as error:
                self._write(error.encode())
                if letter == "Q":
                    self._ready()
                else:
                    self._skipping = True

    async def _dispatch(self, letter: str, body: bytes) -> None:
        """Raises PgError for what the client is to be told, and ProtocolViolation."""
        match letter:
            case "Q":
                await self._query(frontend.query(body))
            case "P":
                self._parse(frontend.parse(body))
            case "B":
                self._bind(frontend.bind(body))
            case "D":
                self._describe(frontend.named("Describe", body))
            case "E":
                await self._execute(frontend.execute(body))
            case "C":
                self._close(frontend.named("Close", body))
            case "F":
                raise PgError(errors.FEATURE_NOT_SUPPORTED, "the console calls no functions")
            case _:  # Flush: answers are never held back; COPY's messages outside of it are ignored
                pass

    async def _query(self, text: str) -> None:
        self._statements.pop("", None)
        found = calls(text)
        for call in found:
            rows = await self._run(call)
            if call.columns:
                self._write(row_description(call.columns))
            await self._send_rows(call, rows, ())
            self._write(command_complete(_tag(call, len(rows))))
        if not found:
            self._write(EMPTY_QUERY)
        self._ready()

    def _ready(self) -> None:
        if self._in_transaction:
            self._write(READY_IN_TRANSACTION)
        else:
            self._portals.clear()
            self._write(READY_IDLE)

    async def _run(self, call: Call) -> Sequence[Row]:
        if call.tag in ("BEGIN", "START TRANSACTION"):
            self._in_transaction = True
        elif call.tag in ("COMMIT", "ROLLBACK"):
            self._in_transaction = False
        self._running = task = spawn(self._outcome(call), "admin command")
        try:
            reply: Reply | PgError = await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise PgError(errors.QUERY_CANCELED, "canceled on user's request") from None
        finally:
            self._running = None
        if isinstance(reply, PgError):
            raise reply
        for notice in reply.notices:
            self._write(notice_response(notice))
        return reply.rows

    async def _outcome(self, call: Call) -> Reply | PgError:
        try:
            return await run(call, self._insight)
        except PgError as error:
            return error

    def cancel(self) -> None:
        """End what waits, such as PAUSE; what it began is undone."""
        if self._running is not None:
            self._running.cancel()

    async def _send_rows(self, call: Call, rows: Sequence[Row], formats: tuple[int, ...]) -> None:
        for start in range(0, len(rows), 100):
            chunk = rows[start : start + 100]
            self._write(b"".join(data_row(call.columns, row, formats) for row in chunk))
            await self._writable.wait()

    def _parse(self, parse: frontend.Parse) -> None:
        if parse.name and parse.name in self._statements:
            raise PgError(
                errors.DUPLICATE_PREPARED_STATEMENT,
                f'prepared statement "{parse.name}" already exists',
            )
        if len(self._statements) >= _MOST_NAMES:
            raise PgError(
                errors.PROGRAM_LIMIT_EXCEEDED,
                f"more than {_MOST_NAMES} prepared statements in the console",
                "close those that are no longer needed",
            )
        found = calls(parse.text)
        if len(found) > 1:
            raise PgError(
                errors.SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement"
            )
        self._statements[parse.name] = found[0] if found else None
        self._write(PARSE_COMPLETE)

    def _statement(self, name: str) -> Call | None:
        if name not in self._statements:
            raise PgError(
                errors.INVALID_SQL_STATEMENT_NAME, f'prepared statement "{name}" does not exist'
            )
        return self._statements[name]

    def _bind(self, bind: frontend.Bind) -> None:
        call = self._statement(bind.statement)
        if bind.parameters:
            raise PgError(
                errors.PROTOCOL_VIOLATION,
                f"bind message supplies {bind.parameters} parameters, but console commands take 0",
            )
        if call is not None and call.columns:
            try:
                formats_of(call.columns, bind.result_formats)
            except ValueError as error:
                raise PgError(errors.PROTOCOL_VIOLATION, str(error)) from None
        if len(self._portals) >= _MOST_NAMES:
            raise PgError(errors.PROGRAM_LIMIT_EXCEEDED, f"more than {_MOST_NAMES} open portals")
        self._portals[bind.portal] = Portal(call, bind.result_formats)
        self._write(BIND_COMPLETE)

    def _portal(self, name: str) -> Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise PgError(_INVALID_CURSOR_NAME, f'portal "{name}" does not exist')
        return portal

    def _describe(self, what: frontend.Named) -> None:
        formats: tuple[int, ...] = ()
        if what.kind == "S":
            call = self._statement(what.name)
            self._write(NO_PARAMETERS)
        else:
            portal = self._portal(what.name)
            call, formats = portal.call, portal.formats
        has_rows = call is not None and call.columns
        self._write(row_description(call.columns, formats) if call and has_rows else NO_DATA)

    async def _execute(self, execute: frontend.Execute) -> None:
        portal = self._portal(execute.portal)
        call = portal.call
        if call is None:
            self._write(EMPTY_QUERY)
            return
        if portal.rows is None:
            portal.rows = list(await self._run(call))
        most = execute.most_rows if execute.most_rows > 0 else len(portal.rows)
        rows = portal.rows[portal.sent : portal.sent + most]
        portal.sent += len(rows)
        await self._send_rows(call, rows, portal.formats)
        if portal.sent < len(portal.rows):
            self._write(_PORTAL_SUSPENDED)
        else:
            self._write(command_complete(_tag(call, len(rows))))

    def _close(self, what: frontend.Named) -> None:
        (self._statements if what.kind == "S" else self._portals).pop(what.name, None)
        self._write(CLOSE_COMPLETE)


def _tag(call: Call, rows: int) -> str:
    return call.tag if call.tag != "CLEAR" else f"CLEAR {rows}"
