"""Portals with row limits, and statements over several Syncs."""

import asyncio

import pytest

from tests.integration.session.raw import (
    FLUSH,
    SYNC,
    RawClient,
    bind,
    client,
    close,
    close_portal,
    describe,
    describe_portal,
    execute,
    parse,
    query,
)
from tests.proxies import Proxy

NUMBERS = "SELECT generate_series(1, 7)"


def numbers(first: int, last: int) -> list[tuple[str | None, ...]]:
    return [(str(number),) for number in range(first, last + 1)]


async def test_a_portal_within_one_sync(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        reply = await one.ask(parse(NUMBERS), bind(), execute(rows=3), execute(rows=3), SYNC)
        assert reply.kinds == "12DDDsDDDsZ"
        assert reply.rows == numbers(1, 6)


async def test_a_portal_over_flushes(module_proxy: Proxy) -> None:
    """Outside a transaction block: the server connection stays until the Sync."""
    async with client(module_proxy) as one:
        one.send(parse(NUMBERS), bind(portal="p"), describe_portal("p"), execute("p", 3), FLUSH)
        assert (await one.until("s")).kinds == "12TDDDs"
        one.send(execute("p", 3), FLUSH)
        assert (await one.until("s")).rows == numbers(4, 6)
        reply = await one.ask(execute("p", 3), SYNC)
        assert reply.kinds == "DCZ"
        assert reply.rows == numbers(7, 7)


async def test_portals_in_a_transaction_over_syncs(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.query("BEGIN")
        reply = await one.ask(
            parse(NUMBERS, "n"), bind(name="n", portal="a"), execute("a", 2), SYNC
        )
        assert reply.kinds == "12DDsZ"
        reply = await one.ask(bind(name="n", portal="b"), execute("b", 5), SYNC)
        assert reply.rows == numbers(1, 5)
        assert (await one.ask(execute("a", 2), SYNC)).rows == numbers(3, 4)
        reply = await one.ask(execute("a"), execute("b"), SYNC)
        assert reply.rows == numbers(5, 7) + numbers(6, 7)
        assert (await one.ask(close_portal("a"), SYNC)).kinds == "3Z"
        assert (await one.ask(execute("a"), SYNC)).errors == ["34000"]
        await one.query("ROLLBACK")


async def test_a_portal_ends_with_its_transaction(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.ask(parse(NUMBERS), bind(portal="p"), execute("p", 2), SYNC)
        assert (await one.ask(execute("p", 2), SYNC)).errors == ["34000"]


async def test_a_write_with_returning_in_pieces(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.query("CREATE TABLE pieces (a int)")
        insert = "INSERT INTO pieces SELECT generate_series(1, 5) RETURNING a"
        await one.query("BEGIN")
        reply = await one.ask(parse(insert), bind(portal="p"), execute("p", 2), SYNC)
        assert reply.rows == numbers(1, 2)
        assert (await one.ask(execute("p"), SYNC)).rows == numbers(3, 5)
        await one.query("COMMIT")
        assert (await one.query("SELECT count(*) FROM pieces")).value == "5"


async def test_the_unnamed_statement_over_syncs(module_proxy: Proxy) -> None:
    """Other clients take their turns on the server connections in between."""
    people = [await RawClient.login(module_proxy) for _ in range(30)]
    for number, each in enumerate(people):
        assert (await each.ask(parse(f"SELECT {number}, $1::int"), SYNC)).kinds == "1Z"
    for turn in range(4):
        for each in people:
            each.send(describe(), bind(str(turn).encode()), execute(), SYNC)
        for number, each in enumerate(people):
            reply = await each.until("Z")
            assert reply.kinds == "tT2DCZ"
            assert reply.rows == [(str(number), str(turn))]
    for each in people:
        await each.leave()


async def test_a_simple_query_ends_the_unnamed_statement(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.ask(parse("SELECT 1"), SYNC)
        await one.query("SELECT 2")
        assert (await one.ask(bind(), execute(), SYNC)).errors == ["26000"]


async def test_one_name_for_different_texts(module_proxy: Proxy) -> None:
    people = [await RawClient.login(module_proxy) for _ in range(30)]
    for number, each in enumerate(people):
        await each.ask(parse(f"SELECT {number}", "same"), SYNC)
    for _ in range(3):
        for each in people:
            each.send(bind(name="same"), execute(), SYNC)
        for number, each in enumerate(people):
            assert (await each.until("Z")).value == str(number)
    for each in people:
        await each.leave()


async def test_closed_statements_are_gone(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.ask(parse("SELECT 1", "s"), SYNC)
        assert (await one.ask(close("s"), close("never"), SYNC)).kinds == "33Z"
        assert (await one.ask(bind(name="s"), execute(), SYNC)).errors == ["26000"]
        assert (await one.ask(describe("s"), SYNC)).errors == ["26000"]


async def test_statements_of_others_are_unknown(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one, client(module_proxy) as two:
        await one.ask(parse("SELECT 1", "mine"), SYNC)
        for _ in range(4):
            assert (await two.ask(bind(name="mine"), execute(), SYNC)).errors == ["26000"]


async def test_more_statements_than_a_server_connection_keeps(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        for first in range(0, 1200, 100):
            names = range(first, first + 100)
            reply = await one.ask(*(parse(f"SELECT {n}", f"s{n}") for n in names), SYNC)
            assert reply.kinds == "1" * 100 + "Z"
        for first in range(0, 1200, 100):
            names = range(first, first + 100)
            one.send(*(bind(name=f"s{n}") + execute() for n in names), SYNC)
            assert (await one.until("Z")).rows == numbers(first, first + 99)


async def test_deallocate_forgets_protocol_level_statements(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.ask(parse("SELECT 1", "a"), parse("SELECT 2", "b"), SYNC)
        assert (await one.query("DEALLOCATE a")).tags == ["DEALLOCATE"]
        assert (await one.ask(bind(name="a"), execute(), SYNC)).errors == ["26000"]
        assert (await one.ask(bind(name="b"), execute(), SYNC)).value == "2"
        assert not (await one.query("DEALLOCATE ALL")).errors
        assert (await one.ask(bind(name="b"), execute(), SYNC)).errors == ["26000"]
        assert (await one.ask(parse("SELECT 3", "b"), bind(name="b"), execute(), SYNC)).value == "3"


async def test_sql_prepare_and_execute(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one, client(module_proxy) as two:
        await one.query("PREPARE p AS SELECT 'one'")
        await two.query("PREPARE p AS SELECT 'two'")
        for _ in range(4):
            assert (await one.query("EXECUTE p")).value == "one"
            assert (await two.query("EXECUTE p")).value == "two"


@pytest.mark.parametrize("options", ["", "(COSTS OFF)", "ANALYZE ", "(ANALYZE, TIMING OFF) "])
async def test_sql_explains_what_the_protocol_has_prepared(
    module_proxy: Proxy, options: str
) -> None:
    async with client(module_proxy) as one, client(module_proxy) as two:
        for number, each in enumerate((one, two)):
            text = f"SELECT n FROM generate_series(1, 5) n WHERE n > $1 AND n <> {100 + number}"
            await each.ask(parse(text, "p", oids=(23,)), SYNC)
        for _ in range(3):
            for number, each in enumerate((one, two)):
                told = await each.query(f"EXPLAIN {options}EXECUTE p(2)")
                assert f"(n <> {100 + number})" in str(told.rows)
                run = parse(f"explain {options}execute P (2)", "q") + bind(name="q") + execute()
                assert f"(n <> {100 + number})" in str((await each.ask(run, SYNC)).rows)
                await each.query("DEALLOCATE q")


async def test_clients_that_do_not_read_do_not_stop_others(module_proxy: Proxy) -> None:
    async with client(module_proxy) as lazy, client(module_proxy) as other:
        lazy.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 400)"))
        await asyncio.sleep(0.1)
        for number in range(20):
            assert (await other.query(f"SELECT {number}")).value == str(number)
        assert (await lazy.until("Z")).tags == ["SELECT 400"]
