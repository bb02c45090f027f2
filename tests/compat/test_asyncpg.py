"""asyncpg on one connection, at its defaults: binary, named statements, a statement cache."""

import asyncio
import datetime
import decimal
import io
import ipaddress
import json
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.compat.targets import DIRECT, Target

TYPED_VALUES = [
    ("bool", True),
    ("int2", -32768),
    ("int4", 2**31 - 1),
    ("int8", -(2**63)),
    ("float8", 1.5),
    ("numeric", decimal.Decimal("12345678901234567890.0987654321")),
    ("text", "naïve 中文 \N{PILE OF POO}"),
    ("bytea", bytes(range(256))),
    ("uuid", uuid.UUID(int=1 << 100)),
    ("date", datetime.date(2024, 2, 29)),
    ("time", datetime.time(23, 59, 59, 999999)),
    ("timestamp", datetime.datetime(2024, 1, 1, 12, 30)),
    ("timestamptz", datetime.datetime(2024, 1, 1, 12, 30, tzinfo=datetime.UTC)),
    ("interval", datetime.timedelta(days=3, seconds=7)),
    ("int4[]", [1, None, 3]),
    ("text[]", ["a", 'quo"ted', "{}"]),
    ("int4[]", [[1, 2], [3, 4]]),
    ("jsonb", '{"a": [1, 2]}'),
    ("inet", ipaddress.ip_interface("10.0.0.1/8")),
    ("cidr", ipaddress.ip_network("10.0.0.0/8")),
    ("int4range", asyncpg.Range(1, 10)),
    ("point", asyncpg.Point(1.0, 2.0)),
    ("bit(8)", asyncpg.BitString.frombytes(b"\xa5")),
    ("name", "pg_name"),
]


@pytest.fixture
async def connection(target: Target) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(target.dsn())
    yield connection
    await connection.close()


@pytest.mark.parametrize(("type_name", "value"), TYPED_VALUES)
async def test_values_come_back_as_they_went(
    connection: asyncpg.Connection, type_name: str, value: object
) -> None:
    assert await connection.fetchval(f"SELECT $1::{type_name}", value) == value
    assert await connection.fetchval(f"SELECT $1::{type_name}", None) is None


@pytest.mark.skipif(bool(os.environ.get(DIRECT)), reason="there is no proxy that routes")
async def test_reads_go_to_standbys(target: Target, connection: asyncpg.Connection) -> None:
    """Without this the tests of reading one's own writes would prove nothing."""
    ports = {replica.port for replica in target.database.stack.replicas}
    await connection.execute(
        "CREATE FUNCTION answering() RETURNS int LANGUAGE plpgsql STABLE "
        "AS $$ BEGIN RETURN inet_server_port(); END $$"
    )
    seen: set[int] = set()
    async with asyncio.timeout(20):  # for the standbys to replay it, and Penstock to hear of it
        while seen < ports:
            port = await connection.fetchval("SELECT answering()")
            seen |= {port} & ports
    async with connection.transaction():
        port = await connection.fetchval("SELECT answering()")
        assert port == target.database.stack.primary.port


async def test_the_session_reads_its_own_writes(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE own (id int PRIMARY KEY, n int)")
    await connection.execute("INSERT INTO own VALUES (1, 0)")
    for n in range(100):
        await connection.execute("UPDATE own SET n = $1 WHERE id = 1", n)
        assert await connection.fetchval("SELECT n FROM own WHERE id = $1", 1) == n
    await connection.execute("DROP TABLE own")


async def test_prepared_statements(connection: asyncpg.Connection) -> None:
    statement = await connection.prepare("SELECT $1::int + 1 AS next, $2::text AS word")
    assert [str(one.type.name) for one in statement.get_attributes()] == ["int4", "text"]
    assert [one.name for one in statement.get_parameters()] == ["int4", "text"]
    for n in range(20):
        assert [tuple(row) for row in await statement.fetch(n, "w")] == [(n + 1, "w")]
    assert statement.get_statusmsg() == "SELECT 1"
    several = await statement.fetchmany([(1, "a"), (2, "b")])
    assert [tuple(row) for row in several] == [(2, "a"), (3, "b")]
    assert "Result" in json.dumps(await statement.explain(1, "w"))


async def test_more_statements_than_the_cache_holds(connection: asyncpg.Connection) -> None:
    """asyncpg keeps 100 statements and closes the oldest."""
    for _ in range(2):
        for n in range(150):
            assert await connection.fetchval(f"SELECT {n} + $1::int", 1) == n + 1


async def test_transactions_and_savepoints(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE booked (n int)")
    with pytest.raises(ZeroDivisionError):
        await _book_and_fail(connection, 1, "raise")
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute("INSERT INTO booked VALUES (2)")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await _book_and_fail(connection, 3, "SELECT 1 / 0")
        async with connection.transaction():
            await connection.execute("INSERT INTO booked VALUES (4)")
    assert [row["n"] for row in await connection.fetch("TABLE booked ORDER BY n")] == [2, 4]
    async with connection.transaction(readonly=True):
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("INSERT INTO booked VALUES (5)")
    async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
        assert await connection.fetchval("SELECT count(*) FROM booked") == 2
    await connection.execute("DROP TABLE booked")


async def _book_and_fail(connection: asyncpg.Connection, n: int, how: str) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO booked VALUES ($1)", n)
        if how == "raise":
            raise ZeroDivisionError
        await connection.execute(how)


async def test_cursors(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        query = "SELECT n FROM generate_series(1, 1000) n"
        assert [row["n"] async for row in connection.cursor(query, prefetch=7)] == list(
            range(1, 1001)
        )
        cursor = await connection.cursor(query)
        assert await cursor.forward(10) == 10
        assert tuple(await cursor.fetchrow() or ()) == (11,)
        assert [row["n"] for row in await cursor.fetch(3)] == [12, 13, 14]
        # a second statement between fetches of the first
        assert await connection.fetchval("SELECT 1") == 1
        assert tuple(await cursor.fetchrow() or ()) == (15,)
    async with connection.transaction(readonly=True):
        rows = [row["n"] async for row in connection.cursor(query, prefetch=100)]
    assert len(rows) == 1000


async def test_copy_in_and_out(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE copied (id int, name text, at timestamptz)")
    now = datetime.datetime.now(datetime.UTC)
    records = [(n, f"name {n}", now) for n in range(5000)]
    done = await connection.copy_records_to_table("copied", records=records)
    assert done == "COPY 5000"
    out = io.BytesIO()
    await connection.copy_from_query(
        "SELECT id, name FROM copied WHERE id < $1 ORDER BY id", 2, output=out, format="csv"
    )
    assert out.getvalue() == b"0,name 0\n1,name 1\n"
    whole = io.BytesIO()
    await connection.copy_from_table("copied", output=whole, format="binary")
    whole.seek(0)
    assert await connection.copy_to_table("copied", source=whole, format="binary") == "COPY 5000"
    assert await connection.fetchval("SELECT count(*) FROM copied") == 10000
    with pytest.raises(asyncpg.BadCopyFileFormatError):
        await connection.copy_to_table("copied", source=io.BytesIO(b"1\tx\n"), format="text")
    with pytest.raises(RuntimeError, match="source"):
        await connection.copy_to_table("copied", source=_failing_source())
    assert await connection.fetchval("SELECT count(*) FROM copied") == 10000
    await connection.execute("DROP TABLE copied")


async def _failing_source() -> AsyncIterator[bytes]:
    yield b"1\tx\t2024-01-01\n"
    raise RuntimeError("the source is broken")


async def test_executemany(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE many (id int PRIMARY KEY, word text)")
    await connection.executemany(
        "INSERT INTO many VALUES ($1, $2)", [(n, "w" * (n % 50)) for n in range(2000)]
    )
    assert await connection.fetchval("SELECT count(*) FROM many") == 2000
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.executemany("INSERT INTO many VALUES ($1, '')", [(5000,), (0,), (5001,)])
    assert await connection.fetchval("SELECT count(*) FROM many") == 2000  # all or nothing
    await connection.execute("DROP TABLE many")


async def test_listen_and_notify(target: Target, connection: asyncpg.Connection) -> None:
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def listener(_: object, pid: int, channel: str, payload: object) -> None:
        heard.put_nowait((channel, str(payload)))

    await connection.add_listener("news", listener)
    other = await asyncpg.connect(target.dsn())
    await other.execute("NOTIFY news, 'first'")
    await other.execute("SELECT pg_notify($1, $2)", "news", "second")
    async with asyncio.timeout(10):
        assert [await heard.get(), await heard.get()] == [("news", "first"), ("news", "second")]
    await connection.remove_listener("news", listener)
    await other.close()
    assert await connection.fetchval("SELECT 1") == 1


async def test_timeouts_and_cancelled_tasks(connection: asyncpg.Connection) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT pg_sleep(20)", timeout=0.1)
        assert await connection.fetchval("SELECT 1") == 1
    task = asyncio.ensure_future(connection.execute("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await connection.fetchval("SELECT 2") == 2
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = '50ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            async with connection.transaction():
                await connection.execute("SELECT pg_sleep(20)")
        await connection.execute("SET LOCAL statement_timeout = 0")
        assert await connection.fetchval("SELECT 3") == 3


async def test_new_types_at_once(connection: asyncpg.Connection) -> None:
    """asyncpg looks up types that it doesn't know when a statement first uses them."""
    for n in range(5):
        await connection.execute(f"CREATE TYPE colour_{n} AS ENUM ('red', 'green')")
        await connection.execute(
            f"CREATE TYPE pair_{n} AS (id int, paint colour_{n}, words text[])"
        )
        await connection.execute(f"CREATE DOMAIN short_{n} AS text CHECK (length(VALUE) < 5)")
        await connection.execute(f"CREATE TABLE things_{n} (p pair_{n}, all_p pair_{n}[])")
        pair = (7, "red", ["x", "y"])
        await connection.execute(f"INSERT INTO things_{n} VALUES ($1, $2)", pair, [pair, pair])
        row = await connection.fetchrow(f"SELECT p, all_p FROM things_{n}")
        assert row is not None
        assert (tuple(row["p"]), row["p"]["paint"]) == (pair, "red")
        assert [tuple(one) for one in row["all_p"]] == [pair, pair]
        assert await connection.fetchval(f"SELECT $1::colour_{n}[]", ["red"]) == ["red"]
        assert await connection.fetchval(f"SELECT $1::short_{n}", "abc") == "abc"
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.fetchval(f"SELECT $1::short_{n}", "abcdefgh")


async def test_type_codecs(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )
    assert await connection.fetchval("SELECT $1::jsonb", {"a": [1]}) == {"a": [1]}
    await connection.reset_type_codec("jsonb", schema="pg_catalog")
    assert await connection.fetchval("SELECT '[1]'::jsonb") == "[1]"
    await connection.execute("CREATE TYPE level AS ENUM ('low', 'high')")
    await connection.set_type_codec("level", encoder=str.lower, decoder=str.upper, format="text")
    assert await connection.fetchval("SELECT $1::level", "LOW") == "LOW"


async def test_errors_carry_every_field(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE unique_names (name text CONSTRAINT only_one UNIQUE)")
    await connection.execute("INSERT INTO unique_names VALUES ('a')")
    with pytest.raises(asyncpg.UniqueViolationError) as raised:
        await connection.execute("INSERT INTO unique_names VALUES ($1)", "a")
    error = raised.value
    assert error.sqlstate == "23505"
    assert (error.table_name, error.constraint_name) == ("unique_names", "only_one")
    assert error.detail == "Key (name)=(a) already exists."
    with pytest.raises(asyncpg.UndefinedTableError) as missing:
        await connection.fetch("SELECT * FROM no_such_table")
    assert missing.value.position == "15"
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await connection.fetch("SELEC 1")
    with pytest.raises(asyncpg.DataError):
        await connection.fetch("SELECT $1::int", "not a number")
    assert await connection.fetchval("SELECT 1") == 1


async def test_notices_reach_log_listeners(connection: asyncpg.Connection) -> None:
    heard: list[Any] = []
    connection.add_log_listener(lambda _, message: heard.append(message))
    await connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
    await connection.fetchval("SELECT 1")
    await asyncio.sleep(0)
    assert [(one.severity_en, one.message) for one in heard] == [
        ("NOTICE", "one"),
        ("WARNING", "two"),
    ]


async def test_scripts_of_several_statements(connection: asyncpg.Connection) -> None:
    done = await connection.execute(
        "CREATE TABLE script (n int); INSERT INTO script VALUES (1), (2); DROP TABLE script"
    )
    assert done == "DROP TABLE"


async def test_server_settings_and_version(target: Target) -> None:
    settings = {"application_name": "compat", "search_path": "pg_catalog", "jit": "off"}
    connection = await asyncpg.connect(target.dsn(), server_settings=settings)
    assert connection.get_settings().application_name == "compat"
    assert connection.get_server_version() >= (14, 0)
    for _ in range(5):
        assert await connection.fetchval("SHOW search_path") == "pg_catalog"
        assert await connection.fetchval("SHOW application_name") == "compat"
    assert isinstance(connection.get_server_pid(), int)
    await connection.reset()
    assert await connection.fetchval("SHOW search_path") == "pg_catalog"
    await connection.close()


async def test_temporary_tables_stay_with_their_session(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TEMP TABLE scratch (n int)")
    for n in range(10):
        await connection.execute("INSERT INTO scratch VALUES ($1)", n)
    assert await connection.fetchval("SELECT sum(n) FROM scratch") == 45


async def test_large_values_and_results(connection: asyncpg.Connection) -> None:
    large = "x" * (8 << 20)
    assert await connection.fetchval("SELECT $1::text", large) == large
    rows = await connection.fetch("SELECT n, repeat('y', 100) FROM generate_series(1, 50000) n")
    assert len(rows) == 50000
    assert tuple(rows[-1]) == (50000, "y" * 100)
