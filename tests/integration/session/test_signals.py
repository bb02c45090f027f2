"""pg_terminate_backend() and pg_cancel_backend() of clients that share server connections."""

import asyncio
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from tests.databases import Database, superuser_connection
from tests.integration.session.hearing import TWO_BACKENDS
from tests.integration.session.raw import SYNC, Gone, RawClient, client, run
from tests.proxies import Proxy, running_proxy


@pytest.fixture(scope="module")
def two(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Two backends, in transaction mode."""
    with running_proxy(module_database, tmp_path_factory.mktemp("p"), extra=TWO_BACKENDS) as proxy:
        yield proxy


@pytest.mark.parametrize("begins", [False, True], ids=["idle", "in transaction"])
async def test_a_client_is_ended(two: Proxy, begins: bool) -> None:
    async with client(two) as one:
        other = await RawClient.login(two)
        if begins:
            await other.query("BEGIN")
        reply = await one.query(f"SELECT pg_terminate_backend({other.process_id})")
        assert (reply.kinds, reply.value) == ("TDCZ", "t")
        (last,) = await other.rest()
        assert (last.kind, last.fields["C"], last.fields["S"]) == ("E", "57P01", "FATAL")
        reply = await one.query(f"SELECT pg_terminate_backend({other.process_id})")
        assert reply.value == "f"


async def running(proxy: Proxy, sql: str) -> None:
    """Until the server runs it."""
    with superuser_connection(proxy.database.stack.primary) as direct:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
        for _ in range(1000):
            if direct.execute(asked, [sql]).fetchone() == (1,):
                return
            await asyncio.sleep(0.02)
    raise AssertionError("it is not run")


@pytest.mark.parametrize(
    ("call", "sqlstate"), [("pg_cancel_backend", "57014"), ("pg_terminate_backend", "57P01")]
)
async def test_what_it_runs_is_over(two: Proxy, call: str, sqlstate: str) -> None:
    sql = f"SELECT pg_sleep(1000), '{call}' FOR UPDATE"
    async with client(two) as one:
        other = await RawClient.login(two)
        asking = asyncio.ensure_future(other.query(sql))
        await running(two, sql)
        reply = await one.ask(run(f"select {call}($1)", str(other.process_id).encode()), SYNC)
        assert (reply.kinds, reply.value) == ("12DCZ", "t")
        if call == "pg_cancel_backend":
            assert (await asking).errors == [sqlstate]
            assert (await other.query("SELECT 1")).value == "1"
            await other.leave()
        else:
            with pytest.raises(Gone):
                await asking
        assert (await one.query("SELECT 1")).value == "1"


async def test_numbers_that_are_nobodys_are_the_servers_to_answer(two: Proxy) -> None:
    async with client(two) as one:
        reply = await one.query("SELECT pg_terminate_backend(2147483647)")
        assert (reply.kinds, reply.value) == ("TDCZ", "f")
        assert (await one.query("SELECT pg_cancel_backend(NULL)")).rows == [(None,)]
        assert (await one.query("SELECT pg_cancel_backend('x')")).errors == ["22P02"]


async def test_drivers(two: Proxy) -> None:
    async with client(two) as one, client(two) as another:
        connection = await asyncpg.connect(two.dsn())
        assert await connection.fetchval("SELECT pg_terminate_backend($1)", one.process_id) is True
        assert [each.kind for each in await one.rest()] == ["E"]
        await connection.close()

        def by_psycopg() -> object:
            with psycopg.connect(two.dsn(), autocommit=True) as own:
                found = own.execute("SELECT pg_terminate_backend(%s)", [another.process_id])
                return found.fetchone()

        assert await asyncio.to_thread(by_psycopg) == (True,)
        assert [each.kind for each in await another.rest()] == ["E"]
