"""`strategy = "write-back"`: Redis has single-row writes first, and nobody notices."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import Database
from tests.integration.admin.operating import operator, rows
from tests.integration.cache.backs import (
    DURABLE,
    RULE,
    back_proxy,
    command,
    direct,
    of_redis,
    prepare,
    set_up,
    written,
)
from tests.integration.cache.feed.feeds import Reader, eventually, metric, samples
from tests.integration.cache.servers import OwnRedis
from tests.proxies import Proxy, running_proxy

SLOWLY = '[cache.write_back]\ninterval = "600s"\n'
"""Nothing is applied but for who reads, so that tests see what waits."""


@pytest.fixture
def back(
    database: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> Iterator[Proxy]:
    prepare(database)
    done = set_up(database, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with back_proxy(database, tmp_path, start_redis(*DURABLE), extra=SLOWLY) as proxy:
        eventually(lambda: takes(proxy), "the tables are known")
        yield proxy


def takes(proxy: Proxy) -> bool:
    """Whether a write of no effect is written back."""
    before = written(proxy)
    with connect(proxy) as connection:
        connection.execute("UPDATE w_plain SET note = 'old' WHERE id = 5")
    return written(proxy) > before


def connect(proxy: Proxy, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(proxy.dsn(), autocommit=True, **options)


def declined(proxy: Proxy) -> dict[str, float]:
    """Writes that went to PostgreSQL, by reason."""
    found = samples(proxy, "penstock_write_back_declined_total")
    return {labels.partition('reason="')[2].rstrip('"'): count for labels, count in found.items()}


def test_a_write_is_acknowledged_first_and_seen_by_who_reads(back: Proxy) -> None:
    with connect(back) as one, Reader(back) as other:
        before = written(back)
        assert (
            one.execute("UPDATE w_plain SET version = 7 WHERE id = 1").statusmessage == "UPDATE 1"
        )
        added = one.execute("INSERT INTO w_plain (id, version, note) VALUES (9, 1, 'it''s')")
        assert added.statusmessage == "INSERT 0 1"
        assert written(back) == before + 2
        seen = "SELECT version, note FROM w_plain WHERE id IN (1, 9) ORDER BY id"
        assert direct(back.database, seen) == [(0, "old")]
        assert other.read(seen) == [(7, "old"), (1, "it's")]
        assert direct(back.database, seen) == [(7, "old"), (1, "it's")]


STATEMENTS = (
    ("UPDATE {t} SET version = %s, note = %s WHERE id = %s", (3, "a'b\\c\n", 1)),
    ("UPDATE {t} SET note = %s WHERE id = %s", (None, 2)),
    ("INSERT INTO {t} VALUES (%s, %s, %s)", (11, 5, "ünï")),
    ("insert into public.{t} (note, id) values (%s, %s)", ("x", 12)),
    ("UPDATE {t} SET version = version + %s WHERE id = %s", (40, 3)),
    ("UPDATE {t} SET version = version - %s, note = %s WHERE id = %s", (2, "less", 3)),
)


@pytest.mark.parametrize("form", ["simple", "extended", "prepared", "binary"])
def test_the_same_rows_as_without_it(back: Proxy, form: str) -> None:
    with connect(back) as connection:
        connection.execute("CREATE TABLE twin (LIKE w_plain INCLUDING ALL)")
        connection.execute("INSERT INTO twin SELECT * FROM w_plain")
        eventually(lambda: takes(back), "the tables are known again")
        before = written(back)
        cursor: psycopg.Cursor[Any]
        cursor = psycopg.ClientCursor(connection) if form == "simple" else connection.cursor()
        for table in ("w_plain", "twin"):
            if table == "twin":
                assert direct(back.database, "SELECT * FROM w_plain EXCEPT TABLE twin") == []
            for statement, values in STATEMENTS:
                options: dict[str, Any] = {"binary": True} if form == "binary" else {}
                if form == "prepared":
                    options["prepare"] = True
                told = cursor.execute(statement.format(t=table).encode(), values, **options)
                assert told.statusmessage in ("UPDATE 1", "INSERT 0 1")
        assert written(back) == before + len(STATEMENTS)
        seen = "SELECT * FROM w_plain EXCEPT SELECT * FROM twin"
        assert connection.execute(seen.encode()).fetchall() == []
        other = "SELECT * FROM twin EXCEPT SELECT * FROM w_plain"
        assert connection.execute(other.encode()).fetchall() == []


async def test_by_asyncpg(back: Proxy) -> None:
    import asyncpg

    connection = await asyncpg.connect(back.dsn())
    before = written(back)
    assert await connection.execute("UPDATE w_plain SET version = $1 WHERE id = $2", 8, 4) == (
        "UPDATE 1"
    )
    statement = await connection.prepare("INSERT INTO w_plain (id, note) VALUES ($1, $2)")
    await statement.fetch(70, "by asyncpg")
    await statement.fetch(71, None)
    assert written(back) == before + 3
    rows = await connection.fetch("SELECT id, version, note FROM w_plain WHERE id IN (4, 70, 71)")
    assert sorted(tuple(row) for row in rows) == [
        (4, 8, "old"),
        (70, 0, "by asyncpg"),
        (71, 0, None),
    ]
    await connection.close()


def test_values_are_read_in_the_client_s_settings(back: Proxy) -> None:
    with connect(back) as one, connect(back) as other:
        one.execute("SET datestyle = 'SQL, DMY'")
        one.execute("SET timezone = 'Asia/Tokyo'")
        other.execute("SET datestyle = 'SQL, MDY'")
        other.execute("SET timezone = 'America/New_York'")
        before = written(back)
        insert = "INSERT INTO w_events (kind, at, size) VALUES ('a', '03/02/2026 10:00', 12.345)"
        for connection in (one, other):
            psycopg.ClientCursor(connection).execute(insert)
        one.execute("INSERT INTO w_counts VALUES ('d', '01/02/2026', 1)")
        other.execute("UPDATE w_counts SET n = 5 WHERE name = 'd' AND day = '02/01/2026'")
        assert written(back) >= before + 3
        one.execute("SET timezone = 'UTC'")
        one.execute("SET datestyle = 'ISO'")
        seen = one.execute("SELECT kind, at::text, size::text FROM w_events ORDER BY at").fetchall()
        assert seen == [
            ("a", "2026-02-03 01:00:00+00", "12.35"),
            ("a", "2026-03-02 15:00:00+00", "12.35"),
        ]
        assert one.execute("SELECT day::text, n FROM w_counts").fetchall() == [("2026-02-01", 5)]


REFUSED = (
    ("INSERT INTO w_plain (id) VALUES (1)", psycopg.errors.UniqueViolation),
    ("INSERT INTO w_plain (id) VALUES ('one')", psycopg.errors.InvalidTextRepresentation),
    ("INSERT INTO w_plain (id, version) VALUES (60, NULL)", psycopg.errors.NotNullViolation),
    ("INSERT INTO w_plain (version) VALUES (60)", psycopg.errors.NotNullViolation),
    ("INSERT INTO w_plain (id, nope) VALUES (60, 1)", psycopg.errors.UndefinedColumn),
    (
        "INSERT INTO w_plain (id, version) VALUES (60, 3000000000)",
        psycopg.errors.NumericValueOutOfRange,
    ),
    ("INSERT INTO w_events (kind) VALUES ('too long')", psycopg.errors.StringDataRightTruncation),
    ("INSERT INTO w_events (size) VALUES (123456)", psycopg.errors.NumericValueOutOfRange),
    ("INSERT INTO w_plain (id, version) VALUES (60, true)", psycopg.errors.DatatypeMismatch),
    ("INSERT INTO w_nowhere (id) VALUES (1)", psycopg.errors.UndefinedTable),
)


@pytest.mark.parametrize(("statement", "error"), REFUSED)
def test_what_the_server_refuses_it_refuses_at_once(
    back: Proxy, statement: str, error: type[Exception]
) -> None:
    before = written(back)
    with connect(back) as connection, pytest.raises(error):
        psycopg.ClientCursor(connection).execute(statement.encode())
    assert written(back) == before


def test_a_key_that_waits_is_taken(back: Proxy) -> None:
    before = written(back)
    with connect(back) as one, connect(back) as other:
        one.execute("INSERT INTO w_plain (id) VALUES (33)")
        assert written(back) == before + 1
        with pytest.raises(psycopg.errors.UniqueViolation):
            other.execute("INSERT INTO w_plain (id) VALUES (33)")
        assert other.execute("DELETE FROM w_plain WHERE id = 33").statusmessage == "DELETE 1"
        assert one.execute("UPDATE w_plain SET version = 1 WHERE id = 33").statusmessage == (
            "UPDATE 0"
        )


OTHERS = (
    ("UPDATE w_plain SET version = 1 WHERE id = 777", "UPDATE 0"),
    ("UPDATE w_plain SET version = 1 WHERE id = 1 AND note = 'old'", "UPDATE 1"),
    ("UPDATE w_plain SET version = 1 WHERE id > 3", "UPDATE 2"),
    ("UPDATE w_plain SET id = 50 WHERE id = 1", "UPDATE 1"),
    ("UPDATE w_plain SET note = lower('A') WHERE id = 1", "UPDATE 1"),
    ("INSERT INTO w_plain (id) VALUES (81), (82)", "INSERT 0 2"),
    ("INSERT INTO w_plain (id) VALUES (83) ON CONFLICT DO NOTHING", "INSERT 0 1"),
    ("INSERT INTO w_events (at) VALUES (now())", "INSERT 0 1"),
    ("/* penstock: primary */ UPDATE w_plain SET version = 5 WHERE id = 1", "UPDATE 1"),
    ("DELETE FROM w_plain WHERE id = 1", "DELETE 1"),
)


@pytest.mark.parametrize(("statement", "tag"), OTHERS)
def test_other_statements_go_to_the_server_behind_what_waits(
    back: Proxy, statement: str, tag: str
) -> None:
    with connect(back) as connection:
        connection.execute("UPDATE w_plain SET version = 99 WHERE id = 5")
        before = written(back)
        assert psycopg.ClientCursor(connection).execute(statement.encode()).statusmessage == tag
        assert written(back) == before
        waited = direct(back.database, "SELECT version FROM w_plain WHERE id = 5")
    assert waited in ([(99,)], [(1,)])


def test_a_transaction_writes_by_itself(back: Proxy) -> None:
    with connect(back) as connection:
        connection.execute("UPDATE w_plain SET version = 1 WHERE id = 1")
        before = written(back)
        with connection.transaction():
            connection.execute("UPDATE w_plain SET version = version + 1 WHERE id = 1")
            connection.execute("INSERT INTO w_plain (id) VALUES (90)")
            assert connection.execute("SELECT count(*) FROM w_plain").fetchone() == (6,)
        assert written(back) == before
        assert direct(back.database, "SELECT version FROM w_plain WHERE id = 1") == [(2,)]


def test_a_snapshot_has_all_that_was_acknowledged_before_it(back: Proxy) -> None:
    with connect(back) as one, connect(back) as other:
        one.execute("UPDATE w_plain SET version = 1 WHERE id = 1")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")  # the snapshot is from here
        one.execute("UPDATE w_plain SET version = 2 WHERE id = 1")
        assert other.execute("SELECT version FROM w_plain WHERE id = 1").fetchall() == [(1,)]
        other.execute("COMMIT")
        assert other.execute("SELECT version FROM w_plain WHERE id = 1").fetchall() == [(2,)]


def test_a_transaction_that_waits_for_what_waits_for_it_is_ended(back: Proxy) -> None:
    with connect(back) as one, connect(back) as other:
        one.execute("BEGIN")
        one.execute("UPDATE w_plain SET version = 1 WHERE id = 1")
        before = written(back)
        other.execute("UPDATE w_plain SET version = 2 WHERE id = 1")
        assert written(back) == before + 1
        with pytest.raises(psycopg.errors.DeadlockDetected):
            one.execute("SELECT version FROM w_plain WHERE id = 2")
        one.execute("ROLLBACK")
        assert other.execute("SELECT version FROM w_plain WHERE id = 1").fetchall() == [(2,)]


def test_a_foreign_key_sees_what_waits(back: Proxy) -> None:
    with connect(back) as connection:
        connection.execute("INSERT INTO w_plain (id) VALUES (44)")
        connection.execute("INSERT INTO other VALUES (1, 44)")


def test_hits_go_with_the_write(back: Proxy) -> None:
    query = "SELECT version FROM w_plain WHERE id = 1"
    with Reader(back) as reader, connect(back) as writer:
        for version in range(1, 4):
            reader.keep(query)
            writer.execute(f"UPDATE w_plain SET version = {version} WHERE id = 1".encode())
            assert reader.read(query) == [(version,)]


def test_explain_says_it(back: Proxy) -> None:
    with connect(back) as connection:
        told = connection.execute("EXPLAIN (PENSTOCK) UPDATE w_plain SET version = 1 WHERE id = 1")
        assert ("written back", "rows of w_plain, where nothing is against it") in told.fetchall()


def test_figures(back: Proxy) -> None:
    with connect(back) as connection:
        connection.execute("UPDATE w_plain SET version = 1 WHERE id = 1")
        connection.execute("UPDATE w_plain SET version = 1 WHERE id > 1")
    told = shown(back)
    assert told["state"] == "in use"
    assert int(told["written"]) >= 1
    assert int(told["applied"]) >= 1
    assert int(told["barriers"]) >= 1
    reason = "it is no INSERT of constants, and no UPDATE by equalities"
    assert int(told[f"declined: {reason}"]) == 1
    assert declined(back)[reason] == 1


def test_what_the_server_refuses_later_is_kept(back: Proxy) -> None:
    database = back.database
    with connect(back) as connection:
        for version in (1, 2, 3):
            connection.execute(
                f"UPDATE w_plain SET version = {version} WHERE id = {version}".encode()
            )
        direct_ddl = "ALTER TABLE w_plain ADD CHECK (version <> 2)"
        with psycopg.connect(database.dsn(), autocommit=True) as around:
            around.execute(direct_ddl)
        seen = connection.execute("SELECT id, version FROM w_plain WHERE id < 4 ORDER BY id")
        assert seen.fetchall() == [(1, 1), (2, 0), (3, 3)]
    with psycopg.connect(database.superuser_dsn()) as connection:
        kept = connection.execute(
            "SELECT relation::regclass::text, sqlstate, write -> 'keys' -> 0 ->> 0 "
            "FROM penstock_write_back.rejected"
        ).fetchall()
    assert kept == [("w_plain", "23514", "id")]
    assert metric(back, "penstock_write_back_rejected_total") == 1
    told = [one for one in back.log() if "refused by PostgreSQL" in str(one.get("event"))]
    assert [one["sqlstate"] for one in told] == ["23514"]


def test_it_ends_with_nothing_left_to_apply(
    database: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    prepare(database)
    set_up(database, tmp_path)
    server = start_redis(*DURABLE)
    with back_proxy(database, tmp_path, server, extra=SLOWLY) as proxy:
        eventually(lambda: takes(proxy), "the tables are known")
        with connect(proxy) as connection:
            for number in range(50):
                connection.execute("INSERT INTO w_events (kind) VALUES (%s)", [str(number)])
        assert direct(database, "SELECT count(*) FROM w_events") == [(0,)]
    assert direct(database, "SELECT count(*), count(DISTINCT kind) FROM w_events") == [(50, 50)]


@pytest.mark.parametrize("lacks", ["disk", "tables", "replicas"])
def test_without_what_it_needs_it_says_so_and_writes_directly(
    database: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis], lacks: str
) -> None:
    prepare(database)
    if lacks != "tables":
        set_up(database, tmp_path)
    server = start_redis("--appendonly", "no" if lacks == "disk" else "yes")
    replicas = "[cache.write_back]\nreplicas = 1\nwait = 0.2\n" if lacks == "replicas" else ""
    why = {
        "disk": "redis keeps no append-only file",
        "tables": "run penstock cache write-back setup",
        "replicas": "",
    }[lacks]
    with (
        running_proxy(
            database, tmp_path, extra=replicas + RULE, environment=of_redis(server)
        ) as proxy,
        connect(proxy) as connection,
    ):
        if why:
            eventually(lambda: why in shown(proxy).get("why", ""), why)
        else:
            eventually(lambda: takes(proxy), "the tables are known")
        for version in range(1, 4):
            connection.execute("UPDATE w_plain SET version = %s WHERE id = 1", [version])
            seen = direct(database, "SELECT version FROM w_plain WHERE id = 1")
            assert seen == [(version,)]  # without a replica it is applied before it is told
        assert (written(proxy) > 0) == (lacks == "replicas")
        if lacks == "disk":  # as with write-through, results in demand are there again
            with Reader(proxy) as reader:
                reader.keep("SELECT version FROM w_plain WHERE id = 2")
                connection.execute("UPDATE w_plain SET version = 9 WHERE id = 2")
                before = metric(proxy, "penstock_cache_hits_total")
                assert reader.read("SELECT version FROM w_plain WHERE id = 2") == [(9,)]
                assert metric(proxy, "penstock_cache_hits_total") == before + 1
    status = command(database, tmp_path, "status")
    assert ("not set up" in status.stdout) == (lacks == "tables")


def shown(proxy: Proxy) -> dict[str, str]:
    """What SHOW CACHE says of write-back."""
    with operator(proxy) as console:
        return {
            one["metric"]: one["this_process"]
            for one in rows(console, "SHOW CACHE")
            if one["scope"] == "write-back"
        }
