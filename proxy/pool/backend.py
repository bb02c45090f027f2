"""One connection to a server: login, then the bytes of whoever owns it.

A backend knows what state its server side is in (settings, prepared statements, transaction
status), so that the next owner can be given exactly its own.
"""

import time
from collections.abc import Callable
from typing import Final

from proxy.net.channel import Channel, ChannelProtocol
from proxy.pool.description import Description
from proxy.pool.settings_state import DEFAULTS, SettingsState
from proxy.topology.node import Node
from proxy.wire import errors
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.messages import TERMINATE
from proxy.wire.server_login import ServerLogin

HIGH_WATER: Final = 256 * 1024
"""Bytes waiting to go out at which the other side is no longer read from."""


class Borrower:
    """Who is lent a backend, or waits for one, and whom its bytes go to meanwhile."""

    def backend_lent(self, backend: "Backend") -> None:
        """The pool's answer: it is yours until you release it."""

    def backend_refused(self, error: PgError) -> None:
        """The pool's answer: there is none to be had."""

    def backend_delayed(self, seconds: float) -> None:
        """The pool's answer takes long: so many seconds up to now."""

    def backend_data(self, data: bytes) -> None:
        """Bytes from the server."""

    def backend_lost(self, error: PgError) -> None:
        """The connection broke; the backend is no longer yours."""

    def backend_failed(self) -> None:
        """A call has raised: what state things are in is not known. `backend_lost` follows."""

    def backend_congested(self, congested: bool) -> None:
        """The server takes less than it is sent, or all again."""

    def backend_returned(self, backend: "Backend", request: bytes) -> None:
        """It has left the fast path, idle; `request` as in `ChannelProtocol.returned`."""


class Backend(ChannelProtocol):
    """A server connection. The pool makes it, lends it, and hears of its end."""

    __slots__ = (
        "_buffer",
        "_login",
        "_on_lost",
        "_on_ready",
        "born",
        "closed",
        "connected_at",
        "idle_since",
        "in_use",
        "node",
        "owner",
        "parameters",
        "pending_cancels",
        "prepared",
        "process_id",
        "secret",
        "sequences",
        "settings",
        "transport",
        "unnamed",
    )

    def __init__(
        self,
        node: Node,
        login: ServerLogin,
        on_ready: Callable[["Backend"], None],
        on_lost: Callable[["Backend", PgError], None],
    ) -> None:
        self.node = node
        self._login: ServerLogin | None = login
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._buffer = b""
        self.transport: Channel | None = None
        self.owner: Borrower | None = None
        self.closed = False
        self.in_use = False
        self.connected_at = self.idle_since = self.born = time.monotonic()
        self.parameters: dict[bytes, bytes] = {}
        self.process_id = 0
        self.secret = b""
        self.settings: SettingsState = DEFAULTS
        self.prepared: dict[bytes, Description | None] = {}
        """Prepared statements by server-side name, first prepared first, and what they are: None
        where nobody has asked, STALE where it must be parsed anew."""
        self.sequences: object | None = None
        """Whose writes were the last: `session.sequences.Sequences`."""
        self.unnamed: object | None = None
        """What the unnamed statement was parsed from."""
        self.pending_cancels = 0
        """Cancel requests on their way: until they have arrived nobody else may get this."""

    def connection_made(self, transport: Channel) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        assert self._login is not None
        self._login.channel_binding = transport.get_extra_info("channel_binding")
        transport.write(self._login.start())

    def data_received(self, data: bytes) -> None:
        owner = self.owner
        if owner is not None:
            owner.backend_data(data)
        else:
            self._unowned(data)

    def _unowned(self, data: bytes) -> None:
        """Messages during login, and those that a server sends to an idle connection."""
        data = self._buffer + data
        position = 0
        try:
            while len(data) - position >= 5:
                end = position + 1 + int.from_bytes(data[position + 1 : position + 5])
                if end > len(data):
                    break
                self._message(data[position], data[position + 5 : end])
                position = end
                if self.closed:
                    return
        except (PgError, ProtocolViolation) as error:
            self._fail(error)
            return
        self._buffer = data[position:]

    def _message(self, kind: int, body: bytes) -> None:
        login = self._login
        if login is not None:
            answer = login.receive(kind, body)
            if answer and self.transport is not None:
                self.transport.write(answer)
            if login.done:
                self._login = None
                self.parameters = login.parameters
                self.process_id, self.secret = login.process_id, login.secret
                self._on_ready(self)
        elif kind == ord("S"):
            name, value = body[:-1].split(b"\0", 1)
            self.parameters[name] = value
        elif kind == ord("E"):
            raise errors.from_fields(errors.error_fields(body))
        elif kind not in (ord("N"), ord("A")):
            raise ProtocolViolation(f"message {chr(kind)!r} on an idle connection")

    def _fail(self, error: PgError | ProtocolViolation) -> None:
        if isinstance(error, ProtocolViolation):
            error = PgError(errors.PROTOCOL_VIOLATION, f"{self.node.name}: {error}")
        self._lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f": {exc}" if exc is not None else ""
        self._lose(
            PgError(
                errors.CONNECTION_FAILURE,
                f"the connection to {self.node.name} ({self.node.address}) was lost{reason}",
                "the statement's outcome is unknown if it was a write; run it again if it was not",
            )
        )

    def _lose(self, error: PgError) -> None:
        if self.closed:
            return
        self.closed = True
        if self.transport is not None:
            self.transport.abort()
        owner, self.owner = self.owner, None
        self._on_lost(self, error)
        if owner is not None:
            owner.backend_lost(error)

    def failed(self) -> None:
        if self.owner is not None:
            self.owner.backend_failed()

    def returned(self, request: bytes) -> None:
        if self.owner is not None:
            self.owner.backend_returned(self, request)

    def pause_writing(self) -> None:
        if self.owner is not None:
            self.owner.backend_congested(True)

    def resume_writing(self) -> None:
        if self.owner is not None:
            self.owner.backend_congested(False)

    def close(self) -> None:
        """Say goodbye and close; the pool is told, an owner is not."""
        if self.closed:
            return
        self.closed = True
        self.owner = None
        if self.transport is not None:
            self.transport.write(TERMINATE)
            self.transport.close()
        self._on_lost(self, PgError(errors.ADMIN_SHUTDOWN, "closed by Penstock"))

    def sever(self, error: PgError) -> None:
        """Close at once; the pool and an owner are told."""
        self._lose(error)

    def returned_bytes(self, data: bytes) -> None:
        """Bytes that came after the last ReadyForQuery of an owner that has let go."""
        if not self.closed:
            self._unowned(data)
