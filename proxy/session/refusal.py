"""Turning a client away before it has logged in."""

import structlog

from proxy.net.channel import Channel
from proxy.topology.counters import Counters
from proxy.wire import errors
from proxy.wire.client_login import AuthenticationFailed
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)


def turn_away(transport: Channel, counters: Counters, error: PgError) -> None:
    """Count it, log it, tell the client why, and close."""
    counters.login_failures[error.sqlstate] += 1
    if error.sqlstate == errors.TOO_MANY_CONNECTIONS:
        counters.clients_refused += 1
    peer = str(transport.get_extra_info("peername"))
    reason = {"reason": error.reason} if isinstance(error, AuthenticationFailed) else {}
    log.info("login refused", sqlstate=error.sqlstate, error=error.message, **reason, peer=peer)
    transport.write(error.encode("FATAL"))
    transport.close()
