"""The parts of a process that RELOAD and SET can change while it runs.

To add one: write a function that prepares its change, and list it in `PARTS` with its keys. A key
that no part lists needs a restart.
"""

import structlog

from proxy.admin import logs
from proxy.auth.load import load_auth
from proxy.auth.problems import AuthError
from proxy.config.settings import Settings
from proxy.net.contexts import TlsError
from proxy.server.reload import Commit, Part, ReloadError
from proxy.server.running import Running

log = structlog.get_logger(__name__)


def _logs(process: Running, settings: Settings) -> Commit:
    async def commit() -> None:
        logs.configure(settings.log)

    return commit


def _security(process: Running, settings: Settings) -> Commit:
    try:
        use = process.security.prepare(settings)
    except TlsError as error:
        raise ReloadError(str(error)) from error

    async def commit() -> None:
        process.renew_connections(use())

    return commit


def _authentication(process: Running, settings: Settings) -> Commit:
    try:
        loaded = load_auth(settings)
    except AuthError as error:
        raise ReloadError(str(error)) from None

    async def commit() -> None:
        if loaded != process.auth.current:
            process.auth.replace(loaded)
            await process.change_databases(settings)
            log.info("authentication changed", users=len(loaded.stored), rules=len(loaded.rules))

    return commit


def _databases(process: Running, settings: Settings) -> Commit:
    async def commit() -> None:
        await process.change_databases(settings)

    return commit


def _reception(process: Running, settings: Settings) -> Commit:
    async def commit() -> None:
        process.receive(settings)

    return commit


def _nothing(process: Running, settings: Settings) -> Commit:
    async def commit() -> None:
        pass  # what reads these reads them from the settings in force

    return commit


PARTS: tuple[Part[Running], ...] = (
    Part(("log",), _logs),
    Part(("client_tls", "server_tls", "database"), _security, always=True),
    Part(("auth", "database"), _authentication, always=True),
    Part(
        (
            "database",
            "pool",
            "limits",
            "auth",
            "routing",
            "cache.rule",
            "cache.feed",
            "server.max_message_size",
        ),
        _databases,
    ),
    Part(
        (
            "auth",
            "database",
            "limits",
            "server.max_client_connections",
            "server.max_opening_connections",
            "server.login_timeout",
        ),
        _reception,
    ),
    Part(("include", "server.shutdown_timeout", "server.drain_timeout"), _nothing),
)
"""In the order in which they are applied."""

LIVE: tuple[str, ...] = tuple(key for part in PARTS for key in part.keys)
