"""Invalidation by key of what others write."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import Database
from tests.integration.cache.feed.feeds import (
    FEED,
    Reader,
    eventually,
    fed_proxy,
    feed_command,
    metric,
    prepare,
)
from tests.proxies import Proxy

RULE = """
[[cache.rule]]
name = "by user"
tables = ["c_*"]
granularity = "key"
key = "user_id"
ttl = "300s"
"""
SCHEMA = """
CREATE TABLE c_keyed (user_id int, id int, v int, PRIMARY KEY (user_id, id));
CREATE TABLE c_full (user_id int, id int PRIMARY KEY, v int);
ALTER TABLE c_full REPLICA IDENTITY FULL;
CREATE TABLE c_other (user_id int, id int PRIMARY KEY, v int);
"""


@pytest.fixture(scope="module")
def fed(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    directory: Path = tmp_path_factory.mktemp("fed")
    prepare(module_database, SCHEMA)
    done = feed_command(module_database, directory, "setup", user="postgres", extra=FEED + RULE)
    assert done.returncode == 0, done.stdout + done.stderr
    with fed_proxy(module_database, directory, rule=RULE) as proxy:
        yield proxy


def followed(proxy: Proxy, writer: psycopg.Connection[Any]) -> bool:
    """Whether everything until now has been invalidated; what this writes is of no table."""
    writer.execute("SELECT pg_logical_emit_message(true, 'test', '')")
    return metric(proxy, "penstock_cache_feed_lag_bytes") == 0


@pytest.mark.parametrize("table", ["c_keyed", "c_full", "c_other"])
def test_what_others_write_to_a_key_is_seen(fed: Proxy, table: str) -> None:
    def rows_of(user: int) -> str:
        return f"SELECT v FROM {table} WHERE user_id = {user} ORDER BY id"

    with (
        Reader(fed) as reader,
        psycopg.connect(fed.database.dsn(), autocommit=True) as other,
    ):
        other.execute(f"INSERT INTO {table} SELECT n, n, 0 FROM generate_series(1, 5) n".encode())
        for user in (1, 2, 3):
            reader.sees(rows_of(user), [(0,)])
        eventually(lambda: followed(fed, other), "the feed has passed the INSERT")
        for user in (1, 2, 3):
            reader.keep(rows_of(user))
        spared = False
        for version in range(1, 6):  # a gap in the feed, on a busy machine, ends all entries
            reader.keep(rows_of(1))
            other.execute(f"UPDATE {table} SET v = {version} WHERE user_id = 2".encode())
            reader.sees(rows_of(2), [(version,)])
            fills = metric(fed, "penstock_cache_fills_total")
            assert reader.keep(rows_of(1)) == [(0,)]
            if metric(fed, "penstock_cache_fills_total") == fills:
                spared = True
                break
        # In the last the old key is not known, and the whole table goes.
        assert spared or table == "c_other"
        other.execute(f"UPDATE {table} SET v = 1 WHERE user_id = 2".encode())
        reader.sees(rows_of(2), [(1,)])
        other.execute(f"UPDATE {table} SET user_id = 3 WHERE user_id = 2".encode())
        reader.sees(rows_of(2), [])
        reader.sees(rows_of(3), [(1,), (0,)])
        other.execute(f"DELETE FROM {table} WHERE user_id = 1".encode())
        reader.sees(rows_of(1), [])
