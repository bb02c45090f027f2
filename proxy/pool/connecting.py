"""Opening a server connection: with TLS or without, up to its first ReadyForQuery."""

import asyncio
from collections.abc import Callable

from proxy.net.contexts import TlsRefused
from proxy.net.dialing import attempts, connect
from proxy.pool.backend import Backend
from proxy.topology.node import Node
from proxy.wire.errors import INVALID_AUTHORIZATION, PgError
from proxy.wire.server_login import ServerLogin


async def open_backend(
    node: Node, new_login: Callable[[], ServerLogin], on_lost: Callable[[Backend], None]
) -> Backend:
    """A backend that is ready; `on_lost` is called when it ends. `new_login` makes a login for
    each attempt: the modes allow and prefer may take two.

    Raises OSError, or PgError where the server says no.
    """
    tries = attempts(node.address.dialing.tls.mode, node.address.host)
    for encrypted in tries[:-1]:
        try:
            return await _attempt(node, new_login(), on_lost, encrypted)
        except TlsRefused:
            continue
        except PgError as error:
            if error.sqlstate != INVALID_AUTHORIZATION:  # what pg_hba.conf's refusal has
                raise
    return await _attempt(node, new_login(), on_lost, tries[-1])


async def _attempt(
    node: Node, login: ServerLogin, on_lost: Callable[[Backend], None], encrypted: bool
) -> Backend:
    ready: asyncio.Future[Backend] = asyncio.get_running_loop().create_future()
    handed_over = False

    def is_ready(backend: Backend) -> None:
        if not ready.done():
            ready.set_result(backend)

    def is_lost(backend: Backend, error: PgError) -> None:
        if handed_over:
            on_lost(backend)
        elif not ready.done():
            ready.set_exception(error)

    address = node.address
    backend = Backend(node, login, is_ready, is_lost)
    try:
        await connect(address.host, address.port, backend, address.dialing, encrypted)
        await ready
    except BaseException:
        ready.cancel()
        backend.close()
        raise
    handed_over = True
    return backend
