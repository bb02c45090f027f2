"""What functions, blocks and computed names leave on a connection stays with their session."""

import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.databases import Database
from tests.integration.session.raw import SYNC, RawClient, client, run
from tests.proxies import Proxy, running_proxy

FUNCTIONS = (
    "CREATE FUNCTION makes_a_table() RETURNS void LANGUAGE plpgsql AS "
    "$$ BEGIN CREATE TEMP TABLE mine (a int); END $$",
    "CREATE FUNCTION makes_a_table_for_now() RETURNS void LANGUAGE plpgsql AS "
    "$$ BEGIN CREATE TEMP TABLE mine (a int) ON COMMIT DROP; END $$",
    "CREATE FUNCTION runs(text text) RETURNS void LANGUAGE plpgsql AS "
    "$$ BEGIN EXECUTE text; END $$",
    "CREATE FUNCTION locks() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(1)'",
    "CREATE FUNCTION locks_and_fails() RETURNS void LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM locks(); RAISE 'no'; END $$",
    "CREATE FUNCTION locks_on_insert() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM locks(); RETURN new; END $$",
    "CREATE TABLE watched (a int)",
    "CREATE TRIGGER watched BEFORE INSERT ON watched "
    "FOR EACH ROW EXECUTE FUNCTION locks_on_insert()",
)
FOUND = (
    "SELECT (SELECT count(*) FROM pg_class WHERE relname = 'mine' "
    "AND relnamespace = pg_my_temp_schema()), "
    "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), "
    "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql), "
    "(SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_listening_channels()), "
    "coalesce(current_setting('my.own', true), ''), current_setting('work_mem')"
)
NOTHING = ("0", "0", "0", "0", "0", "", "4MB")


@pytest.fixture(scope="module")
def leaving(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that knows of functions which leave something."""
    with psycopg.connect(module_database.dsn(), autocommit=True) as connection:
        for statement in FUNCTIONS:
            connection.execute(statement.encode())
    extra = "[pool]\nsize = 3\n[routing]\nenabled = false\n"
    with (
        running_proxy(module_database, tmp_path_factory.mktemp("leaving"), extra=extra) as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as connection,
    ):
        deadline = time.monotonic() + 10
        while "may keep" not in str(
            connection.execute(b"SHOW ROUTE FOR SELECT locks()").fetchall()
        ):
            assert time.monotonic() < deadline
            connection.execute(b"SELECT pg_sleep(0.01)")
        yield proxy


async def what_is_there(one: RawClient) -> tuple[str | None, ...]:
    (row,) = (await one.query(FOUND)).rows
    return row


async def pinned(proxy: Proxy, one: RawClient) -> str | None:
    """The reason that SHOW CLIENTS gives for it."""
    port = one.writer.get_extra_info("sockname")[1]
    with psycopg.connect(proxy.dsn("penstock"), autocommit=True) as console:
        cursor = console.execute(b"SHOW CLIENTS")
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    (reason,) = [row["pinned"] for row in rows if row["port"] == port]
    return str(reason) if reason else None


@pytest.mark.parametrize(
    ("sql", "left", "reason"),
    [
        ("SELECT makes_a_table()", {0: "1"}, "temporary object"),
        ("DO $$ BEGIN PERFORM makes_a_table(); END $$", {0: "1"}, "temporary object"),
        ("DO $$ BEGIN CREATE TEMP TABLE mine (a int); END $$", {0: "1"}, "temporary object"),
        ("SELECT runs('create temp table mine (a int)')", {0: "1"}, "temporary object"),
        ("BEGIN; SELECT makes_a_table(); COMMIT", {0: "1"}, "temporary object"),
        ("SELECT locks()", {1: "1"}, "session advisory lock"),
        ("SELECT locks_and_fails()", {1: "1"}, "session advisory lock"),
        (
            "SELECT pg_advisory_lock(1), 1 / a FROM generate_series(0, 0) a",
            {1: "1"},
            "session advisory lock",
        ),
        ("BEGIN; SELECT pg_advisory_lock(1); ROLLBACK", {1: "1"}, "session advisory lock"),
        ("INSERT INTO watched VALUES (1)", {1: "1"}, "session advisory lock"),
        ("SELECT runs('prepare p as select 1')", {2: "1"}, "PREPARE"),
        (
            "SELECT runs('declare c cursor with hold for select 1')",
            {3: "1"},
            "DECLARE … WITH HOLD",
        ),
        ("SELECT set_config('my.' || 'own', 'x', false)", {5: "x"}, "settings that a function"),
        ("DO $$ BEGIN SET my.own = 'x'; END $$", {5: "x"}, ""),
        (
            "DO $$ BEGIN EXECUTE 'SET ' || 'my.own = 1'; END $$",
            {5: "1"},
            "settings that a function",
        ),
        ("UPDATE pg_settings SET setting = '8MB' WHERE name = 'work_mem'", {6: "8MB"}, ""),
        ("SELECT makes_a_table_for_now()", {}, ""),
        ("BEGIN; SELECT makes_a_table(); ROLLBACK", {}, ""),
        ("DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE mine ()'; DROP TABLE mine; END $$", {}, ""),
    ],
)
async def test_it_is_the_sessions_own(
    leaving: Proxy, sql: str, left: dict[int, str], reason: str
) -> None:
    expected = tuple(left.get(place, value) for place, value in enumerate(NOTHING))
    async with client(leaving) as one, client(leaving) as two:
        await one.query(sql)
        for _ in range(4):
            assert await what_is_there(two) == NOTHING
            assert await what_is_there(one) == expected
        found = await pinned(leaving, one)
        assert (found or "").startswith(reason)
        assert (found is None) == (not reason)
    async with client(leaving) as later:
        assert await what_is_there(later) == NOTHING


async def test_a_name_put_together_from_parameters(leaving: Proxy) -> None:
    async with client(leaving) as one, client(leaving) as two:
        sql = "SELECT set_config('my.' || $1, $2, false)"
        assert (await one.ask(run(sql, b"own", b"x"), SYNC)).value == "x"
        for _ in range(4):
            assert await what_is_there(two) == NOTHING
            assert (await what_is_there(one))[5] == "x"


async def test_who_leaves_at_once_leaves_nothing(leaving: Proxy) -> None:
    """Before the server could be asked."""
    for _ in range(5):
        one = await RawClient.login(leaving)
        one.send(run("SELECT locks()"), run("SELECT makes_a_table()"), SYNC)
        one.vanish()
        async with client(leaving) as two:
            assert await what_is_there(two) == NOTHING
