"""psycopg 3's pipeline mode, and its asyncio side."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from tests.compat.targets import Target

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def connection(target: Target) -> Iterator[Connection]:
    with psycopg.connect(target.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS piped (id int PRIMARY KEY, word text)")
        connection.execute("TRUNCATE piped")
        yield connection


@pytest.fixture
async def async_connection(
    target: Target,
) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
    async with await psycopg.AsyncConnection.connect(target.dsn(), autocommit=True) as connection:
        yield connection


def test_many_statements_in_one_pipeline(connection: Connection) -> None:
    with connection.pipeline():
        cursors = []
        for n in range(200):
            connection.execute("INSERT INTO piped VALUES (%s, %s)", [n, "w"])
            cursors.append(connection.execute("SELECT count(*) FROM piped WHERE id <= %s", [n]))
    assert [cursor.fetchone() for cursor in cursors] == [(n + 1,) for n in range(200)]


def test_reads_only(connection: Connection) -> None:
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int * 2", [n]) for n in range(300)]
    assert [cursor.fetchone() for cursor in cursors] == [(n * 2,) for n in range(300)]


def test_results_fetched_inside(connection: Connection) -> None:
    with connection.pipeline() as pipeline:
        for n in range(20):
            connection.execute("INSERT INTO piped VALUES (%s, 'x')", [n])
            assert connection.execute("SELECT max(id) FROM piped").fetchone() == (n,)
            if n % 5 == 0:
                pipeline.sync()


def test_an_error_aborts_to_the_next_sync(connection: Connection) -> None:
    with connection.pipeline() as pipeline:
        connection.execute("INSERT INTO piped VALUES (1, 'kept')")
        pipeline.sync()
        before = connection.execute("INSERT INTO piped VALUES (2, 'undone')")
        failing = connection.execute("SELECT 1 / %s", [0])
        after = connection.execute("INSERT INTO piped VALUES (3, 'skipped')")
        with pytest.raises(psycopg.errors.DivisionByZero):
            pipeline.sync()
        assert before.statusmessage == "INSERT 0 1"
        assert failing.statusmessage is None
        assert after.statusmessage is None
        connection.execute("INSERT INTO piped VALUES (4, 'later')")
    rows = connection.execute("SELECT id FROM piped ORDER BY id").fetchall()
    assert rows == [(1,), (4,)]


def test_an_error_ends_the_pipeline(connection: Connection) -> None:
    for _ in range(5):
        with pytest.raises(psycopg.errors.DivisionByZero):
            _fetch_behind_an_error(connection)
        assert connection.execute("SELECT 'after'").fetchone() == ("after",)


def _fetch_behind_an_error(connection: Connection) -> None:
    """The error may come as early as the second statement is sent."""
    with connection.pipeline():
        connection.execute("SELECT 1 / %s", [0])
        connection.execute("SELECT 'never'").fetchone()


def test_an_error_of_a_statement_that_cannot_be_prepared(connection: Connection) -> None:
    for _ in range(3):
        with pytest.raises(psycopg.errors.UndefinedTable):
            _read_from_nowhere(connection, 8)
        assert connection.execute("SELECT %s::int", [5], prepare=True).fetchone() == (5,)


def _read_from_nowhere(connection: Connection, times: int) -> None:
    with connection.pipeline():
        for _ in range(times):
            connection.execute("SELECT * FROM nowhere WHERE id = %s", [1], prepare=True)


def test_transactions_in_a_pipeline(connection: Connection) -> None:
    with connection.pipeline():
        with connection.transaction():
            connection.execute("INSERT INTO piped VALUES (1, 'a')")
            with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute("INSERT INTO piped VALUES (1, 'b')").fetchall()
            connection.execute("INSERT INTO piped VALUES (2, 'c')")
        count = connection.execute("SELECT count(*) FROM piped")
    assert count.fetchone() == (2,)


def test_a_pipeline_with_large_results(connection: Connection) -> None:
    query = "SELECT repeat('x', 1000) FROM generate_series(1, %s)"
    with connection.pipeline():
        cursors = [connection.execute(query, [n * 100]) for n in range(1, 20)]
    assert [cursor.rowcount for cursor in cursors] == [n * 100 for n in range(1, 20)]


def test_executemany_is_pipelined(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO piped VALUES (%s, %s) RETURNING id",
            [(n, "many") for n in range(500)],
            returning=True,
        )
        ids = [row for result in cursor.results() for row in result.fetchall()]
        assert ids == [(n,) for n in range(500)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            cursor.executemany("INSERT INTO piped VALUES (%s, '')", [(1000,), (1,), (1001,)])
    assert connection.execute("SELECT count(*) FROM piped").fetchone() == (500,)


def test_autocommit_off(target: Target, connection: Connection) -> None:
    with psycopg.connect(target.dsn()) as other:
        with other.pipeline():
            for n in range(10):
                other.execute("INSERT INTO piped VALUES (%s, 'x')", [n])
        other.rollback()
        with other.pipeline():
            other.execute("INSERT INTO piped VALUES (77, 'x')")
            other.commit()
        assert other.execute("SELECT id FROM piped").fetchall() == [(77,)]


async def test_async_connection(
    async_connection: psycopg.AsyncConnection[tuple[object, ...]],
) -> None:
    connection = async_connection
    await connection.execute("CREATE TABLE a_table (n int)")
    async with connection.transaction():
        await connection.execute("INSERT INTO a_table VALUES (1)")
        async with connection.cursor("named") as named:
            await named.execute("SELECT n FROM generate_series(1, 300) n")
            assert [row[0] async for row in named] == list(range(1, 301))
    async with (
        connection.cursor() as cursor,
        cursor.copy("COPY a_table FROM STDIN") as copy,
    ):
        for n in range(100):
            await copy.write_row((n,))
    cursor = await connection.execute("SELECT count(*) FROM a_table")
    assert await cursor.fetchone() == (101,)
    async with connection.pipeline():
        cursors = [await connection.execute("SELECT %s::int", [n]) for n in range(50)]
        await connection.execute("DROP TABLE a_table")
    assert [await cursor.fetchone() for cursor in cursors] == [(n,) for n in range(50)]


async def test_async_cancel_and_notifications(
    target: Target, async_connection: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    connection = async_connection
    task = asyncio.ensure_future(connection.execute("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.2)
    await connection.cancel_safe()
    with pytest.raises(psycopg.errors.QueryCanceled):
        await task
    task = asyncio.ensure_future(connection.execute("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, psycopg.errors.QueryCanceled)):
        await task
    cursor = await connection.execute("SELECT 1")
    assert await cursor.fetchone() == (1,)
    await connection.execute("LISTEN a_channel")
    async with await psycopg.AsyncConnection.connect(target.dsn(), autocommit=True) as other:
        await other.execute("NOTIFY a_channel, 'x'")
    heard = [one async for one in connection.notifies(timeout=10, stop_after=1)]
    assert [one.payload for one in heard] == ["x"]


async def test_many_async_connections(target: Target) -> None:
    async def work(number: int) -> int:
        async with await psycopg.AsyncConnection.connect(target.dsn()) as connection:
            total = 0
            for n in range(15):
                cursor = await connection.execute("SELECT %s::int + %s::int", [number, n])
                row = await cursor.fetchone()
                assert row == (number + n,)
                total += n
                await connection.commit()
            return total

    assert await asyncio.gather(*map(work, range(30))) == [105] * 30
