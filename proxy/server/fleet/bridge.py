"""The console is the supervisor's, its clients come to workers: a bridge carries their bytes."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from proxy.net.channel import Channel
from proxy.net.listening import listen_to
from proxy.tasks import spawn
from proxy.wire.errors import PgError


class RemoteConsole:
    """Implements `proxy.session.login.Console` in a worker.

    `admits` says who may enter; `hand_over` sends the supervisor one end of a pair of sockets, with
    the user's name.
    """

    def __init__(
        self,
        admits: Callable[[str], PgError | None],
        hand_over: Callable[[socket.socket, str], None],
    ) -> None:
        self._admits = admits
        self._hand_over = hand_over

    def admit(self, user: str) -> PgError | None:
        return self._admits(user)

    def take_over(self, transport: Channel, user: str, unread: bytes) -> None:
        near, far = socket.socketpair()
        try:
            self._hand_over(far, user)
        finally:
            far.close()
        bridge = _Bridge(transport)
        listen_to(transport, _Client(bridge))
        spawn(bridge.open(near, unread), "console bridge")


class _Bridge(asyncio.Protocol):
    """The supervisor's side."""

    def __init__(self, client: Channel) -> None:
        self._client = client
        self._waiting = b""
        self._transport: asyncio.Transport | None = None
        self._over = False

    async def open(self, sock: socket.socket, unread: bytes) -> None:
        self._waiting = unread + self._waiting
        await asyncio.get_running_loop().create_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._waiting:
            self._transport.write(self._waiting)
        if self._over:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        self._client.resume_reading()

    def send(self, data: bytes) -> None:
        """From the client."""
        if self._transport is None:
            self._waiting += data
        else:
            self._transport.write(data)

    def pause(self, paused: bool) -> None:
        """The client reads more slowly than the supervisor writes, or does no more."""
        if self._transport is not None:
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def close(self) -> None:
        """The client has gone."""
        self._over = True
        if self._transport is not None:
            self._transport.close()


class _Client:
    """The client's side."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def data_received(self, data: bytes) -> None:
        self._bridge.send(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._bridge.close()

    def pause_writing(self) -> None:
        self._bridge.pause(True)

    def resume_writing(self) -> None:
        self._bridge.pause(False)
