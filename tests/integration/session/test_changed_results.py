"""A statement's result changes behind Penstock's back: no client may take rows for what they were.

Two connections to the primary. A statement is used on one, which another client then holds, so
that the next use has to prepare it on the other, after the change.
"""

import contextlib
import struct
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from tests.databases import Database
from tests.integration.admin.operating import operator
from tests.integration.session.raw import (
    FLUSH,
    SYNC,
    Gone,
    RawClient,
    Reply,
    bind,
    client,
    close,
    describe,
    describe_portal,
    execute,
    parse,
)
from tests.proxies import Proxy, running_proxy

READ = "/* penstock: primary */ SELECT n FROM numbers"
LOCK = "SELECT n FROM numbers FOR SHARE"
RETURN = "UPDATE numbers SET n = n RETURNING n"
INTEGER, FLOAT = 23, 700


@pytest.fixture(scope="module")
def two(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Two connections to each server."""
    directory = tmp_path_factory.mktemp("proxy")
    with running_proxy(module_database, directory, extra="[pool]\nsize = 2\n") as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def numbers(two: Proxy) -> None:
    change(two, "DROP TABLE IF EXISTS numbers", "CREATE TABLE numbers (n int)")
    change(two, "INSERT INTO numbers VALUES (10)")
    with operator(two) as admin:  # an earlier test's statements are gone with their connections
        admin.execute(f'RECONNECT "{two.database.name}"'.encode())


def change(proxy: Proxy, *statements: str) -> None:
    """Around Penstock."""
    with psycopg.connect(proxy.database.dsn(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def to_float(proxy: Proxy) -> None:
    change(proxy, "ALTER TABLE numbers ALTER n TYPE float4 USING 2.5")


@contextlib.asynccontextmanager
async def elsewhere(proxy: Proxy) -> AsyncIterator[None]:
    """Nobody else gets the connection to the primary that was used last."""
    async with client(proxy) as holder:
        await holder.query("BEGIN")
        await holder.query("SELECT pg_current_xact_id()")
        yield
        await holder.query("ROLLBACK")


def column_type(reply: Reply) -> int:
    """The type of the only column described."""
    (body,) = (each.body for each in reply.messages if each.kind == "T")
    return int.from_bytes(body[body.index(b"\0", 2) + 7 :][:4])


def assert_refused(reply: Reply) -> None:
    (error,) = (each.fields for each in reply.messages if each.kind == "E")
    assert (error["C"], error["R"]) == ("0A000", "RevalidateCachedQuery")
    assert not reply.rows


def use(name: str) -> tuple[bytes, ...]:
    return (bind(name=name), execute(), SYNC)


async def assert_prepared_again(one: RawClient, sql: str, name: str) -> None:
    """What drivers do when they are refused."""
    reply = await one.ask(close(name), parse(sql, name), describe(name), SYNC)
    assert column_type(reply) == FLOAT
    assert (await one.ask(*use(name))).value == "2.5"


@pytest.mark.parametrize("name", ["s", ""])
@pytest.mark.parametrize("sql", [READ, LOCK, RETURN])
async def test_after_a_description(two: Proxy, sql: str, name: str) -> None:
    async with client(two) as one:
        reply = await one.ask(parse(sql, name), describe(name), SYNC)
        assert column_type(reply) == INTEGER
        to_float(two)
        async with elsewhere(two):
            assert_refused(await one.ask(*use(name)))
            assert (await one.query("SELECT 7")).value == "7"
            await assert_prepared_again(one, sql, name)


@pytest.mark.parametrize("name", ["s", ""])
async def test_after_a_flushed_description(two: Proxy, name: str) -> None:
    """As asyncpg prepares."""
    async with client(two) as one:
        one.send(parse(READ, name), describe(name), FLUSH)
        assert column_type(await one.until("T")) == INTEGER
        to_float(two)
        async with elsewhere(two):
            assert_refused(await one.ask(*use(name)))
            await assert_prepared_again(one, READ, name)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("sql", [READ, LOCK])
async def test_after_a_portals_description(two: Proxy, sql: str, together: bool) -> None:
    """As pgjdbc does, once per statement."""
    async with client(two) as one:
        if not together:
            await one.ask(parse(sql, "s"), SYNC)
        first = (parse(sql, "s"),) if together else ()
        reply = await one.ask(*first, bind(name="s"), describe_portal(), execute(), SYNC)
        assert column_type(reply) == INTEGER
        to_float(two)
        async with elsewhere(two):
            assert_refused(await one.ask(*use("s")))
            await assert_prepared_again(one, sql, "s")


async def test_an_unnamed_statement_after_a_portals_description(two: Proxy) -> None:
    async with client(two) as one:
        await one.ask(parse(LOCK), bind(), describe_portal(), execute(), SYNC)
        assert (await one.ask(bind(), execute(), SYNC)).value == "10"
        to_float(two)
        async with elsewhere(two):
            assert_refused(await one.ask(bind(), execute(), SYNC))
            reply = await one.ask(parse(LOCK), bind(), describe_portal(), execute(), SYNC)
            assert (column_type(reply), reply.value) == (FLOAT, "2.5")


@pytest.mark.parametrize("sql", [READ, LOCK])
async def test_in_a_transaction(two: Proxy, sql: str) -> None:
    async with client(two) as one:
        await one.ask(parse(sql, "s"), describe("s"), SYNC)
        to_float(two)
        async with elsewhere(two):
            await one.query("BEGIN")
            await one.query("INSERT INTO numbers VALUES (3)")
            reply = await one.ask(*use("s"))
            assert_refused(reply)
            assert reply.status == "E"
            assert (await one.query("SELECT 1")).errors == ["25P02"]
            assert (await one.query("ROLLBACK")).status == "I"
            await assert_prepared_again(one, sql, "s")


async def test_in_a_pipeline_that_has_been_flushed(two: Proxy) -> None:
    """Its end can't be refused any more: the connection ends, and with it what was not synced."""
    async with client(two) as one:
        await one.ask(parse(READ, "s"), describe("s"), SYNC)
        to_float(two)
        async with elsewhere(two):
            one.send(parse("INSERT INTO numbers VALUES (3)"), bind(), execute(), FLUSH)
            await one.until("C")
            one.send(bind(name="s"), execute(), FLUSH)
            (error,) = (each for each in await one.rest() if each.kind == "E")
            assert error.fields["S"] == "FATAL"
            assert error.fields["R"] == "RevalidateCachedQuery"
    async with client(two) as other:
        assert (await other.query(f"{READ} WHERE n = 3")).rows == []


@pytest.mark.parametrize("wait", [True, False])
async def test_a_flushed_pipeline_of_what_is_as_it_was(two: Proxy, wait: bool) -> None:
    async with client(two) as one:
        await one.ask(parse(READ, "s"), describe("s"), SYNC)
        async with elsewhere(two):
            one.send(parse("SELECT 5"), bind(), describe_portal(), execute(), FLUSH)
            if wait:
                await one.until("C")
            one.send(bind(name="s"), describe_portal(), execute(), describe("s"), SYNC)
            reply = await one.until("Z")
            assert reply.kinds == ("" if wait else "12TDC") + "2TDCtTZ"


async def test_the_types_of_parameters_stay(two: Proxy) -> None:
    """An integer's bytes are never read as a float's."""
    sql = "/* penstock: primary */ SELECT 'found' FROM numbers WHERE n = $1"
    async with client(two) as one:
        await one.ask(parse(sql, "s"), describe("s"), SYNC)
        change(two, "ALTER TABLE numbers ALTER n TYPE float4")
        async with elsewhere(two):
            values = bind(struct.pack(">i", 10), name="s", formats=[1])
            assert (await one.ask(values, execute(), SYNC)).value == "found"


async def test_columns_that_only_moved_house_are_the_same(two: Proxy) -> None:
    async with client(two) as one:
        await one.ask(parse(READ, "s"), describe("s"), SYNC)
        change(two, "DROP TABLE numbers", "CREATE TABLE numbers (m text, n int)")
        change(two, "INSERT INTO numbers VALUES ('', 11)")
        async with elsewhere(two):
            assert (await one.ask(*use("s"))).value == "11"


async def test_another_clients_new_description_is_not_this_clients(two: Proxy) -> None:
    """Both name the same text; the second prepares it after the change, on the free server."""
    async with client(two) as one, client(two) as other:
        await one.ask(parse(READ, "s"), describe("s"), SYNC)
        to_float(two)
        async with elsewhere(two):
            reply = await other.ask(parse(READ, "s"), describe("s"), SYNC)
            assert column_type(reply) == FLOAT
            for _ in range(2):
                assert_refused(await one.ask(*use("s")))
                assert (await other.ask(*use("s"))).value == "2.5"
            await assert_prepared_again(one, READ, "s")


@pytest.mark.parametrize("sql", [READ, LOCK])
@pytest.mark.parametrize("ending", [SYNC, FLUSH])
async def test_a_parse_gets_what_the_server_has_now(two: Proxy, sql: str, ending: bytes) -> None:
    """The server connection's own statement is of the time before."""
    async with client(two) as one, client(two) as other:
        await one.ask(parse(sql, "s"), describe("s"), SYNC)
        to_float(two)
        other.send(parse(sql, "t"), describe("t"), ending)
        reply = await other.until("Z" if ending == SYNC else "T")
        assert (reply.errors, column_type(reply)) == ([], FLOAT)
        assert (await other.ask(*use("t"))).value == "2.5"
        reply = await other.ask(parse(sql, "u"), bind(name="u"), describe_portal(), execute(), SYNC)
        assert (column_type(reply), reply.value) == (FLOAT, "2.5")
        assert_refused(await one.ask(*use("s")))


async def test_a_parse_in_a_transaction_gets_what_the_server_has_now(two: Proxy) -> None:
    async with client(two) as one, client(two) as other:
        await one.ask(parse(LOCK, "s"), describe("s"), SYNC)
        to_float(two)
        await other.query("BEGIN")
        reply = await other.ask(parse(LOCK, "t"), describe("t"), SYNC)
        assert (reply.errors, column_type(reply)) == ([], FLOAT)
        assert (await other.ask(*use("t"))).value == "2.5"
        assert (await other.query("COMMIT")).status == "I"


async def test_a_client_that_describes_each_time_needs_no_refusal(two: Proxy) -> None:
    """libpq's PQexecPrepared, before it has ever been told of the statement."""
    async with client(two) as one:
        await one.ask(parse(LOCK, "s"), SYNC)
        to_float(two)
        async with elsewhere(two):
            reply = await one.ask(bind(name="s"), describe_portal(), execute(), SYNC)
            assert (column_type(reply), reply.value) == (FLOAT, "2.5")


async def test_a_client_that_leaves_while_its_statement_is_checked(two: Proxy) -> None:
    for _ in range(20):
        one = await RawClient.login(two)
        await one.ask(parse(LOCK, "s"), describe("s"), SYNC)
        async with elsewhere(two):
            one.send(*use("s"))
            one.vanish()
            async with client(two) as other:  # the connection is free again, and clean
                assert (await other.query("SELECT n FROM numbers FOR UPDATE")).value == "10"
    with pytest.raises(Gone):
        await one.receive()
