"""Invalidation by key through real proxies: what survives other keys' writes, and what doesn't."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from proxy.cache.keys import KEY_GROUPS
from proxy.session.keyed import _group
from tests.databases import Database
from tests.integration.cache.feed.feeds import Reader, prepare
from tests.proxies import Proxy, running_proxy

RULES = """
[[cache.rule]]
name = "by user"
tables = ["c_items", "c_more", "c_part*"]
granularity = "key"
key = "user_id"
ttl = "300s"

[[cache.rule]]
name = "by name"
tables = ["c_names", "c_loose"]
granularity = "key"
key = "name"
ttl = "300s"
"""
SCHEMA = """
CREATE TABLE c_items (id int PRIMARY KEY, user_id int, v int NOT NULL DEFAULT 0);
INSERT INTO c_items SELECT n, n FROM generate_series(1, 5) AS n;
CREATE TABLE c_more (id int PRIMARY KEY, user_id bigint, v int NOT NULL DEFAULT 0,
                     item int REFERENCES c_items ON DELETE CASCADE);
INSERT INTO c_more SELECT n, n FROM generate_series(1, 5) AS n;
CREATE TABLE c_names (name text PRIMARY KEY, v int NOT NULL DEFAULT 0);
INSERT INTO c_names VALUES ('1'), ('01'), ('b');
CREATE TABLE c_parted (user_id int, v int NOT NULL DEFAULT 0) PARTITION BY LIST (user_id);
CREATE TABLE c_part1 PARTITION OF c_parted FOR VALUES IN (1);
CREATE TABLE c_part2 PARTITION OF c_parted FOR VALUES IN (2);
INSERT INTO c_parted VALUES (1), (2);
"""
ITEM = "SELECT v FROM c_items WHERE user_id = 1"


@pytest.fixture(scope="module")
def cached(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    prepare(module_database, SCHEMA)
    directory = tmp_path_factory.mktemp("proxy")
    with running_proxy(module_database, directory, extra=RULES) as proxy:
        with Reader(proxy) as reader:
            reader.keep(ITEM)
        yield proxy


def survives(proxy: Proxy, read: str, write: str, table: str = "c_items") -> bool:
    """Whether a read's entry is still served after a write; all rows have changed meanwhile."""
    with (
        Reader(proxy) as reader,
        psycopg.connect(proxy.database.dsn(), autocommit=True) as around,
    ):
        reader.connection.execute(f"UPDATE {table} SET v = 0".encode())
        before = reader.keep(read)
        around.execute(f"UPDATE {table} SET v = v + 1".encode())
        assert reader.read(read) == before
        reader.connection.execute(write.encode())
        return reader.read(read) == before


def test_the_keys_below_are_in_groups_of_their_own() -> None:
    assert len({_group(key) for key in (1, 2, 3, 4, 5)}) == 5
    assert len({_group(key) for key in (b"1", b"01", b"b")}) == 3
    assert max(_group(key) for key in range(10_000)) < KEY_GROUPS


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE c_items SET v = 9 WHERE user_id = 2",
        "DELETE FROM c_items WHERE user_id = 9",
        "INSERT INTO c_items (id, user_id) VALUES (nextval('n'), 3)",
        "UPDATE c_items SET v = 9 WHERE user_id IN (2, 3)",
        "UPDATE c_items SET v = 9 WHERE user_id = '02'",
    ],
)
def test_an_entry_survives_writes_to_other_keys(cached: Proxy, write: str) -> None:
    with psycopg.connect(cached.database.dsn(), autocommit=True) as around:
        [(fresh,)] = around.execute("SELECT max(id) + 1 FROM c_items").fetchall()
    assert survives(cached, ITEM, write.replace("nextval('n')", str(fresh)))


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE c_items SET v = 9 WHERE user_id = 1",
        "UPDATE c_items SET v = 9 WHERE user_id = '01'",
        "UPDATE c_items SET v = 9 WHERE user_id = +1",
        "UPDATE c_items SET v = 9 WHERE user_id = 1.0",
        "UPDATE c_items SET v = 9 WHERE user_id = 1::bigint",
        "UPDATE c_items SET v = 9 WHERE user_id IN (2, 1)",
        "UPDATE c_items SET v = 9 WHERE id = 1",
        "UPDATE c_items SET v = 9",
        "UPDATE c_items SET user_id = 1 WHERE user_id = 99",
        "INSERT INTO c_items VALUES (1, 3) ON CONFLICT (id) DO UPDATE SET v = 9",
        "BEGIN; UPDATE c_items SET v = 9 WHERE user_id = 1; COMMIT",
        "COMMENT ON TABLE c_items IS 'changed'",
    ],
)
def test_an_entry_ends_with_a_write_that_may_touch_its_key(cached: Proxy, write: str) -> None:
    assert not survives(cached, ITEM, write)


@pytest.mark.parametrize(
    "read",
    [
        "SELECT sum(v) FROM c_items",
        "SELECT sum(v) FROM c_items WHERE user_id IN (1, 3)",
        "SELECT v FROM c_items WHERE user_id = 2",
        "SELECT v FROM c_items WHERE user_id = 1 OR id = 2",
        "SELECT i.v FROM c_items i JOIN c_more m USING (user_id) WHERE i.user_id = 2",
    ],
)
def test_a_write_to_one_key_ends_all_that_may_show_its_row(cached: Proxy, read: str) -> None:
    assert not survives(cached, read, "UPDATE c_items SET v = 9 WHERE user_id = 2")


def test_texts_are_compared_as_they_are(cached: Proxy) -> None:
    read = "SELECT v FROM c_names WHERE name = '1'"
    assert survives(cached, read, "UPDATE c_names SET v = 9 WHERE name = '01'", "c_names")
    assert survives(cached, read, "UPDATE c_names SET v = 9 WHERE name = 'b'", "c_names")
    assert not survives(cached, read, "UPDATE c_names SET v = 9 WHERE name = E'\\x31'", "c_names")


def test_cascades_and_partitions_move_tables_as_a_whole(cached: Proxy) -> None:
    more = "SELECT v FROM c_more WHERE user_id = 1"
    assert survives(cached, more, "UPDATE c_more SET v = 9 WHERE user_id = 2", "c_more")
    assert not survives(cached, more, "DELETE FROM c_items WHERE user_id = 77", "c_more")
    parted = "SELECT v FROM c_parted WHERE user_id = 1"
    assert not survives(cached, parted, "UPDATE c_part2 SET v = 9 WHERE user_id = 2", "c_parted")
    assert not survives(cached, parted, "UPDATE c_parted SET v = 9 WHERE user_id = 2", "c_parted")


async def test_parameters_in_text_and_binary_name_the_same_keys(cached: Proxy) -> None:
    """asyncpg sends integers as binary, psycopg as text; the rows are read by literals."""
    connection = await asyncpg.connect(cached.dsn())
    with (
        Reader(cached) as reader,
        psycopg.connect(cached.database.dsn(), autocommit=True) as around,
    ):
        for number, write in enumerate(("binary", "text"), start=20):
            before = reader.keep(ITEM)
            around.execute("UPDATE c_items SET v = %s", [number])
            for user in (2, 1):
                assert reader.read(ITEM) == before
                update = "UPDATE c_items SET v = v WHERE user_id = "
                if write == "binary":
                    await connection.execute(f"{update}$1", user)
                else:
                    reader.connection.execute(f"{update}%s".encode(), [user])
            assert reader.read(ITEM) == [(number,)]
        statement = await connection.prepare("SELECT v FROM c_items WHERE user_id = $1")
        for number in (30, 31):
            reader.connection.execute("UPDATE c_items SET v = %s WHERE user_id = 1", [number])
            assert [row[0] for row in await statement.fetch(1)] == [number]
    await connection.close()


def test_another_process_hears_of_keys_too(cached: Proxy, tmp_path: Path) -> None:
    with (
        running_proxy(cached.database, tmp_path, extra=RULES) as other,
        Reader(other) as there,
        Reader(cached) as here,
        psycopg.connect(cached.database.dsn(), autocommit=True) as around,
    ):
        before = there.keep(ITEM)
        around.execute("UPDATE c_items SET v = 40")
        here.connection.execute(b"UPDATE c_items SET v = 40 WHERE user_id = 2")
        assert there.read(ITEM) == before
        here.connection.execute(b"UPDATE c_items SET v = 41 WHERE user_id = 1")
        assert there.read(ITEM) == [(41,)]


def test_patterns_end_what_depends_on_keys(cached: Proxy) -> None:
    assert not survives(cached, ITEM, "SELECT penstock.invalidate('c_it*')")


def test_pins_are_explained(cached: Proxy) -> None:
    with Reader(cached) as reader:
        shown = dict(reader.read(f"SHOW ROUTE FOR {ITEM}"))
        assert shown["depends by key on"].startswith("c_items.user_id = ")
        shown = dict(reader.read("SHOW ROUTE FOR DELETE FROM c_names WHERE name = 'x'"))
        assert shown["invalidates by key"].startswith("c_names.name = ")
