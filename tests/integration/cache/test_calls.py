"""The functions of the schema `penstock`, through a real proxy and Redis."""

import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from proxy.cache.manager import CacheManager, SetOptions
from tests.databases import Database
from tests.integration.cache.feed.feeds import RULE, Reader, prepare
from tests.proxies import Proxy, running_proxy

PLAIN = "SELECT version FROM c_plain WHERE id = 1"


@pytest.fixture(scope="module")
def cached(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    prepare(module_database)
    with running_proxy(module_database, tmp_path_factory.mktemp("proxy"), extra=RULE) as proxy:
        with Reader(proxy) as reader:
            reader.keep(PLAIN)  # by then Redis is in use
        yield proxy


def manager(database: Database) -> CacheManager:
    redis = database.stack.redis
    assert redis is not None
    return CacheManager.from_url(redis.url, "penstock", database.name)


@pytest.mark.parametrize("binary", [False, True])
def test_entries_by_simple_and_extended_protocol(cached: Proxy, binary: bool) -> None:
    with psycopg.connect(cached.dsn(), autocommit=True) as connection:
        cursor = connection.cursor(binary=binary)
        cursor.execute("SELECT penstock.cache_set('simple', 'it''s', 60)")
        assert cursor.fetchall() == [(True,)]
        assert cursor.statusmessage == "SELECT 1"
        cursor.execute("SELECT penstock.cache_get(%s) AS v", ["simple"])
        assert cursor.fetchall() == [("it's",)]
        assert cursor.description is not None
        assert cursor.description[0].name == "v"
        cursor.execute("SELECT penstock.cache_set(%s, %s, %s)", ["bound", "größer", 60])
        assert cursor.fetchall() == [(True,)]
        cursor.execute("SELECT penstock.cache_get('bound')")
        assert cursor.fetchall() == [("größer",)]
        for gone in (True, False):
            cursor.execute("SELECT penstock.cache_del(%s)", ["bound"])
            assert cursor.fetchall() == [(gone,)]
        assert cursor.execute("SELECT penstock.cache_get('bound')").fetchall() == [(None,)]


async def test_prepared_statements_are_described(cached: Proxy) -> None:
    connection = await asyncpg.connect(cached.dsn())
    assert await connection.fetchval("SELECT penstock.cache_set($1, $2, $3)", "p", "v", 1.5)
    statement = await connection.prepare("SELECT penstock.cache_get($1)")
    assert [one.name for one in statement.get_parameters()] == ["text"]
    assert [(one.name, one.type.name) for one in statement.get_attributes()] == [
        ("cache_get", "text")
    ]
    assert await statement.fetchval("p") == "v"
    assert await connection.fetchval("SELECT penstock.invalidate($1)", "none-such:*") == 0
    await connection.close()


async def test_the_keys_are_those_of_cache_manager(cached: Proxy) -> None:
    own = manager(cached.database)
    connection = await asyncpg.connect(cached.dsn())
    await own.set("shared", b"from python", SetOptions(ttl=60, tables=("c_other",)))
    assert await connection.fetchval("SELECT penstock.cache_get('shared')") == "from python"
    await connection.execute("UPDATE c_other SET version = 1")
    assert await connection.fetchval("SELECT penstock.cache_get('shared')") is None
    await connection.execute("SELECT penstock.cache_set('shared', 'from SQL')")
    assert await own.get("shared") == b"from SQL"
    await own.set("bytes", b"\xff\x00")
    with pytest.raises(asyncpg.CharacterNotInRepertoireError, match="no text"):
        await connection.fetchval("SELECT penstock.cache_get('bytes')")
    await own.close()
    await connection.close()


def test_invalidate_ends_what_every_process_keeps(cached: Proxy, tmp_path: Path) -> None:
    with (
        running_proxy(cached.database, tmp_path, extra=RULE) as other,
        Reader(cached) as here,
        Reader(other) as there,
    ):
        version = here.keep(PLAIN)
        assert there.keep(PLAIN) == version
        here.read("SELECT penstock.cache_set('c_plain:1', 'v')")
        with psycopg.connect(cached.database.dsn(), autocommit=True) as around:
            around.execute("UPDATE c_plain SET version = version + 1")
        assert here.read(PLAIN) == there.read(PLAIN) == version
        [(removed,)] = here.read("SELECT penstock.invalidate('c_plain:*')")
        assert isinstance(removed, int)
        assert removed >= 2
        assert here.read(PLAIN) == there.read(PLAIN) != version
        assert here.read("SELECT penstock.cache_get('c_plain:1')") == [(None,)]


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("SELECT penstock.cache_put('k')", "42883"),
        ("SELECT penstock.cache_get('a') FROM c_plain", "0A000"),
        ("SELECT penstock.cache_get(NULL)", "22004"),
        ("SELECT penstock.cache_get(1)", "42804"),
        ("SELECT penstock.cache_get($1)", "42P02"),
        ("SELECT penstock.cache_set('k', 'v', 0)", "22023"),
        ("SELECT penstock.cache_set('k', 'v', 'soon')", "22023"),
        ("SELECT penstock.invalidate('')", "22023"),
    ],
)
def test_errors_have_their_sqlstate(cached: Proxy, sql: str, sqlstate: str) -> None:
    with psycopg.connect(cached.dsn(), autocommit=True) as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(sql.encode())
        assert caught.value.sqlstate == sqlstate
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_ends_the_transaction_and_a_call_takes_effect_at_once(cached: Proxy) -> None:
    with psycopg.connect(cached.dsn()) as connection:
        connection.execute("INSERT INTO c_other VALUES (99, 0)")
        connection.execute("SELECT penstock.cache_set('kept', 'v')")
        with pytest.raises(psycopg.errors.NullValueNotAllowed):
            connection.execute("SELECT penstock.cache_get(NULL)")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT penstock.cache_get('kept')")
        connection.rollback()
        assert connection.execute("SELECT penstock.cache_get('kept')").fetchone() == ("v",)
        assert connection.execute("SELECT 1 FROM c_other WHERE id = 99").fetchone() is None


def test_a_call_does_not_share_a_pipeline(cached: Proxy) -> None:
    with psycopg.connect(cached.dsn(), autocommit=True) as connection:

        def pipeline() -> None:
            with connection.pipeline():
                connection.execute("SELECT %s::int", [1])
                connection.execute("SELECT penstock.cache_get(%s)", ["k"])

        with pytest.raises(psycopg.errors.FeatureNotSupported):
            pipeline()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_without_redis_a_call_fails(cached: Proxy, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        environment = {"PENSTOCK_CACHE__REDIS": f"redis://127.0.0.1:{taken.getsockname()[1]}"}
        with (
            running_proxy(cached.database, tmp_path, environment=environment) as proxy,
            psycopg.connect(proxy.dsn(), autocommit=True) as connection,
        ):
            for call in ("cache_get('k')", "cache_set('k', 'v')", "invalidate('*')"):
                with pytest.raises(psycopg.OperationalError, match="Redis is away") as caught:
                    connection.execute(f"SELECT penstock.{call}".encode())
                assert caught.value.sqlstate == "58030"
            assert connection.execute("SELECT 1").fetchone() == (1,)
