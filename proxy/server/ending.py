"""Waiting: for clients to leave, for transactions to end."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from proxy.admin.console.control import Stop
from proxy.server.running import Running
from proxy.session import states
from proxy.wire import errors
from proxy.wire.errors import PgError

_LOOK_SECONDS = 0.01

TERMINATED: Final = PgError(
    errors.ADMIN_SHUTDOWN, "terminating connection due to administrator command", "connect again"
)


class Ending:
    """The end of a process: first no more clients, then what was asked for, then everything."""

    def __init__(self, process: Running, how: Stop) -> None:
        self.how = how
        self.hurry = False
        """No more waiting."""
        self._process = process

    async def wait_for_clients(self, limit: float | None) -> bool:
        """Until all clients have left, `limit` seconds at most; false where some are left."""
        process, counters = self._process, self._process.counters

        def left() -> bool:
            return not (process.registry or counters.clients or counters.opening)

        return await self._within(limit, left)

    async def wait_for_servers(self, limit: float | None) -> bool:
        """Until no server connection is lent; whoever waits for one is told to leave."""
        process = self._process
        for one in process.databases.values():
            one.pause()

        def released() -> bool:
            for session in process.registry:
                if session.upstream.queued:
                    session.fatal(TERMINATED)
            busy = any(session.state != states.IDLE for session in process.registry)
            return not busy and all(one.pools.released for one in process.all_databases())

        return await self._within(limit, released)

    async def _within(self, limit: float | None, condition: Callable[[], bool]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await until(lambda: self.hurry or condition())
                return condition()
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    while not condition():  # noqa: ASYNC110 - rare, and of many things at once
        await asyncio.sleep(_LOOK_SECONDS)
