"""Keyed statements through a running Penstock land on the shard of their key, and nowhere else."""

import random
import uuid
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from typer.testing import CliRunner

from proxy.cli.main import build
from proxy.sharding.hash import shard_of
from tests.databases import Database
from tests.proxies import Proxy, running_proxy

TABLES = (
    {"name": "accounts", "key": "id", "type": "bigint"},
    {"name": "sessions", "key": "token", "type": "uuid"},
    {"name": "notes", "key": "owner", "type": "text"},
)
SCHEMA = """
CREATE TABLE accounts (id bigint PRIMARY KEY, name text);
CREATE TABLE sessions (token uuid PRIMARY KEY, name text);
CREATE TABLE notes (owner text PRIMARY KEY, name text);
"""
OWNERS = ("", "ada", "größe", "漢字", "O'Hara", 'back\\slash "quoted"', "7")


@pytest.fixture(scope="module")
def shared_proxy(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Penstock before two shards, each with the sharded tables."""
    for shard in module_database.stack.shards:
        with psycopg.connect(module_database.dsn(shard), autocommit=True) as connection:
            connection.execute(SCHEMA)
    directory = tmp_path_factory.mktemp("sharded")
    with running_proxy(module_database, directory, sharded_tables=TABLES) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Proxy:
    """The same, with empty tables."""
    for shard in shared_proxy.database.stack.shards:
        with psycopg.connect(shared_proxy.database.dsn(shard), autocommit=True) as connection:
            connection.execute("TRUNCATE accounts, sessions, notes")
    return shared_proxy


def _stored(database: Database, table: str, key: str) -> list[set[object]]:
    """The keys on each shard, read from the shards themselves."""
    found = []
    for shard in database.stack.shards:
        with psycopg.connect(database.dsn(shard), autocommit=True) as connection:
            found.append({row[0] for row in connection.execute(f"SELECT {key} FROM {table}")})
    return found


async def test_binary_parameters(proxy: Proxy) -> None:
    chance = random.Random(7)
    ids = [chance.randrange(-(2**63), 2**63) for _ in range(40)] + [0, 1, -1]
    tokens = [uuid.UUID(int=chance.getrandbits(128)) for _ in range(20)]
    connection = await asyncpg.connect(proxy.dsn())
    try:
        for key in ids:
            await connection.execute(
                "INSERT INTO accounts (id, name) VALUES ($1, $2)", key, str(key)
            )
        for token in tokens:
            await connection.execute("INSERT INTO sessions (token) VALUES ($1)", token)
        for key in ids:
            found = await connection.fetchval("SELECT name FROM accounts WHERE id = $1", key)
            assert found == str(key)
    finally:
        await connection.close()
    shards = range(2)
    assert _stored(proxy.database, "accounts", "id") == [
        {key for key in ids if shard_of(key, 2) == shard} for shard in shards
    ]
    assert _stored(proxy.database, "sessions", "token") == [
        {token for token in tokens if shard_of(token.bytes, 2) == shard} for shard in shards
    ]


def test_literals_and_text_parameters(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        for number in range(20):
            connection.execute(f"INSERT INTO accounts (id) VALUES ({number - 5})")
        for owner in OWNERS:
            connection.execute("INSERT INTO notes (owner, name) VALUES (%s, 'new')", [owner])
            quoted = owner.replace("'", "''")
            connection.execute(f"UPDATE notes SET name = 'seen' WHERE owner = '{quoted}'")
        connection.execute("DELETE FROM accounts WHERE id = '-0x5'")
        assert connection.execute("SELECT FROM accounts WHERE id = -5").fetchone() is None
    assert _stored(proxy.database, "accounts", "id") == [
        {key for key in range(-4, 15) if shard_of(key, 2) == shard} for shard in range(2)
    ]
    assert _stored(proxy.database, "notes", "owner") == [
        {owner for owner in OWNERS if shard_of(owner.encode(), 2) == shard} for shard in range(2)
    ]
    names = [name for found in _stored(proxy.database, "notes", "name") for name in found]
    assert set(names) == {"seen"}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT INTO accounts VALUES (1)", "have no known id"),
        ("SELECT * FROM accounts", "not limited to one id of accounts"),
        ("INSERT INTO accounts (id) VALUES (1), (2), (3), (4)", "are on shards 0 and 1"),
        ("UPDATE accounts SET id = 2 WHERE id = 1", "can't be changed"),
        ("TRUNCATE accounts", "accounts is sharded, and TRUNCATE"),
        ("DROP TABLE accounts", "a schema change"),
        ("SELECT 1; DELETE FROM accounts WHERE id = 1", "a query string of 2 statements"),
    ],
)
def test_what_is_on_no_single_shard_is_refused(proxy: Proxy, statement: str, message: str) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=message) as refused:
            connection.execute(statement)
        assert refused.value.diag.message_hint
        # The connection goes on.
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_transaction_keeps_to_its_shard(proxy: Proxy) -> None:
    home = [key for key in range(100) if shard_of(key, 2) == 1][:2]
    away = next(key for key in range(100) if shard_of(key, 2) == 0)
    with psycopg.connect(proxy.dsn()) as connection:
        connection.execute("INSERT INTO accounts (id) VALUES (%s)", [home[0]])
        connection.commit()
        connection.execute("INSERT INTO accounts (id) VALUES (%s)", [home[1]])
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="on shard1"):
            connection.execute("DELETE FROM accounts WHERE id = %s", [away])
        connection.rollback()
    assert _stored(proxy.database, "accounts", "id") == [set(), {home[0]}]


def test_the_route_of_a_statement_with_parameters(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        rows = connection.execute("SHOW ROUTE FOR SELECT * FROM accounts WHERE id = $1").fetchall()
        assert ("shard", "decided by the parameters") in rows
        rows = connection.execute("SHOW ROUTE FOR SELECT * FROM accounts WHERE id = 1").fetchall()
        assert ("route", f"shard{shard_of(1, 2)}: the shard of the key") in rows


def test_explain_asks_the_running_proxy(proxy: Proxy) -> None:
    statement = "SELECT * FROM accounts WHERE id = 1"
    arguments = ["explain", statement, "--connect", proxy.dsn()]
    result = CliRunner().invoke(build("explain"), arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert f"shard{shard_of(1, 2)}: the shard of the key" in result.stdout
    assert "the catalogue is not loaded" not in result.stdout
