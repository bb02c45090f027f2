"""Many clients with different states on few server connections: each sees its own, always."""

import asyncio
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.databases import Database
from tests.integration.session.person import Person, defaults_of
from tests.integration.session.raw import (
    SYNC,
    RawClient,
    bind,
    client,
    close,
    execute,
    parse,
    query,
    run,
)
from tests.proxies import Proxy, running_proxy

CLIENTS = 50
STEPS = 40


@pytest.fixture(scope="module")
def crowded(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Four connections to each server."""
    extra = "[pool]\nsize = 4\n"
    directory = tmp_path_factory.mktemp("proxy")
    with running_proxy(module_database, directory, extra=extra) as proxy:
        yield proxy


async def test_settings_of_many_clients(crowded: Proxy) -> None:
    defaults = await defaults_of(crowded)
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(Person(crowded, number, defaults).live(steps=STEPS))


async def test_what_is_reported_at_login_is_true(crowded: Proxy) -> None:
    """Also on a connection that another session had put into this very state."""
    async with client(crowded) as one:
        await one.query("SET timezone = 'America/Lima'")
        await one.query("SELECT 1; SELECT 2")
    for _ in range(6):
        async with client(crowded, timezone="America/Lima") as other:
            assert other.parameters["TimeZone"] == "America/Lima"
        async with client(crowded, timezone="America/Lima", application_name="x") as other:
            assert other.parameters["TimeZone"] == "America/Lima"


async def test_a_client_without_a_name_has_none(crowded: Proxy) -> None:
    named = await RawClient.login(crowded, application_name="shop")
    nameless = await RawClient.login(crowded)
    for _ in range(3):
        assert (await named.ask(query("SHOW application_name"))).value == "shop"
        assert (await nameless.ask(query("SHOW application_name"))).value == ""
        await nameless.ask(query("RESET application_name"))
    assert nameless.parameters["application_name"] == ""
    await named.leave()
    await nameless.leave()


async def test_a_role_is_the_sessions_own(crowded: Proxy) -> None:
    async with client(crowded) as one, client(crowded) as two:
        await one.query("SET ROLE none")
        await one.query("SET default_transaction_read_only = on")
        assert (await one.query("CREATE TABLE never (a int)")).errors == ["25006"]
        for _ in range(8):
            assert (await two.query("SHOW default_transaction_read_only")).value == "off"
            assert (await one.query("SHOW default_transaction_read_only")).value == "on"


async def test_temporary_tables_and_locks_stay_with_their_session(crowded: Proxy) -> None:
    people = [await RawClient.login(crowded) for _ in range(3)]
    for number, each in enumerate(people):
        await each.query(f"CREATE TEMP TABLE mine AS SELECT {number} AS a")
        assert (await each.query(f"SELECT pg_try_advisory_lock({number})")).value == "t"
    for _ in range(5):
        for number, each in enumerate(people):
            assert (await each.query("SELECT a FROM mine")).value == str(number)
            reply = await each.query(
                "SELECT a FROM mine",
            )
            assert reply.value == str(number)
    async with client(crowded) as other:
        assert (await other.query("SELECT to_regclass('mine')")).value is None
        assert (await other.query("SELECT pg_try_advisory_lock(1)")).value == "f"
    for each in people:
        await each.leave()
    async with client(crowded) as other:
        async with asyncio.timeout(5):
            while (await other.query("SELECT pg_try_advisory_lock(1)")).value != "t":
                pass


async def test_listeners_hear_while_idle_and_between_answers(crowded: Proxy) -> None:
    async with client(crowded) as listener, client(crowded) as speaker:
        await listener.query("LISTEN news")
        for number in range(20):
            await speaker.query(f"NOTIFY news, '{number}'")
            if number % 2:
                listener.send(b"".join(run(f"SELECT {number}") + SYNC for _ in range(3)))
                answers = [await listener.until("Z") for _ in range(3)]
                assert [each.value for each in answers] == [str(number)] * 3
        await speaker.query("NOTIFY news, 'last'")
        heard = [m.body for each in answers for m in each.messages if m.kind == "A"]
        while not heard or b"last" not in heard[-1]:
            got = await listener.receive()
            if got.kind == "A":
                heard.append(got.body)


async def test_currval_and_cursors_in_transactions(crowded: Proxy) -> None:
    async with client(crowded) as one, client(crowded) as two:
        await one.query("CREATE SEQUENCE IF NOT EXISTS numbers")
        for each in (one, two):
            await each.query("BEGIN")
            await each.query("DECLARE c CURSOR FOR SELECT generate_series(1, 10)")
        assert (await one.query("FETCH 2 FROM c")).rows == [("1",), ("2",)]
        assert (await two.query("FETCH 1 FROM c")).rows == [("1",)]
        first, second = [
            (await each.query("SELECT nextval('numbers')")).value for each in (one, two)
        ]
        assert (await one.query("SELECT currval('numbers')")).value == first
        assert (await two.query("SELECT currval('numbers')")).value == second
        for each in (one, two):
            await each.query("COMMIT")


async def test_a_fresh_parse_after_ddl_works(crowded: Proxy) -> None:
    """What another client prepared before must not be what this one gets."""
    async with client(crowded) as one, client(crowded) as two:
        await one.query("CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
        for _ in range(6):
            await one.ask(parse("SELECT * FROM changing", "s"), bind(name="s"), execute(), SYNC)
            await one.ask(close("s"), SYNC)
        await two.query("ALTER TABLE changing ADD b int DEFAULT 2")
        for _ in range(6):
            reply = await two.ask(
                parse("SELECT * FROM changing", "t"), bind(name="t"), execute(), close("t"), SYNC
            )
            assert reply.rows == [("1", "2")]


@pytest.mark.parametrize(
    "changed",
    [
        "SELECT set_config('my.secret', 'x', false)",
        "DO $$ BEGIN PERFORM set_config('my.secret', 'x', false); END $$",
        "BEGIN; SELECT set_config('my.secret', 'x', false); COMMIT",
    ],
)
async def test_custom_settings_do_not_leak(crowded: Proxy, changed: str) -> None:
    async with client(crowded) as one, client(crowded) as two:
        await one.query(changed)
        for _ in range(8):
            found = await two.query("SELECT coalesce(current_setting('my.secret', true), '')")
            assert found.value == ""
            assert (await one.query("SELECT current_setting('my.secret')")).value == "x"


@pytest.fixture(scope="module")
def single(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One connection to each server, and no patience."""
    extra = '[pool]\nsize = 1\nwait_timeout = "1s"\nlisten = "pinned"\n'
    directory = tmp_path_factory.mktemp("single")
    with running_proxy(module_database, directory, extra=extra) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("takes", "part", "rest"),
    [
        ("LISTEN a; SELECT pg_advisory_lock(1)", "UNLISTEN *", "DISCARD ALL"),
        ("LISTEN a", "BEGIN; UNLISTEN *; ROLLBACK", "UNLISTEN *"),
        ("LISTEN a", "UNLISTEN *; LISTEN b", "UNLISTEN *"),
        ("LISTEN a", "UNLISTEN * nonsense", "UNLISTEN *"),
        ("SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all() LIMIT 0", "DISCARD ALL"),
        ("PREPARE p AS SELECT pg_advisory_lock(1)", "EXECUTE p", "DISCARD ALL"),
        ("PREPARE p AS SELECT pg_advisory_lock(1)", "DEALLOCATE ALL", "DISCARD ALL"),
    ],
)
async def test_a_connection_is_kept_until_all_of_its_state_is_over(
    single: Proxy, takes: str, part: str, rest: str
) -> None:
    async with client(single) as one, client(single) as other:
        await one.query(takes)
        await one.query(part)
        assert (await other.query("SELECT 1 FOR UPDATE")).errors == ["57P03"]
        assert (await one.query(rest)).errors == []
        assert (await other.query("SELECT 1 FOR UPDATE")).value == "1"


async def test_a_statement_that_is_bound_and_not_run_ends_nothing(single: Proxy) -> None:
    async with client(single) as one, client(single) as other:
        await one.query("LISTEN a")
        await one.ask(parse("UNLISTEN *"), bind(), SYNC)
        assert (await other.query("SELECT 1 FOR UPDATE")).errors == ["57P03"]
        await one.ask(parse("UNLISTEN *"), bind(), execute(), SYNC)
        assert (await other.query("SELECT 1 FOR UPDATE")).value == "1"


SETTERS = (
    "CREATE FUNCTION enter() RETURNS void LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM set_config('my.own', 'x', false); END $$",
    "CREATE FUNCTION outer_one() RETURNS int LANGUAGE sql AS 'SELECT enter(); SELECT 1'",
    "CREATE PROCEDURE enter_by_call() LANGUAGE plpgsql AS $$ BEGIN SET my.own = 'x'; END $$",
    "CREATE FUNCTION enter_named(name text) RETURNS void LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM set_config(name, 'x', false); END $$",
    "CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN SET my.own = 'x'; RETURN new; END $$",
    "CREATE TABLE watched (a int)",
    "CREATE TRIGGER watched BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION on_insert()",
)


@pytest.fixture(scope="module")
def setting(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that knows of functions which change settings."""
    with psycopg.connect(module_database.dsn(), autocommit=True) as connection:
        for statement in SETTERS:
            connection.execute(statement.encode())
    directory = tmp_path_factory.mktemp("setting")
    with (
        running_proxy(module_database, directory, extra="[pool]\nsize = 4\n") as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as connection,
    ):
        deadline = time.monotonic() + 10
        while "my.own" not in str(connection.execute(b"SHOW ROUTE FOR SELECT enter()").fetchall()):
            assert time.monotonic() < deadline
            connection.execute(b"SELECT pg_sleep(0.01)")
        yield proxy


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT enter()",
        "SELECT outer_one()",
        "CALL enter_by_call()",
        "SELECT enter_named('my.' || 'own')",
        "INSERT INTO watched VALUES (1)",
        "PREPARE p AS SELECT enter(); EXECUTE p; DEALLOCATE ALL",
    ],
)
async def test_custom_settings_of_functions_do_not_leak(setting: Proxy, sql: str) -> None:
    shown = "SELECT coalesce(current_setting('my.own', true), '') FROM pg_current_xact_id()"
    async with client(setting) as one, client(setting) as two:
        assert not (await one.query(sql)).errors
        for _ in range(8):
            assert (await two.query(shown)).value == ""
            assert (await one.query(shown)).value == "x"


async def test_what_a_reset_reports(crowded: Proxy) -> None:
    """The value that was asked for at start-up, from whichever connection comes next."""
    async with client(crowded) as other:
        await other.query("SET timezone = 'Asia/Tokyo'")
        for reset in ("RESET timezone", "RESET ALL", "DISCARD ALL", "SET timezone TO DEFAULT"):
            async with client(crowded, timezone="Asia/Tokyo") as one:
                await one.query("SET timezone = 'America/Lima'")
                assert one.parameters["TimeZone"] == "America/Lima"
                await one.query(reset)
                await other.query("SELECT 1")
                assert (await one.query("SHOW timezone")).value == "Asia/Tokyo"
                assert one.parameters["TimeZone"] == "Asia/Tokyo"


async def test_what_a_rollback_reports(crowded: Proxy) -> None:
    async with client(crowded) as one:
        before = one.parameters["TimeZone"]
        await one.query("BEGIN; SET timezone = 'America/Lima'")
        assert one.parameters["TimeZone"] == "America/Lima"
        await one.query("ROLLBACK")
        assert one.parameters["TimeZone"] == before
