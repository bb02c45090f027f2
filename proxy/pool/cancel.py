"""Cancel requests to servers: a connection of their own for each.

Source: PostgreSQL documentation, "Canceling Requests in Progress".
"""

import asyncio
from collections.abc import Callable

import structlog

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


async def _cancel(backend: Backend, pool: Pool, taken: Callable[[], None] | None) -> None:
    address = backend.node.address
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(encode_cancel(backend.process_id, backend.secret))
            await reader.read()  # the server closes when the signal has been sent
            writer.close()
    except (OSError, TimeoutError) as error:
        log.warning(
            "a cancel request did not reach its server", node=backend.node.name, error=error
        )
    finally:
        pool.cancel_arrived(backend)
        if taken is not None:
            taken()
