"""`strategy = "write-through"`: the results in demand are there again when the writer knows."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import psycopg
import pytest

from tests.databases import Database
from tests.integration.cache.feed.feeds import Reader, eventually, metric, prepare
from tests.proxies import Proxy, running_proxy

RULE = """
[[cache.rule]]
name = "through"
tables = ["c_*"]
strategy = "write-through"
refresh_within = "10s"
refresh_entries = 3
"""
VERSION = "SELECT version FROM c_plain WHERE id = 1"
BOTH = "SELECT p.version, o.version FROM c_plain p JOIN c_other o USING (id) WHERE id = 1"
WRITE = "UPDATE c_plain SET version = version + 1 WHERE id = 1"


@pytest.fixture(params=["memory", "redis"])
def through(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Proxy]:
    """With answers in the process's memory too, and without."""
    prepare(database)
    memory = {} if request.param == "memory" else {"PENSTOCK_CACHE__MEMORY": "0"}
    with running_proxy(database, tmp_path, extra=RULE, environment=memory) as proxy:
        yield proxy


def misses(proxy: Proxy) -> float:
    return metric(proxy, "penstock_cache_misses_total")


def refreshed(proxy: Proxy) -> float:
    return metric(proxy, "penstock_cache_refreshed_total")


def write(proxy: Proxy, *statements: str) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_the_first_read_after_a_write_is_a_hit(through: Proxy) -> None:
    with Reader(through) as reader:
        reader.keep(VERSION)
        for version in range(1, 6):
            before = misses(through)
            write(through, WRITE)
            refilled = misses(through)
            assert refilled == before + 1  # Penstock's own
            assert reader.read(VERSION) == [(version,)]
            assert misses(through) == refilled
        assert refreshed(through) == 5


def test_by_a_transaction_and_not_by_one_that_is_rolled_back(through: Proxy) -> None:
    with Reader(through) as reader:
        reader.keep(VERSION)
        write(through, "BEGIN", WRITE, WRITE, "ROLLBACK")
        assert reader.read(VERSION) == [(0,)]
        write(through, "BEGIN", WRITE, WRITE, "COMMIT")
        before = misses(through)
        assert reader.read(VERSION) == [(2,)]
        assert misses(through) == before


def test_each_in_its_own_settings(through: Proxy) -> None:
    when = "SELECT to_timestamp(version * 86400)::text FROM c_plain WHERE id = 1"
    seen = {"UTC": "1970-01-02 00:00:00+00", "Asia/Tokyo": "1970-01-02 09:00:00+09"}
    with ExitStack() as stack:
        readers = {zone: stack.enter_context(Reader(through)) for zone in seen}
        for zone, reader in readers.items():
            reader.connection.execute(f"SET timezone = '{zone}'".encode())
            reader.keep(when)
        write(through, WRITE)
        before = misses(through)
        for zone, reader in readers.items():
            assert reader.read(when) == [(seen[zone],)]
        assert misses(through) == before


async def test_prepared_statements(through: Proxy) -> None:
    query = "SELECT version FROM c_plain WHERE id = $1"
    connection = await asyncpg.connect(through.dsn())
    try:
        deadline, before = time.monotonic() + 20, 0.0
        while metric(through, "penstock_cache_hits_total") < before + 2:  # both are known by then
            assert time.monotonic() < deadline
            before = metric(through, "penstock_cache_hits_total")
            assert [row["version"] for row in await connection.fetch(query, 1)] == [0]
            assert [row["version"] for row in await connection.fetch(query, 2)] == [0]
        for version in range(1, 4):
            write(through, WRITE)
            before = misses(through)
            assert [row["version"] for row in await connection.fetch(query, 1)] == [version]
            assert [row["version"] for row in await connection.fetch(query, 2)] == [0]
            assert misses(through) == before
    finally:
        await connection.close()


def test_what_takes_too_long_is_a_miss_and_never_old(database: Database, tmp_path: Path) -> None:
    prepare(database)
    quick = RULE.replace('"10s"', '"50ms"')
    with (
        running_proxy(database, tmp_path, extra=quick) as proxy,
        Reader(proxy) as reader,
        psycopg.connect(database.dsn()) as blocker,
    ):
        reader.keep(BOTH)
        blocker.execute("LOCK TABLE c_other")
        write(proxy, WRITE)
        eventually(lambda: metric(proxy, "penstock_cache_refreshed_late_total") == 1, "it was late")
        assert refreshed(proxy) == 0
        blocker.rollback()
        assert reader.read(BOTH) == [(1, 0)]


def test_a_writer_that_holds_the_only_connection_waits_for_nothing(
    database: Database, tmp_path: Path
) -> None:
    prepare(database)
    alone = RULE.replace('"10s"', '"600s"') + "[pool]\nsize = 1\n[routing]\nenabled = false\n"
    with running_proxy(database, tmp_path, extra=alone) as proxy, Reader(proxy) as reader:
        reader.keep(VERSION)
        write(proxy, WRITE)
        assert metric(proxy, "penstock_cache_refreshed_late_total") == 1
        assert reader.read(VERSION) == [(1,)]


def test_another_proxy_has_it_too(database: Database, tmp_path: Path) -> None:
    prepare(database)
    with (
        running_proxy(database, tmp_path, extra=RULE) as one,
        running_proxy(database, tmp_path, extra=RULE) as other,
        Reader(one) as reader,
        Reader(other) as beside,
    ):
        reader.keep(VERSION)
        beside.keep(VERSION)
        write(one, WRITE)
        before = misses(other)
        assert beside.read(VERSION) == [(1,)]
        assert misses(other) == before


def test_only_the_last_used_and_only_what_was_written(through: Proxy) -> None:
    texts = [f"SELECT version + {number} FROM c_plain WHERE id = 1" for number in range(5)]
    elsewhere = "SELECT version FROM c_other WHERE id = 1"
    with Reader(through) as reader:
        for text in [*texts, elsewhere]:
            reader.keep(text)
        write(through, WRITE)
        assert refreshed(through) == 3
        before = misses(through)
        for text in [*texts[2:], elsewhere]:
            reader.read(text)
        assert misses(through) == before
        assert reader.read(texts[0]) == [(1,)]
        assert misses(through) == before + 1


def test_what_nobody_asks_for_any_more_is_let_go(through: Proxy) -> None:
    with Reader(through) as reader:
        reader.keep(VERSION)
        for _ in range(6):
            write(through, WRITE)
        assert refreshed(through) == 3
        assert reader.read(VERSION) == [(6,)]


def test_a_statement_that_fails_now_is_no_concern_of_the_writers(through: Proxy) -> None:
    with Reader(through) as reader:
        by_zero = "SELECT 10 / (2 - version) FROM c_plain WHERE id = 1"
        assert reader.keep(by_zero) == [(5,)]
        write(through, WRITE)
        assert reader.read(by_zero) == [(10,)]
        write(through, WRITE)
        with pytest.raises(psycopg.errors.DivisionByZero):
            reader.read(by_zero)
