"""A TCP relay in front of a server, by which a test cuts one client off while others go on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_CHUNK = 1 << 16


@dataclass
class Relay:
    """Passes bytes both ways between its own port and another; see `relaying`."""

    host: str
    port: int
    """Of the server."""
    own_port: int = 0
    refusing: bool = False
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    async def cut(self, seconds: float) -> None:
        """Break all connections, and take no new ones for a while."""
        self.refusing = True
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(seconds)
        self.refusing = False

    async def stall(self, seconds: float) -> None:
        """Keep all connections, and pass nothing on for a while; then all that came meanwhile."""
        self.flowing.clear()
        await asyncio.sleep(seconds)
        self.flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        if self.refusing:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, back}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back))
                group.create_task(self._pass(there, writer))
        finally:
            self.writers -= {writer, back}

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                await self.flowing.wait()
                sink.write(data)
                await sink.drain()
        for writer in self.writers:
            if writer is sink:
                writer.close()


@contextlib.asynccontextmanager
async def relaying(host: str, port: int) -> AsyncIterator[Relay]:
    """A relay to this server for a block."""
    relay = Relay(host, port)
    relay.flowing.set()
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.own_port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for writer in relay.writers:
            writer.transport.abort()
