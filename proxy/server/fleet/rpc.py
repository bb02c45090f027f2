"""Calls between the supervisor and a worker over a pair of sockets, both ways.

A frame is its length in four bytes and a pickle: both ends are this program, run by one another.
"""

import asyncio
import pickle
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from proxy.tasks import spawn
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

Handler = Callable[..., Awaitable[Any]]

_CALL: Final = "call"
_DONE: Final = "done"
_REFUSED: Final = "refused"
_FAILED: Final = "failed"


class PeerLost(Exception):
    """The process at the other end has gone; whether it did what it was asked is unknown."""


class PeerFailed(Exception):
    """The other end met an error of its own; its log tells more."""


class Peer:
    """The other end. `handlers`: what it may call here; `lost` is called once, when it has gone."""

    def __init__(self, handlers: Mapping[str, Handler], lost: Callable[[], None]) -> None:
        self._handlers = handlers
        self._lost = lost
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._writer: asyncio.StreamWriter | None = None
        self._running: dict[int, asyncio.Task[None]] = {}

    async def open(self, sock: socket.socket) -> None:
        """Use this end of the pair."""
        reader, self._writer = await asyncio.open_connection(sock=sock)
        spawn(self._read(reader), "fleet")

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()

    async def call(self, name: str, *arguments: Any) -> Any:
        """What the other end's handler returns. Cancelled here, it is cancelled there.

        Raises PgError as the handler did, PeerFailed, and PeerLost.
        """
        self._numbers += 1
        number = self._numbers
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send(_CALL, number, (name, arguments))
        try:
            return await answer
        except asyncio.CancelledError:
            self._send(_CALL, number, None)
            raise
        finally:
            self._waiting.pop(number, None)

    def tell(self, name: str, *arguments: Any) -> None:
        """As `call`, without waiting for what comes of it."""
        self._send(_CALL, 0, (name, arguments))

    def _send(self, kind: str, number: int, content: Any) -> None:
        if self._writer is None or self._writer.is_closing():
            waiting = self._waiting.get(number)
            if waiting is not None and not waiting.done():
                waiting.set_exception(PeerLost())
            return
        data = pickle.dumps((kind, number, content), pickle.HIGHEST_PROTOCOL)
        self._writer.write(len(data).to_bytes(4) + data)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                self._take(*pickle.loads(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(PeerLost())
            for task in self._running.values():
                task.cancel()
            self._lost()

    def _take(self, kind: str, number: int, content: Any) -> None:
        if kind == _CALL:
            if content is None:
                if number in self._running:
                    self._running[number].cancel()
                return
            name, arguments = content
            task = spawn(self._serve(number, name, arguments), f"fleet: {name}")
            if number:
                self._running[number] = task
                task.add_done_callback(lambda _: self._running.pop(number, None))
            return
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if kind == _DONE:
            waiting.set_result(content)
        elif kind == _REFUSED:
            waiting.set_exception(PgError(*content))
        else:
            waiting.set_exception(PeerFailed(content))

    async def _serve(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        try:
            kind, content = _DONE, await self._handlers[name](*arguments)
        except PgError as error:
            kind = _REFUSED
            content = (error.sqlstate, error.message, error.hint, error.detail)
        except Exception as error:
            log.exception("a call between processes failed", call=name)
            kind, content = _FAILED, f"{name}: {error!r}"
        if number:
            self._send(kind, number, content)
