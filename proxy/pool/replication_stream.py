"""A replication connection of Penstock's own: commands first, then a stream in both directions."""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.pool.backend import Backend, Borrower
from proxy.pool.connections import Connections
from proxy.wire import errors, messages
from proxy.wire.errors import PgError

_COPY_DATA: Final = 100
_COPY_BOTH: Final = 87
_ERROR: Final = 69
_COPY_DONE: Final = 99
_LARGEST: Final = 1 << 30
"""Bytes of a message; PostgreSQL allocates no more than this for one."""


async def open_connection(
    connections: Connections, application_name: str, replication: bool
) -> Backend:
    """A connection beside the pool's, for logical replication or for queries. Raises PgError."""
    parameters = {"application_name": application_name}
    if replication:
        parameters["replication"] = "database"
    return await connections.open(parameters, _nothing)


class ReplicationStream(Borrower):
    """Streams from `backend` once `started` is done; `received` gets the content of each CopyData.

    `lost` holds the reason once the stream has ended."""

    def __init__(self, backend: Backend, command: str, received: Callable[[bytes], None]) -> None:
        self.lost: PgError | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._backend = backend
        self._received = received
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []
        """The beginning of a message, as it came."""
        self._missing = 0
        """Bytes to come before it is worth a look."""
        self._paused = False
        assert backend.transport is not None
        backend.owner = self
        backend.transport.write(messages.query(command))

    async def started(self) -> None:
        """Return when the server streams. Raises PgError where it says no."""
        await self._started

    def send(self, copy_data: bytes) -> None:
        """Send a CopyData message."""
        transport = self._backend.transport
        if transport is not None and self.lost is None:
            transport.write(copy_data)

    def hold(self, paused: bool) -> None:
        """Read no more for now, or again."""
        transport = self._backend.transport
        if transport is None or self.lost is not None or paused == self._paused:
            return
        self._paused = paused
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def close(self) -> None:
        """End it; the server notices that the connection is gone."""
        self._lose(PgError(errors.ADMIN_SHUTDOWN, "closed by Penstock"))
        self._backend.owner = None
        if self._backend.transport is not None:
            self._backend.transport.abort()

    def backend_data(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:  # a large row: joined once, not with every piece
                return
            data = b"".join(self._parts)
            self._parts.clear()
        position, size = 0, len(data)
        while self.lost is None:
            if size - position < 5:
                self._missing = 5 - (size - position)
                break
            length = int.from_bytes(data[position + 1 : position + 5])
            if length < 4 or length > _LARGEST:
                self._fail(PgError(errors.PROTOCOL_VIOLATION, f"a message of {length} bytes"))
                return
            end = position + 1 + length
            if end > size:
                self._missing = end - size
                break
            kind = data[position]
            if kind == _COPY_DATA:
                self._received(data[position + 5 : end])
            else:
                self._other(kind, data[position + 5 : end])
            position = end
        if position < size:
            self._parts.append(data[position:])

    def _other(self, kind: int, body: bytes) -> None:
        if kind == _COPY_BOTH:
            if not self._started.done():
                self._started.set_result(None)
        elif kind == _ERROR:
            self._fail(errors.from_fields(errors.error_fields(body)))
        elif kind == _COPY_DONE:
            self._fail(PgError(errors.CONNECTION_FAILURE, "the server ended the stream"))

    def _fail(self, error: PgError) -> None:
        self._lose(error)
        self._backend.sever(error)

    def _lose(self, error: PgError) -> None:
        if self.lost is not None:
            return
        self.lost = error
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # whoever waits gets it; nobody need
        if not self.ended.done():
            self.ended.set_result(None)

    def backend_lost(self, error: PgError) -> None:
        self._lose(error)

    def backend_congested(self, congested: bool) -> None:
        pass  # a status now and then


def _nothing(backend: Backend) -> None:
    """The owner hears of its end."""
