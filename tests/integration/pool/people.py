"""Clients of pools, and what the servers know of the pools' connections."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from tests.databases import superuser_connection
from tests.integration.session.raw import LoginRefused, RawClient
from tests.proxies import Proxy

PASSWORD = "between friends"


class Roles(NamedTuple):
    """Names of two roles."""

    ann: str
    bob: str


@dataclass(frozen=True, slots=True)
class Pooled:
    """A proxy whose pools are looked at."""

    proxy: Proxy
    roles: Roles

    async def login(
        self, user: str | None = None, database: str | None = None, **parameters: str
    ) -> RawClient:
        """A client, by default of the application's role."""
        password = None if user is None else PASSWORD
        return await RawClient.login(
            self.proxy, user=user, password=password, database=database, **parameters
        )

    @contextlib.asynccontextmanager
    async def client(
        self, user: str | None = None, database: str | None = None, **parameters: str
    ) -> AsyncIterator[RawClient]:
        """The same for a block."""
        found = await self.login(user, database, **parameters)
        try:
            yield found
        finally:
            await found.leave()

    @contextlib.asynccontextmanager
    async def holding(
        self, user: str | None = None, database: str | None = None
    ) -> AsyncIterator[RawClient]:
        """A client that keeps a server connection by an open transaction."""
        async with self.client(user, database) as found:
            assert (await found.query("BEGIN")).status == "T"
            yield found

    def backends(self, condition: str = "true") -> list[int]:
        """Process ids of pooled connections to the module's database on the primary."""
        database = self.proxy.database
        names = [database.user, *self.roles]
        with superuser_connection(database.stack.primary) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usename = ANY(%s) "
                f"AND application_name = '' AND ({condition}) ORDER BY backend_start",
                [database.name, names],
            ).fetchall()
        return [row[0] for row in rows]

    async def becomes(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        """Wait for it. Raises AssertionError."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < deadline, f"backends: {self.backends()}"
            await asyncio.sleep(0.02)


async def backend_of(one: RawClient) -> int:
    """The process id that serves it now."""
    return int((await one.query("SELECT pg_backend_pid()")).value or 0)


async def refusal(login: Awaitable[RawClient]) -> dict[str, str]:
    """The fields of the ErrorResponse that a login gets."""
    try:
        await (await login).leave()
    except LoginRefused as refused:
        return refused.fields
    raise AssertionError("was let in")


class Elapsed:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._start
