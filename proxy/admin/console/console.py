"""The virtual databases: who may enter, and everybody who is in."""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import structlog

from proxy.admin.console.client import ConsoleClient
from proxy.admin.console.gather import endpoints
from proxy.admin.console.overview import Overview
from proxy.admin.console.snapshot import ClientState
from proxy.config.settings import AuthSettings
from proxy.net.channel import Channel
from proxy.session.registry import Registry
from proxy.tasks import spawn
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

NAMES: Final = ("penstock", "pgbouncer")
"""Databases that are the console; the second is for tools that were made for PgBouncer."""

MOST_CLIENTS: Final = 100
_PERIOD_SECONDS: Final = 60.0


class AdminConsole:
    """Implements `proxy.session.login.Console`. Needs a running event loop."""

    def __init__(self, insight: Overview, registry: Registry) -> None:
        self._insight = insight
        self._registry = registry
        self._clients: dict[ConsoleClient, tuple[float, asyncio.Task[None]]] = {}
        if open_to_all(insight.settings.auth):
            log.warning(
                "everyone may use the admin console: auth.method is trust, auth.admins is empty",
                databases=NAMES,
            )
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_PERIOD_SECONDS, self._period_over)

    def admit(self, user: str) -> PgError | None:
        """None if `user` may enter."""
        refusal = may_enter(user, self._insight.settings.auth)
        if refusal is not None:
            return refusal
        return self.full

    @property
    def full(self) -> PgError | None:
        """What to tell one client too many; None while there is room."""
        if len(self._clients) < MOST_CLIENTS:
            return None
        return PgError(
            errors.TOO_MANY_CONNECTIONS,
            f"the admin console has {MOST_CLIENTS} clients already",
            "close those that are no longer needed",
        )

    def take_over(self, transport: Channel, user: str, unread: bytes) -> None:
        """Serve a client that has been admitted."""
        client = ConsoleClient(transport, user, self._insight, self._left)
        process_id, secret = self._registry.add_other(client.cancel)
        task = spawn(client.serve(process_id, secret, unread), "admin console")
        self._clients[client] = (time.time(), task)
        task.add_done_callback(lambda _: self._registry.remove_other(process_id))

    def _left(self, client: ConsoleClient) -> None:
        """What the client has asked for is finished all the same: half a CLEAR helps nobody."""
        self._clients.pop(client, None)

    def states(self) -> Iterator[ClientState]:
        """Its clients, as SHOW CLIENTS has them."""
        for client, (connected_at, _) in self._clients.items():
            yield ClientState(
                id(client),
                client.user,
                NAMES[0],
                "active",
                endpoints(client.channel),
                connected_at,
            )

    def _period_over(self) -> None:
        spawn(self._end_period(), "averages")
        self._timer = self._loop.call_later(_PERIOD_SECONDS, self._period_over)

    async def _end_period(self) -> None:
        await self._insight.look("show stats")
        self._insight.end_period()

    def close(self) -> None:
        """Tell every client that it is over."""
        self._timer.cancel()
        for client, (_, task) in list(self._clients.items()):
            client.end(
                PgError(errors.ADMIN_SHUTDOWN, "terminating connection: Penstock is shutting down")
            )
            task.cancel()


def may_enter(user: str, auth: AuthSettings) -> PgError | None:
    """None if `user` is an administrator, or else what to tell him."""
    if open_to_all(auth) or user in auth.admins:
        return None
    return PgError(
        errors.INSUFFICIENT_PRIVILEGE,
        f'user "{user}" may not use the admin console',
        f'add "{user}" to auth.admins in the configuration, or connect to another database',
    )


def open_to_all(auth: AuthSettings) -> bool:
    """Nobody has to prove who he is, and nobody is named: then everyone is an administrator."""
    return auth.method == "trust" and not auth.admins
