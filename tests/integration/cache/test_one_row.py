"""Executes that ask for one row only, as asyncpg's fetchval() and fetchrow() do, from the cache."""

from collections.abc import Awaitable, Callable, Iterator

import asyncpg
import pytest

from tests.databases import Database
from tests.integration.cache.feed.feeds import RULE, metric, prepare
from tests.proxies import Proxy, running_proxy

SQL = "SELECT version FROM c_plain WHERE id >= $1 ORDER BY id"


@pytest.fixture(scope="module")
def proxy(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    prepare(module_database)
    with running_proxy(module_database, tmp_path_factory.mktemp("proxy"), extra=RULE) as proxy:
        yield proxy


def hits(proxy: Proxy) -> float:
    return metric(proxy, "penstock_cache_hits_total")


async def until_hit(proxy: Proxy, read: Callable[[], Awaitable[object]], seen: object) -> None:
    before = hits(proxy)
    while hits(proxy) == before:
        assert await read() == seen


async def test_one_row_is_kept_apart_from_all_and_never_outdated(proxy: Proxy) -> None:
    connection = await asyncpg.connect(proxy.dsn())
    writer = await asyncpg.connect(proxy.dsn())
    await writer.execute("DELETE FROM c_plain; INSERT INTO c_plain VALUES (1, 10), (2, 20)")

    async def one() -> object:
        return await connection.fetchval(SQL, 1)

    async def every() -> object:
        return [row[0] for row in await connection.fetch(SQL, 1)]

    async def none() -> object:
        return await connection.fetchrow(SQL, 9)

    await until_hit(proxy, one, 10)
    await until_hit(proxy, every, [10, 20])
    await until_hit(proxy, one, 10)
    await until_hit(proxy, none, None)
    await writer.execute("UPDATE c_plain SET version = 11 WHERE id = 1")
    assert await one() == 11
    await until_hit(proxy, one, 11)
    assert await every() == [11, 20]
    await connection.close()
    await writer.close()


async def test_within_a_transaction_the_portal_is_the_servers(proxy: Proxy) -> None:
    connection = await asyncpg.connect(proxy.dsn())
    await connection.execute("DELETE FROM c_plain; INSERT INTO c_plain VALUES (1, 1), (2, 2)")
    await until_hit(proxy, lambda: connection.fetchval(SQL, 1), 1)
    before = hits(proxy)
    async with connection.transaction(readonly=True):
        assert await connection.fetchval(SQL, 1) == 1
        assert [row[0] async for row in connection.cursor(SQL, 1, prefetch=1)] == [1, 2]
    assert hits(proxy) == before
    await connection.close()
