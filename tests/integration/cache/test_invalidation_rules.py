"""`[[cache.invalidation]]` through a real proxy: cascades, keys of applications, delays."""

from collections.abc import Iterator

import psycopg
import pytest

from proxy.cache.manager import CacheManager, SetOptions
from tests.databases import Database
from tests.integration.cache.feed.feeds import RULE, Reader, eventually, metric, prepare
from tests.proxies import Proxy, running_proxy

RULES = """
[[cache.invalidation]]
name = "pages"
writes = ["c_plain"]
tables = ["c_pages"]
keys = ["plain:*"]

[[cache.invalidation]]
name = "back again"
writes = ["c_pages"]
tables = ["c_plain"]
keys = ["page:*"]

[[cache.invalidation]]
name = "twice"
writes = ["c_source"]
tables = ["c_late"]
delay = "4s"
"""
SCHEMA = """
CREATE TABLE c_pages (n int); INSERT INTO c_pages VALUES (0);
CREATE TABLE c_source (n int); INSERT INTO c_source VALUES (0);
CREATE TABLE c_late (n int); INSERT INTO c_late VALUES (0);
"""
PAGES = "SELECT n FROM c_pages"
LATE = "SELECT n FROM c_late"


@pytest.fixture(scope="module")
def cached(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    prepare(module_database)
    prepare(module_database, SCHEMA)
    directory = tmp_path_factory.mktemp("proxy")
    with running_proxy(module_database, directory, extra=RULE + RULES) as proxy:
        with Reader(proxy) as reader:
            reader.keep(PAGES)
        yield proxy


def around(proxy: Proxy, sql: str) -> None:
    """A write of which the cache hears nothing."""
    with psycopg.connect(proxy.database.dsn(), autocommit=True) as connection:
        connection.execute(sql.encode())


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE c_plain SET version = version + 1",
        "TRUNCATE c_plain",
        "COMMENT ON TABLE c_plain IS 'changed'",
    ],
)
def test_results_of_other_tables_and_keys_go_with_a_write(cached: Proxy, write: str) -> None:
    with Reader(cached) as reader:
        [(before,)] = reader.keep(PAGES)
        for key in ("plain:1", "page:1", "other:1"):
            reader.read(f"SELECT penstock.cache_set('{key}', 'v')")
        around(cached, "UPDATE c_pages SET n = n + 1")
        assert reader.read(PAGES) == [(before,)]
        reader.connection.execute(write.encode())
        assert reader.read(PAGES) != [(before,)]
        kept = [
            reader.read(f"SELECT penstock.cache_get('{key}')")[0][0]
            for key in ("plain:1", "page:1", "other:1")
        ]
        assert kept == [None, None, "v"]


async def test_keys_set_in_python_depend_on_the_rules_too(cached: Proxy) -> None:
    redis = cached.database.stack.redis
    assert redis is not None
    manager = CacheManager.from_url(redis.url, "penstock", cached.database.name)
    ticket = await manager.ticket(["c_other"])
    await manager.set("plain:2", b"v", SetOptions(tables=("c_other",), ticket=ticket))
    assert await manager.get("plain:2") == b"v"
    with Reader(cached) as reader:
        reader.connection.execute(b"UPDATE c_plain SET version = version + 1")
    assert await manager.get("plain:2") is None
    await manager.close()


def test_a_delay_invalidates_once_more(cached: Proxy) -> None:
    def moves() -> float:
        return metric(cached, "penstock_cache_invalidations_total", 'source="delay"')

    with (
        Reader(cached) as reader,
        psycopg.connect(cached.database.dsn(), autocommit=True) as around,
    ):
        reader.keep(LATE)
        before = moves()
        reader.connection.execute(b"UPDATE c_source SET n = n + 1")
        reader.read(LATE)
        around.execute(b"UPDATE c_late SET n = n + 1")
        assert moves() == before, "the machine was too slow for the delay"
        eventually(lambda: reader.read(LATE) == [(1,)], "what was written meanwhile is seen")
        assert moves() == before + 1


def test_what_a_write_does_is_explained(cached: Proxy) -> None:
    with Reader(cached) as reader:
        shown = {
            str(row[0]): row[1]
            for row in reader.read("SHOW ROUTE FOR UPDATE c_plain SET version = 1")
        }
        assert shown["invalidates by rules"] == "c_pages, keys page:*, keys plain:*"
        shown = {str(row[0]): row[1] for row in reader.read("SHOW ROUTE FOR DELETE FROM c_source")}
        assert shown["after 4 s once more"] == "c_late"
