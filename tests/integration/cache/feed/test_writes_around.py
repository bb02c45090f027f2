"""What others write is seen, whatever way they write it."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database
from tests.integration.cache.feed.feeds import (
    FEED,
    RULE,
    Reader,
    eventually,
    fed_proxy,
    feed_command,
    metric,
    prepare,
)
from tests.proxies import Proxy

SCHEMA = """
CREATE TABLE c_plain (id int PRIMARY KEY, version int NOT NULL);
INSERT INTO c_plain VALUES (1, 0), (2, 0);
CREATE TABLE c_untouched (id int PRIMARY KEY, version int NOT NULL);
INSERT INTO c_untouched VALUES (1, 0);
CREATE TABLE c_parent (id int PRIMARY KEY);
CREATE TABLE c_child (id int PRIMARY KEY REFERENCES c_parent ON DELETE CASCADE);
INSERT INTO c_parent VALUES (1), (2); INSERT INTO c_child VALUES (1), (2);
CREATE TABLE s_source (id int PRIMARY KEY);
CREATE TABLE c_target (id int PRIMARY KEY, version int);
INSERT INTO c_target VALUES (1, 0);
CREATE FUNCTION f_shadow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE c_target SET version = version + 1; RETURN NEW; END $$;
CREATE TRIGGER t_shadow AFTER INSERT ON s_source FOR EACH ROW EXECUTE FUNCTION f_shadow();
CREATE TABLE c_part (id int, version int, PRIMARY KEY (id)) PARTITION BY LIST (id);
CREATE TABLE c_part_1 PARTITION OF c_part FOR VALUES IN (1);
INSERT INTO c_part VALUES (1, 0);
CREATE VIEW v_plain AS SELECT id, version FROM c_plain WHERE id = 1;
CREATE TABLE c_emptied (id int PRIMARY KEY); INSERT INTO c_emptied VALUES (1);
CREATE TABLE c_copied (id int PRIMARY KEY); INSERT INTO c_copied VALUES (1);
CREATE TABLE c_large (id int PRIMARY KEY, filling text); INSERT INTO c_large VALUES (0, '');
CREATE TABLE c_undone (id int PRIMARY KEY); INSERT INTO c_undone VALUES (1);
CREATE TABLE c_renamed (id int PRIMARY KEY, version int); INSERT INTO c_renamed VALUES (1, 1);
CREATE UNLOGGED TABLE c_unlogged (id int PRIMARY KEY); INSERT INTO c_unlogged VALUES (1);
"""


@pytest.fixture(scope="module")
def fed(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    directory: Path = tmp_path_factory.mktemp("fed")
    prepare(module_database, SCHEMA)
    done = feed_command(module_database, directory, "setup", user="postgres", extra=FEED + RULE)
    assert done.returncode == 0, done.stdout + done.stderr
    with fed_proxy(module_database, directory) as proxy:
        yield proxy


@pytest.fixture
def reader(fed: Proxy) -> Iterator[Reader]:
    with Reader(fed) as reader:
        yield reader


@pytest.fixture
def other(fed: Proxy) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A writer at the primary itself."""
    with psycopg.connect(fed.database.dsn(), autocommit=True) as connection:
        yield connection


Other = psycopg.Connection[tuple[object, ...]]


def test_an_update_moves_its_table_alone(fed: Proxy, reader: Reader, other: Other) -> None:
    untouched = "SELECT version FROM c_untouched WHERE id = 1"
    sql = "SELECT version FROM c_plain WHERE id = 1"
    reader.keep(untouched)
    (before,) = reader.keep(sql)
    other.execute("UPDATE c_plain SET version = version + 1 WHERE id = 1")
    reader.sees(sql, [(int(str(before[0])) + 1,)])
    hits = reader.hits()
    reader.read(untouched)
    assert reader.hits() == hits + 1
    assert metric(fed, "penstock_cache_invalidations_total", 'source="feed"') > 0


def test_a_view_on_the_table(reader: Reader, other: Other) -> None:
    sql = "SELECT version FROM v_plain"
    reader.keep(sql)
    other.execute("UPDATE c_plain SET version = 77 WHERE id = 1")
    reader.sees(sql, [(77,)])


def test_what_a_foreign_key_deletes(reader: Reader, other: Other) -> None:
    sql = "SELECT id FROM c_child"
    assert sorted(reader.keep(sql)) == [(1,), (2,)]
    other.execute("DELETE FROM c_parent WHERE id = 1")
    reader.sees(sql, [(2,)])


def test_what_a_trigger_writes(reader: Reader, other: Other) -> None:
    sql = "SELECT version FROM c_target"
    assert reader.keep(sql) == [(0,)]
    other.execute("INSERT INTO s_source VALUES (1)")
    reader.sees(sql, [(1,)])


def test_a_partition(reader: Reader, other: Other) -> None:
    sql = "SELECT version FROM c_part WHERE id = 1"
    assert reader.keep(sql) == [(0,)]
    other.execute("UPDATE c_part SET version = 1")
    reader.sees(sql, [(1,)])
    other.execute(
        "CREATE TABLE c_part_2 PARTITION OF c_part FOR VALUES IN (2);"
        "INSERT INTO c_part VALUES (2, 2)"
    )
    reader.sees("SELECT max(version) FROM c_part", [(2,)])


def test_truncate(reader: Reader, other: Other) -> None:
    sql = "SELECT id FROM c_emptied"
    assert reader.keep(sql) == [(1,)]
    other.execute("TRUNCATE c_emptied")
    reader.sees(sql, [])


def test_copy(reader: Reader, other: Other) -> None:
    sql = "SELECT count(*) FROM c_copied"
    assert reader.keep(sql) == [(1,)]
    with other.cursor() as cursor, cursor.copy("COPY c_copied FROM STDIN") as copy:
        for number in range(2, 100):
            copy.write_row((number,))
    reader.sees(sql, [(99,)])


def test_a_large_transaction(fed: Proxy, reader: Reader, other: Other) -> None:
    sql = "SELECT count(*) FROM c_large"
    assert reader.keep(sql) == [(1,)]
    other.execute(
        "INSERT INTO c_large SELECT n, repeat('x', 200) FROM generate_series(1, 100000) AS n"
    )
    other.execute("INSERT INTO c_large SELECT -1, repeat('y', 3000000)")
    reader.sees(sql, [(100_002,)])

    def counted() -> bool:
        return metric(fed, "penstock_cache_feed_changes_total") >= 100_001

    eventually(counted, "the feed has read it")


def test_a_rollback_costs_nothing(reader: Reader, other: Other) -> None:
    sql = "SELECT id FROM c_undone"
    reader.keep(sql)
    other.execute("BEGIN; INSERT INTO c_undone VALUES (2); ROLLBACK")
    other.execute("UPDATE c_plain SET version = -5 WHERE id = 2")
    reader.sees("SELECT version FROM c_plain WHERE id = 2", [(-5,)])
    hits = reader.hits()
    assert reader.read(sql) == [(1,)]
    assert reader.hits() == hits + 1


def test_a_view_that_another_replaces(reader: Reader, other: Other) -> None:
    """The same tables, another condition: nothing but the DDL tells."""
    other.execute("CREATE OR REPLACE VIEW v_changing AS SELECT id FROM c_plain WHERE id = 1")
    sql = "SELECT id FROM v_changing"
    reader.sees(sql, [(1,)])
    assert reader.keep(sql) == [(1,)]
    other.execute("CREATE OR REPLACE VIEW v_changing AS SELECT id FROM c_plain WHERE id = 2")
    reader.sees(sql, [(2,)])


def test_tables_that_change_names(reader: Reader, other: Other) -> None:
    sql = "SELECT version FROM c_renamed"
    assert reader.keep(sql) == [(1,)]
    other.execute(
        "BEGIN; ALTER TABLE c_renamed RENAME TO c_before;"
        "CREATE TABLE c_renamed AS SELECT 1 AS id, 2 AS version; COMMIT"
    )
    reader.sees(sql, [(2,)])


def test_a_materialised_view_that_another_refreshes(reader: Reader, other: Other) -> None:
    other.execute("CREATE MATERIALIZED VIEW v_kept AS SELECT max(version) AS m FROM c_untouched")
    sql = "SELECT m FROM v_kept"
    reader.sees(sql, [(0,)])
    reader.keep(sql)
    other.execute("UPDATE c_untouched SET version = 9; REFRESH MATERIALIZED VIEW v_kept")
    reader.sees(sql, [(9,)])


def test_a_temporary_table_is_nobodys_business(fed: Proxy, reader: Reader, other: Other) -> None:
    sql = "SELECT id FROM c_undone"
    reader.keep(sql)
    other.execute("CREATE TEMP TABLE t (id int); DROP TABLE t")
    other.execute("UPDATE c_plain SET version = -6 WHERE id = 2")
    reader.sees("SELECT version FROM c_plain WHERE id = 2", [(-6,)])
    hits = reader.hits()
    reader.read(sql)
    assert reader.hits() == hits + 1


def test_what_is_not_fed_is_not_cached(fed: Proxy) -> None:
    with psycopg.connect(fed.dsn(), autocommit=True) as connection:
        rows = connection.execute(
            "EXPLAIN (PENSTOCK) SELECT id FROM c_unlogged WHERE id = 1"
        ).fetchall()
    assert any("c_unlogged do not come over the change feed" in str(row) for row in rows), rows


def test_a_prepared_transaction(reader: Reader, other: Other) -> None:
    """It counts when it is committed, not when it is prepared."""
    sql = "SELECT version FROM c_plain WHERE id = 2"
    other.execute("UPDATE c_plain SET version = 0 WHERE id = 2")
    reader.sees(sql, [(0,)])
    settings = other.execute("SHOW max_prepared_transactions").fetchone()
    assert settings != ("0",)
    other.execute("BEGIN")
    other.execute("UPDATE c_plain SET version = 5 WHERE id = 2")
    other.execute("PREPARE TRANSACTION 'feed'")
    assert reader.keep(sql) == [(0,)]
    other.execute("COMMIT PREPARED 'feed'")
    reader.sees(sql, [(5,)])
