"""Ten and more clients on two server connections per node: what is whose stays whose.

Prepared statements, settings and temporary state of one client must survive what others do on
the same server connections, also DDL, DEALLOCATE ALL and DISCARD ALL.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import asyncpg
import psycopg
import psycopg_pool
import pytest

from tests.compat.targets import Target, new_target
from tests.databases import Database

CLIENTS = 10

AsyncpgConnection = asyncpg.Connection
PsycopgConnection = psycopg.AsyncConnection[tuple[object, ...]]


@contextlib.asynccontextmanager
async def asyncpg_clients(target: Target, count: int) -> AsyncIterator[list[AsyncpgConnection]]:
    clients = [await asyncpg.connect(target.dsn()) for _ in range(count)]
    try:
        yield clients
    finally:  # one that were left would keep what it holds from the tests that follow
        for client in clients:
            await client.close()


@contextlib.asynccontextmanager
async def psycopg_clients(target: Target, count: int) -> AsyncIterator[list[PsycopgConnection]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(
                    target.dsn(), autocommit=True, prepare_threshold=0
                )
            )
            for _ in range(count)
        ]


async def rows(client: PsycopgConnection, query: bytes, *values: object) -> list[Sequence[object]]:
    """All rows of a statement."""
    return list(await (await client.execute(query, values)).fetchall())


async def test_asyncpg_statements_prepared_once_serve_for_ever(crowded: Target) -> None:
    async with asyncpg_clients(crowded, CLIENTS) as clients:
        prepared = [
            [await client.prepare(f"SELECT $1::int + {n % 7}, {number}") for n in range(12)]
            for number, client in enumerate(clients)
        ]

        async def use(number: int) -> None:
            for turn in range(20):
                for n, statement in enumerate(prepared[number]):
                    row = await statement.fetchrow(turn)
                    assert row is not None
                    assert tuple(row) == (turn + n % 7, number)

        await asyncio.gather(*map(use, range(CLIENTS)))


async def test_psycopg_statements_prepared_once_serve_for_ever(crowded: Target) -> None:
    async with psycopg_clients(crowded, CLIENTS) as clients:

        async def use(number: int) -> None:
            for turn in range(20):
                for n in range(12):
                    query = f"SELECT %s::int + {n}, {number}".encode()
                    assert await rows(clients[number], query, turn) == [(turn + n, number)]

        await asyncio.gather(*map(use, range(CLIENTS)))


async def test_equal_names_for_different_statements(crowded: Target) -> None:
    """Every asyncpg connection counts its names from the start."""
    async with asyncpg_clients(crowded, CLIENTS) as clients:
        statements = [
            await client.prepare(f"SELECT {number} AS mine, $1::text", name="the_same")
            for number, client in enumerate(clients)
        ]
        for _ in range(5):
            found = await asyncio.gather(*(one.fetchval("x") for one in statements))
            assert found == list(range(CLIENTS))


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
async def test_one_client_drops_all_its_statements(crowded: Target, command: str) -> None:
    async with asyncpg_clients(crowded, CLIENTS) as clients:
        statements = [await client.prepare("SELECT $1::int * 2") for client in clients]
        for _ in range(3):
            assert await asyncio.gather(*(one.fetchval(4) for one in statements)) == [8] * CLIENTS
        for _ in range(2):
            await clients[0].execute(command)
            found = await asyncio.gather(*(one.fetchval(5) for one in statements[1:]))
            assert found == [10] * (CLIENTS - 1)
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await statements[0].fetchval(5)  # as on a connection of its own
        again = await clients[0].prepare("SELECT $1::int * 2", name="again")
        assert await again.fetchval(6) == 12


@pytest.mark.parametrize("command", [b"DEALLOCATE ALL", b"DISCARD ALL"])
async def test_psycopg_after_dropping_all_statements(crowded: Target, command: bytes) -> None:
    """psycopg forgets what it has prepared when it sees either command."""
    async with psycopg_clients(crowded, 4) as clients:
        for _ in range(3):
            for client in clients:
                assert await rows(client, b"SELECT %s::int * 2", 3) == [(6,)]
            await clients[0].execute(command)


async def test_psycopg_pools_with_settings_of_their_own(crowded: Target) -> None:
    """Two pools of one application, with different settings on the same server connections."""

    async def work(pool: psycopg_pool.AsyncConnectionPool[PsycopgConnection], zone: str) -> None:
        for _ in range(25):
            async with pool.connection() as client:
                cursor = await client.execute("SHOW timezone")
                assert await cursor.fetchone() == (zone,)
                cursor = await client.execute("SHOW search_path")
                assert await cursor.fetchone() == (f'"{zone}", public',)

    def pool_of(zone: str) -> psycopg_pool.AsyncConnectionPool[PsycopgConnection]:
        async def configure(client: PsycopgConnection) -> None:
            await client.execute(f"SET timezone = '{zone}'".encode())
            await client.execute(f"SET search_path = '{zone}', public".encode())
            await client.commit()

        return psycopg_pool.AsyncConnectionPool(
            crowded.dsn(), min_size=4, max_size=6, configure=configure, open=False
        )

    async with pool_of("UTC") as first, pool_of("Japan") as second, pool_of("Cuba") as third:
        await asyncio.gather(
            *(work(pool, zone) for pool, zone in ((first, "UTC"), (second, "Japan")) * 5),
            *(work(third, "Cuba") for _ in range(5)),
        )


async def test_settings_do_not_leak(crowded: Target) -> None:
    """Half of the clients change settings all the time; the others never see it."""
    async with asyncpg_clients(crowded, CLIENTS) as clients:

        async def change(client: AsyncpgConnection, number: int) -> None:
            for turn in range(15):
                await client.execute(f"SET work_mem = '{1000 + number * 100 + turn}kB'")
                async with client.transaction():
                    await client.execute("SET LOCAL work_mem = '5MB'")
                    assert await client.fetchval("SHOW work_mem") == "5MB"
                shown = await client.fetchval("SHOW work_mem")
                assert shown == f"{1000 + number * 100 + turn}kB"

        async def watch(client: AsyncpgConnection) -> None:
            for _ in range(40):
                assert await client.fetchval("SHOW work_mem") == "4MB"

        await asyncio.gather(
            *(change(client, number) for number, client in enumerate(clients[::2])),
            *map(watch, clients[1::2]),
        )


async def test_settings_of_a_transaction_that_failed(crowded: Target) -> None:
    async with asyncpg_clients(crowded, 2) as (client, other):
        await client.execute("SET work_mem = '7MB'")
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            async with client.transaction():
                await client.execute("SET work_mem = '9MB'")
                await client.execute("SELECT 1/0")
        for _ in range(5):
            assert await client.fetchval("SHOW work_mem") == "7MB"
            assert await other.fetchval("SHOW work_mem") == "4MB"
        await client.execute("RESET work_mem")
        assert await client.fetchval("SHOW work_mem") == "4MB"


async def test_reset_gives_back_what_was_asked_for_at_startup(crowded: Target) -> None:
    settings = {"search_path": "pg_catalog", "timezone": "Japan", "app.tenant": "seven"}

    async def shown(client: AsyncpgConnection) -> list[str]:
        return [await client.fetchval(f"SHOW {name}") for name in settings]

    client = await asyncpg.connect(
        crowded.dsn(),
        server_settings=settings,
        statement_cache_size=0,  # DISCARD ALL drops its statements
    )
    expected = list(settings.values())
    for command in ("RESET ALL", "DISCARD ALL"):
        await client.execute("SET search_path = public; SET timezone = 'Cuba'")
        await client.execute("SET work_mem = '6MB'; SET app.tenant = 'eight'")
        assert await shown(client) == ["public", "Cuba", "eight"]
        await client.execute(command)
        assert await shown(client) == expected
        assert await client.fetchval("SHOW work_mem") == "4MB"
    for command in ("RESET timezone", "SET timezone TO DEFAULT"):
        await client.execute("SET timezone = 'Cuba'")
        assert await shown(client) == ["pg_catalog", "Cuba", "seven"]
        await client.execute(command)
        assert await shown(client) == expected
    async with client.transaction():
        await client.execute("SET timezone = 'Cuba'")
        await client.execute("RESET ALL")
        await client.execute("SET work_mem = '8MB'")
    assert [*await shown(client), await client.fetchval("SHOW work_mem")] == [*expected, "8MB"]
    await client.close()


async def test_asyncpg_after_a_statement_changes_its_result(crowded: Target) -> None:
    """Direct, asyncpg hears 'cached plan must not change result type' and prepares again."""
    await asyncio.to_thread(
        crowded.prepare, "CREATE TABLE shape (id int, n int)", "INSERT INTO shape VALUES (1, 10)"
    )
    async with asyncpg_clients(crowded, 6) as clients:
        query = "SELECT * FROM shape WHERE id = $1"
        for expected, change in (
            ((1, 10), "ALTER TABLE shape ADD COLUMN word text DEFAULT 'w'"),
            ((1, 10, "w"), "ALTER TABLE shape ALTER COLUMN n TYPE text"),
            ((1, "10", "w"), "ALTER TABLE shape DROP COLUMN n"),
            ((1, "w"), None),
        ):
            for client in clients * 2:
                row = await client.fetchrow(query, 1)
                assert row is not None
                assert tuple(row) == expected
            if change is not None:
                await asyncio.to_thread(crowded.prepare, change)


async def test_a_described_statement_never_gives_rows_of_another_type(crowded: Target) -> None:
    """asyncpg decodes by the columns that it was told when it prepared, pgjdbc and others too.

    So a server connection on which the statement is prepared only after the change must refuse
    it as the others do: here an integer's four bytes would be read as a float's.
    """
    await asyncio.to_thread(
        crowded.prepare, "CREATE TABLE bytes (n int)", "INSERT INTO bytes VALUES (10)"
    )
    async with asyncpg_clients(crowded, 2) as (client, other):
        statement = await client.prepare("SELECT n FROM bytes FOR SHARE")
        assert await statement.fetchval() == 10
        await asyncio.to_thread(crowded.prepare, "ALTER TABLE bytes ALTER n TYPE float4 USING 2.5")
        async with other.transaction():  # holds the server connection that was used
            await other.execute("SELECT pg_current_xact_id()")
            with pytest.raises(asyncpg.InvalidCachedStatementError):
                await statement.fetchval()


async def test_psycopg_after_a_statement_changes_its_result(crowded: Target) -> None:
    """Direct, psycopg passes the error on, and the next use is prepared again or fails again."""
    await asyncio.to_thread(
        crowded.prepare, "CREATE TABLE form (id int, n int)", "INSERT INTO form VALUES (1, 10)"
    )
    async with psycopg_clients(crowded, 6) as clients:
        query = b"SELECT * FROM form WHERE id = %s"
        for client in clients * 2:
            assert await rows(client, query, 1) == [(1, 10)]
        await asyncio.to_thread(
            crowded.prepare, "ALTER TABLE form ADD COLUMN word text DEFAULT 'w'"
        )
        for client in clients * 3:
            try:
                found = await rows(client, query, 1)
            except psycopg.errors.FeatureNotSupported:  # cached plan must not change result type
                await client.execute("DEALLOCATE ALL")
            else:
                assert found == [(1, 10, "w")]
        for client in clients:
            assert await rows(client, query, 1) == [(1, 10, "w")]


async def test_a_table_dropped_and_made_again(crowded: Target) -> None:
    async with asyncpg_clients(crowded, 4) as clients:
        for turn in range(3):
            await clients[turn].execute("DROP TABLE IF EXISTS phoenix")
            await clients[turn].execute("CREATE TABLE phoenix (id int, turn int)")
            await clients[turn].execute("INSERT INTO phoenix VALUES (1, $1)", turn)
            await asyncio.to_thread(crowded.settle)
            for client in clients:
                query = "SELECT turn FROM phoenix WHERE id = $1"
                assert await client.fetchval(query, 1) == turn


async def test_temporary_tables_of_the_same_name(crowded: Target) -> None:
    """Each holds on to a server connection, so there are as many clients as connections."""
    async with asyncpg_clients(crowded, 2) as clients:
        for number, client in enumerate(clients):
            await client.execute("CREATE TEMP TABLE scratch (n int)")
            await client.execute("INSERT INTO scratch VALUES ($1)", number)
        for _ in range(5):
            found = [await client.fetchval("SELECT n FROM scratch") for client in clients]
            assert found == [0, 1]
    async with asyncpg_clients(crowded, 2) as clients:
        for client in clients:  # nothing is left on the server connections
            with pytest.raises(asyncpg.UndefinedTableError):
                await client.fetchval("SELECT n FROM scratch")


async def test_advisory_locks_are_let_go_with_their_session(crowded: Target) -> None:
    async with asyncpg_clients(crowded, 1) as (holder,):
        assert await holder.fetchval("SELECT pg_try_advisory_lock(42)")
        async with asyncpg_clients(crowded, 1) as (other,):
            assert not await other.fetchval("SELECT pg_try_advisory_lock(42)")
    async with asyncpg_clients(crowded, 1) as (next_one,):
        async with asyncio.timeout(10):  # the server ends the session in its own time
            await next_one.execute("SELECT pg_advisory_lock(42)")


@pytest.fixture(scope="module")
def narrow(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server connection per node, and no patience."""
    extra = '[pool]\nsize = 1\nwait_timeout = "1s"\n'
    with new_target(module_database, tmp_path_factory.mktemp("narrow"), extra) as target:
        yield target


@pytest.mark.parametrize(
    ("takes", "gives_back"),
    [
        ("DECLARE held CURSOR WITH HOLD FOR SELECT 1", "CLOSE held"),
        ("DECLARE held CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL"),
        ("LISTEN news", "UNLISTEN *"),
        ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock_all()"),
        ("CREATE TEMP TABLE scratch (n int)", "DISCARD ALL"),
        ("PREPARE mine AS SELECT 1", "DEALLOCATE ALL"),
    ],
)
async def test_a_server_connection_is_given_back_with_its_state(
    narrow: Target, takes: str, gives_back: str
) -> None:
    """With persistent connections, as Django's with CONN_MAX_AGE, each client uses such once."""
    async with asyncpg_clients(narrow, 2) as clients:
        for client in clients:
            await client.execute(takes)
            await client.execute(gives_back)
        assert await clients[0].fetchval("SELECT 1 FROM pg_current_xact_id()") == 1


async def test_an_asyncpg_pool_of_twenty(crowded: Target) -> None:
    """The pool resets each connection when it is given back."""
    await asyncio.to_thread(crowded.prepare, "CREATE TABLE counted (id int PRIMARY KEY, n int)")
    async with asyncpg.create_pool(crowded.dsn(), min_size=20, max_size=20) as pool:
        await pool.executemany("INSERT INTO counted VALUES ($1, 0)", [(n,) for n in range(10)])

        async def work(number: int) -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("UPDATE counted SET n = n + 1 WHERE id = $1", number % 10)
                seen = await connection.fetchval("SELECT n FROM counted WHERE id = $1", number % 10)
                assert seen >= 1

        await asyncio.gather(*map(work, range(200)))
        async with pool.acquire() as connection, connection.transaction():
            assert await connection.fetchval("SELECT sum(n) FROM counted") == 200
