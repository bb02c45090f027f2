"""DROP DATABASE and its like, which PostgreSQL refuses while Penstock idles in that database."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.proxies import Proxy, running_proxy

CACHES = '[[cache.rule]]\nname = "all"\ntables = ["*"]\nttl = "10min"\n'


@pytest.fixture
def names(stack: Stack) -> Iterator[list[str]]:
    """Names of databases, which are dropped in the end if they are there."""
    found = [f"drop_{uuid.uuid4().hex[:10]}" for _ in range(3)]
    yield found
    with superuser_connection(stack.primary) as connection:
        for name in found:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(name)))


def wildcard(stack: Stack, mode: str, extra: str = "") -> str:
    """Every database of the stack's primary, on demand, with warm connections and a watch on each;
    for the superuser too."""
    primary = stack.primary
    return (
        f'{extra}[database."*"]\nprimary = {{ host = "{primary.host}", port = {primary.port} }}\n'
        f'[pool]\nmode = "{mode}"\nmin_size = 2\n'
    )


@pytest.fixture(params=["transaction", "session"])
def proxy(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Proxy]:
    """It serves databases on demand."""
    extra = wildcard(database.stack, request.param)
    with running_proxy(database, tmp_path, extra=extra) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def may_create(stack: Stack, database: Database) -> None:
    """The application's role makes databases, as that of a test runner does."""
    with superuser_connection(stack.primary) as connection:
        connection.execute(f"ALTER ROLE {database.user} CREATEDB")


def connect(proxy: Proxy, name: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(proxy.dsn(name), autocommit=True)


def watched(stack: Stack, name: str) -> set[str]:
    """Penstock's own connections to a database."""
    with superuser_connection(stack.primary) as connection:
        rows = connection.execute(
            "SELECT application_name FROM pg_stat_activity WHERE datname = %s", [name]
        ).fetchall()
    return {row[0] for row in rows}


def await_watch(stack: Stack, name: str, wanted: bool = True) -> None:
    deadline = time.monotonic() + 20
    expected = {"penstock monitor", "penstock catalogue"}
    while (expected <= watched(stack, name)) is not wanted:
        assert time.monotonic() < deadline, watched(stack, name)
        time.sleep(0.02)


def test_the_life_of_a_test_database(proxy: Proxy, stack: Stack, names: list[str]) -> None:
    name, other, _ = names
    for _ in range(2):
        with connect(proxy, proxy.database.name) as admin:
            admin.execute(f"CREATE DATABASE {name}")
            with connect(proxy, name) as one, connect(proxy, name) as two:
                one.execute("CREATE TABLE t (a int)")
                two.execute("INSERT INTO t VALUES (1)")
                await_watch(stack, name)
            with connect(proxy, name) as one:
                assert one.execute("SELECT * FROM t").fetchall() == [(1,)]
            admin.execute(f"CREATE DATABASE {other} TEMPLATE {name}")
            with connect(proxy, other) as one:
                assert one.execute("SELECT * FROM t").fetchall() == [(1,)]
            admin.execute(f"DROP DATABASE {other}")
            with connect(proxy, name) as one:
                assert one.execute("SELECT * FROM t").fetchall() == [(1,)]
            admin.execute(f"ALTER DATABASE {name} RENAME TO {other}")
            with connect(proxy, other) as one:
                assert one.execute("SELECT * FROM t").fetchall() == [(1,)]
            with pytest.raises(psycopg.OperationalError, match="does not exist"):
                connect(proxy, name).execute("SELECT 1")
            admin.execute(f'DROP DATABASE IF EXISTS "{other}"')
        assert not watched(stack, name) | watched(stack, other)


def test_clients_at_work_are_left_alone(proxy: Proxy, stack: Stack, names: list[str]) -> None:
    name = names[0]
    with connect(proxy, proxy.database.name) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        with connect(proxy, name) as one:
            await_watch(stack, name)
            one.execute("BEGIN")
            one.execute("CREATE TABLE t (a int)")
            with pytest.raises(psycopg.errors.ObjectInUse):
                admin.execute(f"DROP DATABASE {name}")
            one.execute("COMMIT")
            assert one.execute("SELECT * FROM t").fetchall() == []
            await_watch(stack, name)
        admin.execute(f"DROP DATABASE {name}")


def test_with_workers_and_listeners(
    database: Database, stack: Stack, names: list[str], tmp_path: Path
) -> None:
    name = names[0]
    with (
        running_proxy(
            database,
            tmp_path,
            extra=wildcard(stack, "transaction"),
            environment={"PENSTOCK_SERVER__WORKERS": "2"},
        ) as proxy,
        connect(proxy, database.name) as admin,
    ):
        admin.execute(f"CREATE DATABASE {name}")
        people = [connect(proxy, name) for _ in range(4)]
        for each in people:
            each.execute("LISTEN news")
        await_watch(stack, name)
        with pytest.raises(psycopg.errors.ObjectInUse):
            admin.execute(f"DROP DATABASE {name}")
        for each in people:
            each.execute("UNLISTEN *")
        admin.execute(f"DROP DATABASE {name}")
        for each in people:
            each.close()


def test_a_configured_database_is_made_anew(
    database: Database, stack: Stack, names: list[str], tmp_path: Path
) -> None:
    """What was read from the one before is not read from the next; its absence fills no log."""
    name, primary = names[0], stack.primary
    extra = CACHES + (
        f'[database.{name}]\nprimary = {{ host = "{primary.host}", port = {primary.port} }}\n'
    )
    with superuser_connection(primary) as direct:
        direct.execute(f"CREATE DATABASE {name} OWNER {database.user}")
        with running_proxy(database, tmp_path, extra=extra) as proxy:
            with connect(proxy, database.name) as admin:
                for value in range(3):
                    with connect(proxy, name) as one:
                        one.execute("CREATE TABLE t (a int)")
                        one.execute(f"INSERT INTO t VALUES ({value})")
                        for _ in range(20):
                            assert one.execute("SELECT a FROM t").fetchall() == [(value,)]
                    await_watch(stack, name)
                    admin.execute(f"DROP DATABASE {name}")
                    with pytest.raises(psycopg.OperationalError, match="does not exist"):
                        connect(proxy, name).execute("SELECT a FROM t")
                    time.sleep(1)  # several tries of what watches it
                    admin.execute(f"CREATE DATABASE {name}")
            troubles = [line for line in proxy.log() if line["level"] == "warning"]
            of_it = [line for line in troubles if line.get("database") == name]
            assert len(of_it) <= 20, of_it
            assert not [line for line in proxy.log() if line["level"] == "error"]
