"""Hints in comments, through real proxies: `cache`, `ttl`, `nocache`, `refresh`."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from tests.databases import Database
from tests.integration.cache.feed.feeds import RULE, Reader, eventually, metric, prepare
from tests.proxies import Proxy, running_proxy

PLAIN = "SELECT version FROM c_plain WHERE id = 1"
UNRULED = "SELECT note FROM notes"


@pytest.fixture(scope="module")
def proxy(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """With a rule for tables c_*, without a change feed."""
    prepare(module_database)
    prepare(module_database, "CREATE TABLE notes (note text); INSERT INTO notes VALUES ('old')")
    with running_proxy(module_database, tmp_path_factory.mktemp("proxy"), extra=RULE) as proxy:
        yield proxy


@pytest.fixture
def cached(proxy: Proxy) -> Proxy:
    """The same, with nothing in the cache and the rows as they were."""
    with Reader(proxy) as reader:
        reader.read("UPDATE c_plain SET version = 0 RETURNING 1")
    return proxy


def write_around(database: Database, sql: str) -> None:
    """A write of which the cache hears nothing."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(sql.encode())


def test_a_hint_caches_what_no_rule_names(cached: Proxy) -> None:
    hinted = f"/* penstock: cache ttl=60 */ {UNRULED}"
    with Reader(cached) as reader:
        assert reader.keep(hinted) == [("old",)]
        write_around(cached.database, "UPDATE notes SET note = 'around'")
        assert reader.read(hinted) == [("old",)]
        assert reader.read(UNRULED) == [("around",)]
        reader.read("UPDATE notes SET note = 'through' RETURNING 1")
        assert reader.read(hinted) == [("through",)]


def test_a_hint_keeps_a_statement_out(cached: Proxy) -> None:
    with Reader(cached) as reader:
        reader.keep(PLAIN)
        write_around(cached.database, "UPDATE c_plain SET version = 7")
        assert reader.read(PLAIN) == [(0,)]
        reader.sees(f"/* penstock: nocache */ {PLAIN}", [(7,)])  # a replica may be behind
        assert reader.read(PLAIN) == [(0,)]


def test_what_hits_have_saved_is_estimated(cached: Proxy) -> None:
    def saved() -> float:
        return metric(cached, "penstock_cache_rule_saved_seconds", 'rule="all"')

    with Reader(cached) as reader:
        reader.keep(PLAIN)
        before = saved()
        eventually(lambda: bool(reader.read(PLAIN)) and saved() > before, "hits save time")


@pytest.mark.parametrize("told", ["", "cache ttl=60"])
def test_refresh_replaces_the_entry_for_every_process(
    cached: Proxy, tmp_path: Path, told: str
) -> None:
    plain = f"/* penstock: {told} */ {PLAIN}" if told else PLAIN
    hint = f"{told}, refresh" if told else "refresh"
    with (
        running_proxy(cached.database, tmp_path, extra=RULE) as other,
        Reader(cached) as here,
        Reader(other) as there,
    ):
        assert here.keep(plain) == there.keep(plain) == [(0,)]
        write_around(cached.database, "UPDATE c_plain SET version = 8")
        assert here.read(plain) == there.read(plain) == [(0,)]
        assert here.read(f"/* penstock: {hint} */ {PLAIN}") == [(8,)]
        assert here.read(plain) == there.read(plain) == [(8,)]
        before = here.hits()
        assert here.read(plain) == [(8,)]
        assert here.hits() == before + 1


async def test_refresh_replaces_what_a_prepared_statement_reads(cached: Proxy) -> None:
    plain = "SELECT version FROM c_plain WHERE id = $1"
    connection = await asyncpg.connect(cached.dsn())

    async def read(sql: str) -> object:
        [row] = await connection.fetch(sql, 1)
        return row[0]

    before = metric(cached, "penstock_cache_hits_total")
    while metric(cached, "penstock_cache_hits_total") == before:
        assert await read(plain) == 0
    write_around(cached.database, "UPDATE c_plain SET version = 9")
    assert await read(plain) == 0
    assert await read(f"/* penstock: refresh */ {plain}") == 9
    assert await read(plain) == 9
    await connection.close()


def test_what_is_not_understood_is_shown(cached: Proxy) -> None:
    with Reader(cached) as reader:
        reader.keep(PLAIN)  # by then the catalogue is loaded
        hint = "/* penstock: refesh, refresh */"
        shown = {str(row[0]): row[1] for row in reader.read(f"SHOW ROUTE FOR {hint} {PLAIN}")}
    assert shown["hints not understood"] == "refesh"
    assert str(shown["cache"]).endswith("the hint has what is kept replaced")
