"""EXECUTE in SQL of what the protocol has prepared, on server connections that are shared."""

from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from tests.databases import Database
from tests.integration.session.hearing import TWO_BACKENDS
from tests.integration.session.raw import (
    SYNC,
    RawClient,
    bind,
    client,
    close,
    describe,
    execute,
    parse,
    query,
    run,
)
from tests.proxies import Proxy, running_proxy


@pytest.fixture(scope="module")
def two(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Two backends, in transaction mode."""
    with running_proxy(module_database, tmp_path_factory.mktemp("p"), extra=TWO_BACKENDS) as proxy:
        yield proxy


async def other_backend(holder: RawClient) -> None:
    """Have `holder` keep the backend that was used last."""
    await holder.query("BEGIN")
    await holder.query("SELECT 1")


async def test_a_simple_query_runs_it_on_any_backend(two: Proxy) -> None:
    async with client(two) as one, client(two) as holder:
        await one.ask(parse("SELECT $1::int + 1", "plus"), SYNC)
        for _ in range(2):
            assert (await one.query("EXECUTE plus (4)")).value == "5"
            assert (await one.query("/* why */ execute  PLUS(5);")).value == "6"
            await other_backend(holder)
        reply = await one.query("EXECUTE plus (6); SELECT 2")
        assert reply.rows == [("7",), ("2",)]
        await holder.query("ROLLBACK")


async def test_in_the_extended_protocol(two: Proxy) -> None:
    async with client(two) as one, client(two) as holder:
        await one.ask(parse("SELECT 'found' AS it", 'Quoted "it"'), SYNC)
        sql = 'EXECUTE "Quoted ""it"""'
        assert (await one.ask(run(sql), SYNC)).value == "found"
        reply = await one.ask(parse(sql, "again"), describe("again"), SYNC)
        assert reply.kinds == "1tTZ"
        for _ in range(3):
            reply = await one.ask(bind(name="again"), execute(), SYNC)
            assert (reply.kinds, reply.value) == ("2DCZ", "found")
            reply = await one.ask(parse(sql), describe(), SYNC)
            assert reply.kinds == "1tTZ"
            await other_backend(holder)
        assert (await one.ask(bind(), execute(), SYNC)).value == "found"
        await holder.query("ROLLBACK")


async def test_the_name_is_looked_up_when_it_runs(two: Proxy) -> None:
    async with client(two) as one:
        await one.ask(parse("EXECUTE late", "runs"), SYNC)
        assert (await one.ask(bind(name="runs"), execute(), SYNC)).errors == ["26000"]
        for number in range(3):
            await one.ask(parse(f"SELECT {number}", "late"), SYNC)
            assert (await one.ask(bind(name="runs"), execute(), SYNC)).value == str(number)
            assert (await one.query("EXECUTE late")).value == str(number)
            await one.ask(close("late"), SYNC)
            assert (await one.ask(bind(name="runs"), execute(), SYNC)).errors == ["26000"]
            assert (await one.query("EXECUTE late")).errors == ["26000"]


async def test_names_are_each_clients_own(two: Proxy) -> None:
    people = [await RawClient.login(two) for _ in range(5)]
    for number, each in enumerate(people):
        await each.ask(parse(f"SELECT {number}", "mine"), SYNC)
    for _ in range(3):
        for each in people:
            each.send(query("EXECUTE mine"), run("EXECUTE mine") + SYNC)
        for number, each in enumerate(people):
            assert (await each.until("Z")).value == str(number)
            assert (await each.until("Z")).value == str(number)
    for each in people:
        await each.leave()


async def test_within_a_transaction_and_after_its_failure(two: Proxy) -> None:
    async with client(two) as one, client(two) as holder:
        await one.ask(parse("SELECT 1", "fine"), parse("SELECT 1/$1::int", "fails"), SYNC)
        await other_backend(holder)
        await one.query("BEGIN")
        assert (await one.query("EXECUTE fine")).value == "1"
        assert (await one.query("EXECUTE fails (0)")).errors == ["22012"]
        assert (await one.query("EXECUTE fine")).errors == ["25P02"]
        assert (await one.query("ROLLBACK")).status == "I"
        assert (await one.query("EXECUTE fails (1)")).value == "1"
        await holder.query("ROLLBACK")


async def test_what_it_leaves_stays_with_its_session(two: Proxy) -> None:
    async with client(two) as one, client(two) as other:
        await one.ask(parse("SELECT pg_advisory_lock(4711)", "locks"), SYNC)
        await one.query("EXECUTE locks")
        for _ in range(3):
            reply = await other.query("SELECT pg_try_advisory_xact_lock(4711)")
            assert reply.value == "f"
        assert (await one.query("SELECT pg_advisory_unlock(4711)")).value == "t"
        await one.query("SELECT pg_advisory_unlock_all()")


async def test_dropped_while_it_is_prepared(two: Proxy) -> None:
    async with client(two) as one, client(two) as holder:
        await one.query("CREATE TABLE passing (n int)")
        await one.ask(parse("SELECT * FROM passing", "gone"), SYNC)
        await other_backend(holder)
        await one.query("DROP TABLE passing")
        assert (await one.query("EXECUTE gone")).errors == ["42P01"]
        assert (await one.query("SELECT 1")).value == "1"
        await holder.query("ROLLBACK")


async def test_asyncpg(two: Proxy) -> None:
    connection = await asyncpg.connect(two.dsn())
    statement = await connection.prepare("SELECT 1", name="explicit")
    assert statement.get_name() == "explicit"
    assert await connection.fetchval("EXECUTE explicit") == 1
    await connection.close()


def test_psycopg(two: Proxy) -> None:
    with psycopg.connect(two.dsn(), autocommit=True) as connection:
        connection.pgconn.prepare(b"by_protocol", b"SELECT $1::int * 2")
        assert connection.execute("EXECUTE by_protocol (21)").fetchone() == (42,)
