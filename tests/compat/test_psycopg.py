"""psycopg 3 on one connection: values, statements prepared by use, transactions, cursors, COPY."""

import datetime
import decimal
import threading
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from tests.compat.targets import Target

Connection = psycopg.Connection[tuple[object, ...]]

VALUES: list[tuple[str, object]] = [
    ("bool", True),
    ("int4", -5),
    ("int8", 2**62),
    ("float8", 0.1),
    ("numeric", decimal.Decimal("1234567890.123456789")),
    ("text", "naïve 中文"),
    ("bytea", bytes(range(256))),
    ("uuid", uuid.UUID(int=7)),
    ("date", datetime.date(2024, 2, 29)),
    ("timestamptz", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
    ("interval", datetime.timedelta(hours=30)),
    ("int4[]", [1, None, 3]),
    ("text[]", [["a", "b"], ["c", 'd"']]),
    ("int4range", Range(1, 5)),
]


@pytest.fixture
def connection(target: Target) -> Iterator[Connection]:
    with psycopg.connect(target.dsn(), autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_values_come_back_as_they_went(
    connection: Connection, type_name: str, value: object, binary: bool
) -> None:
    query = sql.SQL("SELECT {}::" + type_name).format(sql.Placeholder())
    cursor = connection.execute(query, [value], binary=binary)
    assert cursor.fetchone() == (value,)


def test_json_and_rows_as_dicts(connection: Connection) -> None:
    cursor = connection.cursor(row_factory=dict_row)
    cursor.execute("SELECT %(doc)s AS doc, %(n)s + 1 AS next", {"doc": Jsonb({"a": [1]}), "n": 1})
    assert cursor.fetchone() == {"doc": {"a": [1]}, "next": 2}


def test_statements_are_prepared_after_five_uses(connection: Connection) -> None:
    for n in range(20):
        assert connection.execute("SELECT %s::int + 1", [n]).fetchone() == (n + 1,)
    connection.execute("SELECT %s::text", ["always"], prepare=True)
    assert connection.execute("SELECT %s::text", ["always"], prepare=True).fetchone() == ("always",)


def test_more_prepared_statements_than_psycopg_keeps(connection: Connection) -> None:
    """The oldest are closed, or deallocated by libpq before 17."""
    connection.prepare_threshold = 0
    for _ in range(2):
        for n in range(150):
            query = f"SELECT %s::int + {n}".encode()
            assert connection.execute(query, [1]).fetchone() == (n + 1,)


def test_the_session_reads_its_own_writes(connection: Connection) -> None:
    connection.execute("CREATE TABLE own (id int PRIMARY KEY, n int)")
    connection.execute("INSERT INTO own VALUES (1, 0)")
    for n in range(100):
        connection.execute("UPDATE own SET n = %s WHERE id = 1", [n])
        assert connection.execute("SELECT n FROM own WHERE id = %s", [1]).fetchone() == (n,)
    connection.execute("DROP TABLE own")


def test_transactions(target: Target) -> None:
    with psycopg.connect(target.dsn()) as connection:
        connection.execute("CREATE TABLE booked (n int)")
        connection.commit()
        connection.execute("INSERT INTO booked VALUES (1)")
        assert connection.info.transaction_status.name == "INTRANS"
        connection.rollback()
        with connection.transaction():
            connection.execute("INSERT INTO booked VALUES (2)")
            with pytest.raises(psycopg.errors.DivisionByZero):
                _book_and_fail(connection, 3)
            with connection.transaction(force_rollback=True):
                connection.execute("INSERT INTO booked VALUES (4)")
            with connection.transaction("named"):
                connection.execute("INSERT INTO booked VALUES (5)")
        assert connection.execute("SELECT n FROM booked ORDER BY n").fetchall() == [(2,), (5,)]
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        connection.execute("DROP TABLE booked")


def _book_and_fail(connection: Connection, n: int) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO booked VALUES (%s)", [n])
        connection.execute("SELECT 1/0")


def test_isolation_levels_and_read_only(target: Target) -> None:
    with psycopg.connect(target.dsn()) as connection:
        for level in psycopg.IsolationLevel:
            connection.isolation_level = level
            for read_only in (False, True):
                connection.read_only = read_only
                shown = connection.execute("SHOW transaction_isolation").fetchone()
                assert shown == (level.name.lower().replace("_", " "),)
                assert connection.execute("SHOW transaction_read_only").fetchone() == (
                    "on" if read_only else "off",
                )
                connection.rollback()
        connection.read_only = True
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE impossible (n int)")
        connection.rollback()
        connection.deferrable = True
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        assert connection.execute("SHOW transaction_deferrable").fetchone() == ("on",)


def test_repeatable_read_keeps_its_snapshot(target: Target) -> None:
    target.prepare("CREATE TABLE snapshots (n int)", "INSERT INTO snapshots VALUES (1)")
    with (
        psycopg.connect(target.dsn()) as reader,
        psycopg.connect(target.dsn(), autocommit=True) as writer,
    ):
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        query = "SELECT count(*) FROM snapshots"
        assert reader.execute(query).fetchone() == (1,)
        writer.execute("INSERT INTO snapshots VALUES (2)")
        assert writer.execute(query).fetchone() == (2,)
        assert reader.execute(query).fetchone() == (1,)


def test_cursors_on_the_server(target: Target) -> None:
    with psycopg.connect(target.dsn()) as connection:
        with connection.cursor("plain") as cursor:
            cursor.itersize = 10
            cursor.execute("SELECT n FROM generate_series(1, 500) n")
            assert [row[0] for row in cursor] == list(range(1, 501))
        with connection.cursor("scrolled", scrollable=True) as cursor:
            cursor.execute("SELECT n FROM generate_series(1, 500) n WHERE n > %s", [100])
            cursor.scroll(99)
            assert cursor.fetchone() == (200,)
            cursor.scroll(0, mode="absolute")
            assert cursor.fetchmany(2) == [(101,), (102,)]
        connection.execute("CREATE TABLE rows_of_it AS SELECT n FROM generate_series(1, 9) n")
        with connection.cursor("written") as cursor:
            cursor.execute("SELECT n FROM rows_of_it ORDER BY n FOR UPDATE")
            assert cursor.fetchone() == (1,)
            connection.execute("UPDATE rows_of_it SET n = 100 WHERE CURRENT OF written")
        assert connection.execute("SELECT max(n) FROM rows_of_it").fetchone() == (100,)
        connection.rollback()


def test_a_cursor_with_hold_outlives_its_transaction(target: Target) -> None:
    with psycopg.connect(target.dsn()) as connection:
        cursor = connection.cursor("held", withhold=True)
        cursor.execute("SELECT n FROM generate_series(1, 100) n")
        connection.commit()
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        connection.commit()
        assert connection.execute("SELECT 'between'").fetchone() == ("between",)
        assert cursor.fetchone() == (4,)
        cursor.close()
        connection.commit()


def test_results_row_by_row(connection: Connection) -> None:
    with connection.cursor() as cursor:
        rows = list(cursor.stream("SELECT n FROM generate_series(1, 5000) n"))
        assert len(rows) == 5000
    for row in connection.cursor().stream("SELECT n FROM generate_series(1, 100000) n"):
        if row == (10,):
            break  # psycopg cancels what is left
    assert connection.execute("SELECT 'usable'").fetchone() == ("usable",)


def test_copy_both_ways(target: Target) -> None:
    with psycopg.connect(target.dsn()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (id int, name text, at date)")
        with cursor.copy("COPY copied FROM STDIN") as copy:
            for n in range(3000):
                copy.write_row((n, f"tab\there {n}", datetime.date(2024, 1, 1)))
        assert cursor.rowcount == 3000
        with cursor.copy("COPY copied (id, name) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((9999, "binary"))
        with cursor.copy("COPY (SELECT * FROM copied WHERE id < 2 ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text", "date"])
            first = list(copy.rows())
        assert first[1] == (1, "tab\there 1", datetime.date(2024, 1, 1))
        with cursor.copy("COPY copied TO STDOUT (FORMAT binary)") as copy:
            assert sum(len(block) for block in copy) > 3000 * 20
        assert cursor.execute("SELECT count(*) FROM copied").fetchone() == (3001,)
        connection.rollback()


def test_copy_that_fails_on_either_side(connection: Connection) -> None:
    connection.execute("CREATE TABLE fragile (n int)")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        _copy(connection, ["1\n", "two\n"])
    with pytest.raises(ZeroDivisionError):
        _copy(connection, ["1\n"], ZeroDivisionError("the source failed"))
    assert connection.execute("SELECT count(*) FROM fragile").fetchone() == (0,)
    with pytest.raises(psycopg.errors.UndefinedTable), connection.cursor() as cursor:
        cursor.execute("COPY nowhere FROM STDIN")
    connection.execute("DROP TABLE fragile")


def _copy(connection: Connection, blocks: list[str], failure: Exception | None = None) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY fragile FROM STDIN") as copy:
        for block in blocks:
            copy.write(block)
        if failure is not None:
            raise failure


def test_new_types_at_once(connection: Connection) -> None:
    connection.execute("CREATE TYPE paint AS ENUM ('red', 'green')")
    connection.execute("CREATE TYPE part AS (id int, colour paint)")
    paint = EnumInfo.fetch(connection, "paint")
    part = CompositeInfo.fetch(connection, "part")
    assert paint is not None
    assert part is not None
    register_enum(paint, connection)
    register_composite(part, connection)
    row = connection.execute("SELECT 'red'::paint, (1, 'green')::part, ARRAY['red']::paint[]")
    colour, made, several = row.fetchone() or (None, None, None)
    assert paint.enum is not None
    assert colour == paint.enum["red"]
    assert tuple(made) == (1, paint.enum["green"])  # type: ignore[arg-type]
    assert several == [paint.enum["red"]]


def test_two_phase_commit(target: Target) -> None:
    target.prepare("CREATE TABLE phases (n int)")
    connection = psycopg.connect(target.dsn())
    for n, finish in enumerate(
        (connection.tpc_commit, connection.tpc_rollback, connection.tpc_commit)
    ):
        connection.tpc_begin(connection.xid(1, f"{target.database.name}-{n}", "branch"))
        connection.execute("INSERT INTO phases VALUES (%s)", [n])
        connection.tpc_prepare()
        finish()
    connection.tpc_begin(connection.xid(1, f"{target.database.name}-left", "branch"))
    connection.execute("INSERT INTO phases VALUES (10)")
    connection.tpc_prepare()
    connection.close()
    with psycopg.connect(target.dsn()) as other:
        left = [xid for xid in other.tpc_recover() if str(xid.gtrid).endswith("-left")]
        assert len(left) == 1
        other.rollback()
        other.tpc_commit(left[0])
        assert other.execute("SELECT n FROM phases ORDER BY n").fetchall() == [(0,), (2,), (10,)]


def test_notices_and_notifications(connection: Connection, target: Target) -> None:
    notices: list[tuple[str | None, str | None]] = []
    connection.add_notice_handler(
        lambda notice: notices.append((notice.severity_nonlocalized, notice.message_primary))
    )
    connection.execute("DO $$ BEGIN RAISE WARNING 'careful %', 1; END $$")
    connection.execute("DROP TABLE IF EXISTS was_never_there")
    assert notices[0] == ("WARNING", "careful 1")
    assert notices[1][0] == "NOTICE"
    connection.execute("LISTEN news")
    with psycopg.connect(target.dsn(), autocommit=True) as other:
        other.execute("NOTIFY news, 'hello'")
        other.execute("SELECT pg_notify('news', 'again')")
    heard = list(connection.notifies(timeout=10, stop_after=2))
    assert [one.payload for one in heard] == ["hello", "again"]


def test_cancel(connection: Connection) -> None:
    timer = threading.Timer(0.2, connection.cancel_safe)
    timer.start()
    started = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(30)")
    assert time.monotonic() - started < 25  # it did not run to its end
    timer.join()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_errors_carry_every_field(connection: Connection) -> None:
    connection.execute("CREATE TABLE fields (n int CONSTRAINT positive CHECK (n > 0))")
    with pytest.raises(psycopg.errors.CheckViolation) as raised:
        connection.execute("INSERT INTO fields VALUES (%s)", [-1])
    diag = raised.value.diag
    assert (diag.sqlstate, diag.table_name, diag.constraint_name) == ("23514", "fields", "positive")
    assert diag.message_detail == "Failing row contains (-1)."
    with pytest.raises(psycopg.errors.UndefinedColumn) as unknown:
        connection.execute("SELECT m FROM fields")
    assert unknown.value.diag.statement_position == "8"


def test_several_statements_give_several_results(connection: Connection) -> None:
    cursor = connection.execute("SELECT 1; SELECT 2, 3; CREATE TEMP TABLE t3 (n int); SELECT 4")
    results = [cursor.fetchall()]
    while cursor.nextset():
        results.append(cursor.fetchall() if cursor.description else [])
    assert results == [[(1,)], [(2, 3)], [], [(4,)]]
    with pytest.raises(psycopg.errors.SyntaxError):
        connection.execute("SELECT %s; SELECT %s", [1, 2])  # parameters allow one statement


def test_client_side_binding(target: Target) -> None:
    with psycopg.connect(target.dsn(), cursor_factory=psycopg.ClientCursor) as connection:
        row = connection.execute("SELECT %s, %s::int[]", ["it's", [1, 2]]).fetchone()
        assert row == ("it's", [1, 2])
        connection.execute("CREATE TABLE literal AS SELECT %s AS word", ["x"])
        assert connection.execute("TABLE literal").fetchone() == ("x",)
        connection.rollback()
