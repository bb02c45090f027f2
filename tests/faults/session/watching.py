"""What the others see while one client or server fails."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from tests.databases import superuser_connection
from tests.integration.session.raw import SYNC, RawClient, run
from tests.proxies import Proxy


@contextlib.asynccontextmanager
async def bystander(proxy: Proxy, statement: str = "SELECT $1::int") -> AsyncIterator[None]:
    """Another client, which is answered rightly throughout the block."""
    other = await RawClient.login(proxy)
    stopping = False

    async def ask() -> int:
        number = 0
        while not stopping:
            number += 1
            reply = await other.ask(run(statement, str(number).encode()), SYNC)
            assert (reply.kinds, reply.value) == ("12DCZ", str(number))
            await asyncio.sleep(0.002)
        return number

    asking = asyncio.ensure_future(ask())
    try:
        yield
    finally:
        stopping = True
        assert await asking > 0
        await other.leave()


def backends(proxy: Proxy, condition: str = "true") -> list[int]:
    """Process ids of the proxy's pooled connections on the primary, outside of its own watching."""
    database = proxy.database
    with superuser_connection(database.stack.primary) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = "
            "'' AND usename = %s AND (" + condition.replace("%", "%%") + ")",
            [database.name, database.user],
        ).fetchall()
    return [row[0] for row in rows]


def terminate(proxy: Proxy, process_id: int) -> None:
    """End a backend as an administrator would, and wait for its end."""
    with superuser_connection(proxy.database.stack.primary) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [process_id])


async def becomes(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait for it. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def healed(proxy: Proxy) -> None:
    """Both connections of the pool can be had at once, and nothing is left open or locked."""
    clean = "state LIKE 'idle in transaction%' OR state = 'active'"
    await becomes(lambda: not backends(proxy, clean), "backends are still busy")
    clients = [await RawClient.login(proxy) for _ in range(2)]
    for each in clients:
        assert (await each.query("BEGIN")).status == "T"
        assert (await each.query("SELECT 1")).value == "1"
    for each in clients:
        assert (await each.query("COMMIT")).status == "I"
        await each.leave()
    assert not [line for line in proxy.log() if line["level"] in ("error", "critical")]
