"""Cancel requests to servers: a connection of their own for each.

Source: PostgreSQL documentation, "Canceling Requests in Progress".
"""

import asyncio
from collections.abc import Callable

import structlog

from proxy.net.channel import Channel, ChannelProtocol
from proxy.net.dialing import connect
from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.tasks import spawn
from proxy.wire.startup import encode_cancel

log = structlog.get_logger(__name__)

_TIMEOUT = 5.0


def cancel_on_server(backend: Backend, pool: Pool, taken: Callable[[], None] | None = None) -> None:
    """Cancel what `backend` runs. Until the server has taken the request the pool keeps the
    backend back, so that nobody else's query can be hit; then `taken` is called."""
    backend.pending_cancels += 1
    spawn(_cancel(backend, pool, taken), f"cancel on {backend.node.name}")


class _Request(ChannelProtocol):
    """Sends the request, and waits for the server to close: it has sent the signal then."""

    def __init__(self, packet: bytes) -> None:
        self._packet = packet
        self.channel: Channel | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Channel) -> None:
        self.channel = transport
        transport.write(self._packet)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def _cancel(backend: Backend, pool: Pool, taken: Callable[[], None] | None) -> None:
    address, transport = backend.node.address, backend.transport
    # The key goes the way that the connection went which it belongs to.
    encrypted = transport is not None and bool(transport.get_extra_info("tls"))
    request = _Request(encode_cancel(backend.process_id, backend.secret))
    try:
        async with asyncio.timeout(_TIMEOUT):
            await connect(address.host, address.port, request, address.dialing, encrypted)
            await request.over
    except (OSError, TimeoutError) as error:
        log.warning(
            "a cancel request did not reach its server", node=backend.node.name, error=error
        )
    finally:
        if request.channel is not None:
            request.channel.close()
        pool.cancel_arrived(backend)
        if taken is not None:
            taken()
