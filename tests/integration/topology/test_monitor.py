import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.local.stack import Stack
from tests.databases import Database
from tests.integration.topology.watching import connected, fresh, now, watched

# Others use the same servers at the same time, so scheduling may be late; lagging never goes away.
SLACK = 3.0


@pytest.mark.parametrize("role", ["superuser", "application"])
async def test_healthy_nodes_are_found_so(stack: Stack, role: str) -> None:
    login = None if role == "superuser" else (stack.app_user, stack.app_password)
    async with watched(stack, login=login) as found:
        assert [(node.healthy, node.error) for node in found.topology.nodes()] == [(True, None)] * 3
        assert sorted(found.changes) == [("replica1", True), ("replica2", True)]
        assert all(0 < (node.latency or 0) < 1 for node in found.topology.nodes())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_replica_that_counts_as_fresh_shows_the_write(
    database: Database, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    run(write_and_read(database))


async def write_and_read(database: Database) -> None:
    writer = await connected(database.stack.primary, database.name)
    await writer.execute("CREATE TABLE t (id int)")
    async with watched(database.stack) as found:
        reader = await connected(database.stack.replicas[0], database.name)
        for number in range(1, 21):
            await writer.execute("INSERT INTO t VALUES ($1)", number)
            await fresh(found.replica, now(), SLACK)
            assert await reader.fetchval("SELECT max(id) FROM t") == number
        await reader.close()
    await writer.close()


async def test_asking_now_is_quicker_than_waiting(stack: Stack) -> None:
    async with watched(stack) as found:
        began = now()
        async with asyncio.timeout(SLACK):
            while min(node.fresh_until for node in found.topology.replicas) < began:
                await found.monitor.sample_now()


async def test_stopping_leaves_no_connection(database: Database) -> None:
    name = f"monitor_{database.name}"
    connection = await connected(database.stack.primary, database.name)
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{name}'"
    async with watched(database.stack, login=(name, "secret")):
        assert await connection.fetchval(count) == 1
    async with asyncio.timeout(5):
        while await connection.fetchval(count):
            await connection.execute("SELECT pg_sleep(0.01)")
    await connection.execute(f"DROP ROLE {name}")
    await connection.close()


async def test_a_wrong_password_is_told(stack: Stack) -> None:
    async with watched(stack, login=(stack.app_user, "wrong")) as found:
        for node in found.topology.nodes():
            assert not node.healthy
            assert "password authentication failed" in (node.error or "")
