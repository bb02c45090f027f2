"""Databases by another name, by any name, and with a query at each connection's start."""

from collections.abc import Iterator

import pytest

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database
from tests.integration.pool.conftest import Start
from tests.integration.pool.people import Pooled, backend_of, refusal

ANY = '[database."*".primary]\nport = PORT\n'


@pytest.fixture
def another(stack: Stack, module_database: Database) -> Iterator[Database]:
    """One that no configuration names."""
    with fresh_database(stack, f"{module_database.name}_b") as database:
        yield database


async def test_two_names_for_one_database(start: Start) -> None:
    pooled = start(
        '[database.alias]\nserver_database = "DATABASE"\n[database.alias.primary]\nport = PORT\n'
    )
    async with pooled.client() as one, pooled.client(database="alias") as two:
        for each in (one, two):
            name = (await each.query("SELECT current_database()")).value
            assert name == pooled.proxy.database.name
        assert await backend_of(one) != await backend_of(two)  # pools of their own


async def test_any_name_is_passed_through(start: Start, another: Database) -> None:
    """Settings, statements and reads work as elsewhere; one that is configured goes its own way."""
    pooled = start(ANY)
    async with pooled.client(database=another.name, application_name="guest") as one:
        assert (await one.query("SELECT current_database()")).value == another.name
        await one.query("CREATE TABLE t AS SELECT 7 AS a")
        await one.query("SET work_mem = '9MB'")
        async with pooled.client(database=another.name) as two:
            assert (await two.query("SELECT a FROM t")).value == "7"
            assert (await two.query("SHOW work_mem")).value == "4MB"
        assert (await one.query("SHOW work_mem")).value == "9MB"
        async with pooled.client() as own:
            assert (await own.query("SELECT to_regclass('t')")).value is None
        shown = await databases(pooled)
        assert another.name in shown
        assert "*" not in shown


async def databases(pooled: Pooled) -> set[str | None]:
    """Those that SHOW DATABASES lists."""
    async with pooled.client(database="penstock") as console:
        return {row[0] for row in (await console.query("SHOW DATABASES")).rows}


async def until_gone(pooled: Pooled, name: str) -> None:
    while name in await databases(pooled):
        pass


async def test_a_name_that_no_server_knows_leaves_nothing(start: Start) -> None:
    pooled = start(ANY)
    for _ in range(2):
        refused = await refusal(pooled.login(database="no_such_database"))
        assert refused["C"] == "3D000"
        await until_gone(pooled, "no_such_database")


async def test_a_database_without_clients_is_dropped(start: Start, another: Database) -> None:
    """With its connections; the next client finds it again."""
    pooled = start(
        f"{ANY}[pool]\nmin_size = 2\n"
        '[limits]\non_demand_idle_timeout = "1s"\non_demand_databases = 1\n'
    )
    for _ in range(2):
        async with pooled.client(database=another.name) as one:
            assert (await one.query("SELECT current_database()")).value == another.name
            refused = await refusal(pooled.login(database="postgres"))
            assert refused["C"] == "53300"
            assert "on_demand_databases" in refused["H"]
        await until_gone(pooled, another.name)
    async with pooled.client(database="postgres") as one:
        server = "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + another.name + "'"
        while (await one.query(server)).value != "0":
            pass


async def test_a_query_at_each_connections_start(start: Start) -> None:
    """What it sets is each client's beginning, comes back at RESET, and doesn't get lost."""
    pooled = start(
        '[pool]\nsize = 1\n[database."DATABASE"]\nconnect_query = """\n'
        "SET work_mem = '11MB'; SET statement_timeout = '77s'; "
        'CREATE TEMP TABLE made (a int)"""\n'
    )
    ask = (
        "SELECT concat_ws(' ', current_setting('work_mem'), "
        "current_setting('statement_timeout'), to_regclass('made'))"
    )
    async with pooled.client() as one, pooled.client(statement_timeout="55s") as two:
        assert (await one.query(ask)).value == "11MB 77s made"
        assert (await two.query(ask)).value == "11MB 55s made"
        await one.query("SET work_mem = '12MB'")
        assert (await two.query(ask)).value == "11MB 55s made"
        assert (await one.query(ask)).value == "12MB 77s made"
        await one.query("RESET work_mem")
        assert (await one.query(ask)).value == "11MB 77s made"
        await two.query("RESET ALL")
        assert (await two.query(ask)).value == "11MB 55s made"
    async with pooled.client() as three:
        assert (await three.query(ask)).value == "11MB 77s made"


async def test_a_query_at_the_start_that_fails(start: Start) -> None:
    pooled = start('[database."DATABASE"]\nconnect_query = "SELECT nonsense"\n')
    refused = await refusal(pooled.login())
    assert refused["C"] == "42703"
    assert "connect_query of database" in refused["M"]
