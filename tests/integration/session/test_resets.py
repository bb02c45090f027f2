"""RESET gives a client the values that it asked for at start-up, as PostgreSQL does."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.local.postgres import SUPERUSER
from tests.databases import Database
from tests.proxies import Proxy, running_proxy

Connection = psycopg.Connection[tuple[object, ...]]
OPTIONS = "-c datestyle=German -c my.tenant=7"


@pytest.fixture(params=["transaction", "session"])
def connection(
    request: pytest.FixtureRequest, database: Database, tmp_path: Path
) -> Iterator[Connection]:
    """A client with settings of its own, in either mode."""
    extra = f'[pool]\nmode = "{request.param}"\n'
    with running_proxy(database, tmp_path, extra=extra) as proxy:
        yield from _connected(proxy)


def _connected(proxy: Proxy) -> Iterator[Connection]:
    with psycopg.connect(proxy.dsn(), options=OPTIONS, autocommit=True) as connection:
        yield connection


def seen(connection: Connection) -> tuple[object, ...]:
    query = "SELECT current_setting('datestyle'), current_setting('my.tenant', true)"
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


RESETS = ("RESET datestyle", "SET datestyle TO DEFAULT", "RESET ALL")


@pytest.mark.parametrize("reset", [*RESETS, "DISCARD ALL"])
@pytest.mark.parametrize("pinned", [False, True])
def test_after_a_statement(connection: Connection, reset: str, pinned: bool) -> None:
    if pinned:
        connection.execute("SELECT pg_advisory_lock(1)")
    for _ in range(2):
        connection.execute("SET datestyle = 'SQL'")
        assert seen(connection) == ("SQL, DMY", "7")
        connection.execute(reset)
        assert seen(connection) == ("German, DMY", "7")
        assert connection.info.parameter_status("DateStyle") == "German, DMY"


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_within_a_transaction(connection: Connection, reset: str, end: str) -> None:
    connection.execute("SET datestyle = 'SQL'")
    connection.execute("BEGIN")
    connection.execute(reset)
    assert seen(connection) == ("German, DMY", "7")
    connection.execute("SAVEPOINT here")
    connection.execute("SET datestyle = 'ISO'")
    assert seen(connection) == ("ISO, DMY", "7")
    connection.execute("ROLLBACK TO here")
    assert seen(connection) == ("German, DMY", "7")
    connection.execute(end)
    left = "German, DMY" if end == "COMMIT" else "SQL, DMY"
    assert seen(connection) == (left, "7")
    assert connection.info.parameter_status("DateStyle") == left


def test_a_value_set_after_the_reset_stands(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("RESET datestyle")
        connection.execute("SET datestyle = 'SQL, DMY'")
        assert seen(connection) == ("SQL, DMY", "7")
    with connection.pipeline(), connection.transaction():
        connection.execute("RESET datestyle")
        connection.execute("SET datestyle = 'SQL, DMY'")
    assert seen(connection) == ("SQL, DMY", "7")


def test_a_setting_that_was_reset_is_not_unknown(database: Database, tmp_path: Path) -> None:
    with (
        running_proxy(database, tmp_path, extra="[pool]\nsize = 2\n") as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as connection,
        psycopg.connect(proxy.dsn(), autocommit=True) as other,
    ):
        connection.execute("SET a.b = 'x'")
        connection.execute("RESET a.b")
        for _ in range(2):
            assert connection.execute("SHOW a.b").fetchone() == ("",)
            with other.transaction():  # takes the connection that was used last
                other.execute("SELECT 1")
                assert connection.execute("SHOW a.b").fetchone() == ("",)


def test_a_value_set_behind_a_reset_of_all_stands(connection: Connection) -> None:
    with connection.pipeline():
        connection.execute("RESET ALL")
        connection.execute("SET datestyle = 'SQL, DMY'")
    assert seen(connection) == ("SQL, DMY", "7")


def test_a_value_that_was_cleared_stays_so(connection: Connection) -> None:
    connection.execute("SET my.tenant = ''")
    assert seen(connection) == ("German, DMY", "")
    connection.execute("SELECT set_config(%s, %s, false)", ["work_mem", "1MB"])
    assert seen(connection) == ("German, DMY", "")
    connection.execute("RESET my.tenant")
    assert seen(connection) == ("German, DMY", "7")


@pytest.mark.parametrize(
    "taken", ["RESET datestyle", "BEGIN; SET datestyle = 'German'; ROLLBACK", "SELECT 1"]
)
def test_the_servers_default_as_ones_own_value_stands(
    database: Database, tmp_path: Path, taken: str
) -> None:
    """Also on a connection that has it by default, as another client left it."""
    with (
        running_proxy(database, tmp_path, extra="[pool]\nsize = 1\n") as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as other,
        psycopg.connect(proxy.dsn(), options=OPTIONS, autocommit=True) as connection,
    ):
        (default,) = other.execute("SHOW datestyle").fetchone() or ("",)
        connection.execute(f"SET datestyle = '{default}'")
        for statement in taken.split("; "):
            other.execute(statement)
        assert seen(connection) == (default, "7")
        connection.execute("SELECT set_config(%s, %s, false)", ["work_mem", "1MB"])
        assert seen(connection) == (default, "7")


def test_resetting_the_session_authorization_ends_the_role(
    database: Database, tmp_path: Path
) -> None:
    superuser = database.stack.primary
    login = f'[[auth.users]]\nname = "{SUPERUSER}"\npassword = "{superuser.superuser_password}"\n'
    roles = "SELECT current_user::text, current_setting('role')"
    with (
        running_proxy(database, tmp_path, extra=login) as proxy,
        psycopg.connect(
            proxy.dsn(),
            user=SUPERUSER,
            password=superuser.superuser_password,
            options=OPTIONS,
            autocommit=True,
        ) as connection,
    ):
        connection.execute(f"SET SESSION AUTHORIZATION {database.user}")
        connection.execute(f"SET ROLE {database.user}")
        assert connection.execute(roles).fetchone() == (database.user, database.user)
        connection.execute("RESET SESSION AUTHORIZATION")
        for _ in range(2):
            assert connection.execute(roles).fetchone() == (SUPERUSER, "none")
            connection.execute("RESET datestyle")
