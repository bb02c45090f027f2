"""The admin console through the clients that people and tools use, on real servers."""

import re
from pathlib import Path

import asyncpg
import psycopg
import pytest

from tests.databases import Database
from tests.integration.admin.consoles import (
    COMMANDS,
    OTHER_PASSWORD,
    console,
    psql,
    show,
)
from tests.proxies import Proxy, running_proxy


def test_every_command_in_psql(console_proxy: Proxy) -> None:
    output, errors = psql(console_proxy, ";\n".join(COMMANDS) + ";\n")
    assert errors == ""
    assert len(re.findall(r"^\(\d+ rows?\)$", output, re.M)) == len(COMMANDS)


def test_psql_shows_help_and_knows_several_commands_in_one_string(console_proxy: Proxy) -> None:
    output, errors = psql(console_proxy, "", "-At", "-c", "show version; SHOW help;")
    assert errors == ""
    listed = output.splitlines()
    assert listed[0].startswith("Penstock ")
    assert {line.split("|")[0] for line in listed[1:]} >= set(COMMANDS)


def test_the_other_name(console_proxy: Proxy) -> None:
    with console(console_proxy, "pgbouncer") as connection:
        row = connection.execute("SHOW VERSION").fetchone()
    assert row is not None
    assert row["version"].startswith("Penstock ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_every_protocol_and_format(console_proxy: Proxy, command: str) -> None:
    with console(console_proxy) as connection:
        simple = connection.execute(command)
        described = [(column.name, column.type_code) for column in simple.description or ()]
        rows = simple.fetchall()
        for binary in (False, True):
            extended = connection.execute(command, [], prepare=True, binary=binary)
            assert [(c.name, c.type_code) for c in extended.description or ()] == described
            fetched = extended.fetchall()
            assert len(fetched) == len(rows)
            for one, other in zip(fetched, rows, strict=True):
                assert [type(v) for v in one.values()] == [type(v) for v in other.values()]


@pytest.mark.parametrize("command", COMMANDS)
async def test_asyncpg(console_proxy: Proxy, command: str) -> None:
    connection = await asyncpg.connect(console_proxy.dsn("penstock"))
    try:
        records = await connection.fetch(command)
        assert [list(record.keys()) for record in records][:1] == [
            list(row.keys()) for row in show(console_proxy, command)
        ][:1]
        assert (
            await connection.fetchval("SHOW VERSION")
            == show(console_proxy, "SHOW VERSION")[0]["version"]
        )
    finally:
        await connection.close()


async def test_an_asyncpg_pool_lends_its_connections_again(console_proxy: Proxy) -> None:
    async with asyncpg.create_pool(console_proxy.dsn("penstock"), min_size=1, max_size=1) as pool:
        for _ in range(3):
            assert len(await pool.fetch("SHOW STATE")) == 3


async def test_an_asyncpg_cursor_takes_rows_by_parts(console_proxy: Proxy) -> None:
    connection = await asyncpg.connect(console_proxy.dsn("penstock"))
    try:
        async with connection.transaction():
            cursor = await connection.cursor("SHOW HELP")
            first = await cursor.fetch(2)
            rest = await cursor.fetch(1000)
        everything = await connection.fetch("SHOW HELP")
        assert len(first) == 2
        assert [*first, *rest] == everything
    finally:
        await connection.close()


def test_several_commands_in_a_pipeline_of_psycopg(console_proxy: Proxy) -> None:
    with console(console_proxy) as connection:
        with connection.pipeline():
            cursors = [connection.execute(command) for command in COMMANDS]
        names = [[column.name for column in cursor.description or ()] for cursor in cursors]
    assert names[COMMANDS.index("SHOW VERSION")] == ["version"]
    assert all(names)


def test_the_session_goes_on_after_an_error(console_proxy: Proxy) -> None:
    with console(console_proxy) as connection:
        for prepare in (False, True):
            with pytest.raises(psycopg.errors.SyntaxError):
                connection.execute("SHOW NOTHING AT ALL", prepare=prepare)
            assert len(connection.execute("SHOW STATE").fetchall()) == 3


def test_an_empty_query_and_what_drivers_send_by_themselves(console_proxy: Proxy) -> None:
    output, errors = psql(
        console_proxy,
        "BEGIN; SET application_name = 'x'; SET extra_float_digits = 3; COMMIT; ;"
        " DISCARD ALL; SHOW client_encoding;",
        "-At",
    )
    assert errors == ""
    assert output.splitlines() == ["BEGIN", "SET", "SET", "COMMIT", "DISCARD ALL", "UTF8"]


def test_others_are_refused_with_a_hint(console_proxy: Proxy) -> None:
    for database in ("penstock", "pgbouncer"):
        with pytest.raises(psycopg.OperationalError, match="may not use the admin console") as e:
            psycopg.connect(console_proxy.dsn(database), user="onlooker", password=OTHER_PASSWORD)
        assert "auth.admins" in str(e.value)


def test_trust_without_admins_opens_it_to_all_and_says_so(
    database: Database, tmp_path: Path
) -> None:
    environment = {"PENSTOCK_AUTH__METHOD": "trust", "PENSTOCK_AUTH__ADMINS": "[]"}
    with running_proxy(database, tmp_path, environment=environment) as proxy:
        with psycopg.connect(proxy.dsn("penstock"), user="anybody") as connection:
            assert connection.execute("SHOW VERSION").fetchone()
        events = [str(line["event"]) for line in proxy.log()]
    assert [one for one in events if one.startswith("everyone may use the admin console")]


def test_scram_without_admins_lets_nobody_in(database: Database, tmp_path: Path) -> None:
    refusal = pytest.raises(psycopg.OperationalError, match="may not use the admin console")
    environment = {"PENSTOCK_AUTH__ADMINS": "[]"}
    with running_proxy(database, tmp_path, environment=environment) as proxy, refusal:
        psycopg.connect(proxy.dsn("penstock"))


def test_a_stop_tells_who_is_in_the_console(database: Database, tmp_path: Path) -> None:
    with running_proxy(database, tmp_path) as proxy:
        connection = console(proxy)
        connection.execute("SHOW STATE")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SHOW STATE")
