"""currval() and lastval() in transaction pooling: the session's own value, or an error."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database
from tests.proxies import Proxy, running_proxy

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def proxy(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    with running_proxy(database, tmp_path, extra="[pool]\nsize = 2\n") as proxy:
        yield proxy


@pytest.fixture
def clients(proxy: Proxy) -> Iterator[tuple[Connection, Connection]]:
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(psycopg.connect(proxy.dsn(), autocommit=True)) for _ in range(2)
        )
        one.execute("CREATE TABLE a (id serial, n int)")
        yield one, two


def insert(client: Connection) -> object:
    row = client.execute("INSERT INTO a (n) VALUES (1) RETURNING id").fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("asked", ["lastval()", "currval('a_id_seq')"])
def test_the_sessions_own_value_or_an_error(
    clients: tuple[Connection, Connection], asked: str
) -> None:
    one, two = clients
    insert(one)
    theirs = insert(two)  # on the same server connection
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="RETURNING"):
        one.execute(f"SELECT {asked}")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        one.execute(f"SELECT {asked}")
    assert two.execute(f"SELECT {asked}").fetchone() == (theirs,)
    mine = insert(one)
    for _ in range(3):
        assert insert(two) != mine
        assert one.execute(f"SELECT {asked}").fetchone() == (mine,)


def test_within_a_transaction_and_in_one_string(clients: tuple[Connection, Connection]) -> None:
    one, two = clients
    insert(two)
    with one.transaction():
        mine = insert(one)
        assert one.execute("SELECT lastval()").fetchone() == (mine,)
    cursor = two.execute("INSERT INTO a (n) VALUES (2); SELECT currval('a_id_seq') - lastval()")
    assert cursor.nextset()
    assert cursor.fetchone() == (0,)


def test_discard_all_ends_it(clients: tuple[Connection, Connection]) -> None:
    one, _ = clients
    mine = insert(one)
    assert one.execute("SELECT lastval()").fetchone() == (mine,)
    one.execute("DISCARD ALL")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        one.execute("SELECT lastval()")
