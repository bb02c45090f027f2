"""psycopg2: simple queries only, and a cursor for everything."""

import io
import json
import select
import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import psycopg2.errors
import psycopg2.extras
import psycopg2.pool
import pytest
from psycopg2 import extensions, sql

from tests.compat.targets import Target


@pytest.fixture
def connection(target: Target) -> Iterator[extensions.connection]:
    with closing(psycopg2.connect(target.dsn())) as connection:
        yield connection


@pytest.fixture
def autocommit(connection: extensions.connection) -> extensions.connection:
    connection.autocommit = True
    return connection


def one(connection: extensions.connection, query: str, *values: object) -> object:
    """The first column of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchone()[0]


def test_transactions_by_default(connection: extensions.connection) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE booked (n int)")
        cursor.execute("INSERT INTO booked VALUES (%s)", [1])
    with pytest.raises(psycopg2.errors.DivisionByZero), connection:
        _book_and_fail(connection)
    assert one(connection, "SELECT count(*) FROM booked") == 1
    connection.rollback()
    with pytest.raises(psycopg2.errors.UndefinedTable):
        one(connection, "SELECT * FROM nowhere")
    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
        one(connection, "SELECT 1")
    connection.rollback()
    assert connection.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE


def _book_and_fail(connection: extensions.connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO booked VALUES (2)")
        cursor.execute("SELECT 1/0")


def test_the_session_reads_its_own_writes(autocommit: extensions.connection) -> None:
    with autocommit.cursor() as cursor:
        cursor.execute("CREATE TABLE own (n int)")
        cursor.execute("INSERT INTO own VALUES (0)")
        for n in range(100):
            cursor.execute("UPDATE own SET n = %s", [n])
            cursor.execute("SELECT n FROM own")
            assert cursor.fetchone() == (n,)
        cursor.execute("DROP TABLE own")


def test_named_cursors(connection: extensions.connection) -> None:
    with connection.cursor("named") as cursor:
        cursor.itersize = 50
        cursor.execute("SELECT n FROM generate_series(1, 1000) n")
        assert [row[0] for row in cursor] == list(range(1, 1001))
    connection.rollback()
    held = connection.cursor("held", withhold=True, scrollable=True)
    held.execute("SELECT n FROM generate_series(1, 100) n")
    connection.commit()
    assert held.fetchmany(2) == [(1,), (2,)]
    connection.commit()
    held.scroll(-1)
    assert held.fetchone() == (2,)
    held.close()


def test_copy(autocommit: extensions.connection) -> None:
    with autocommit.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (id int, name text)")
        cursor.copy_from(io.StringIO("1\tone\n2\ttwo\n"), "copied")
        rows = io.StringIO("".join(f"{n},name {n}\n" for n in range(3, 5001)))
        cursor.copy_expert("COPY copied FROM STDIN WITH (FORMAT csv)", rows)
        assert cursor.rowcount == 4998
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM copied ORDER BY id LIMIT 2) TO STDOUT", out)
        assert out.getvalue() == "1\tone\n2\ttwo\n"
        out = io.StringIO()
        cursor.copy_to(out, "copied", sep="|")
        assert out.getvalue().count("\n") == 5000
        with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
            cursor.copy_from(io.StringIO("x\ty\n"), "copied")
        cursor.execute("SELECT count(*) FROM copied")
        assert cursor.fetchone() == (5000,)
        cursor.execute("DROP TABLE copied")


def test_many_values(autocommit: extensions.connection) -> None:
    extras = psycopg2.extras
    with autocommit.cursor() as cursor:
        cursor.execute("CREATE TABLE many (id int PRIMARY KEY, word text)")
        values = [(n, f"w{n}") for n in range(1000)]
        ids = extras.execute_values(
            cursor, "INSERT INTO many VALUES %s RETURNING id", values, page_size=100, fetch=True
        )
        assert ids == [(n,) for n in range(1000)]
        extras.execute_batch(
            cursor, "UPDATE many SET word = %s WHERE id = %s", [(f"x{n}", n) for n in range(500)]
        )
        cursor.executemany("DELETE FROM many WHERE id = %s", [(n,) for n in range(100)])
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE word LIKE 'x%') FROM many")
        assert cursor.fetchone() == (900, 400)
        cursor.execute("DROP TABLE many")


def test_set_session(connection: extensions.connection) -> None:
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
    assert one(connection, "SHOW transaction_isolation") == "serializable"
    assert one(connection, "SHOW transaction_read_only") == "on"
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        one(connection, "CREATE TABLE impossible (n int)")
    connection.rollback()
    connection.set_session(isolation_level="READ COMMITTED", readonly=False, deferrable=False)
    assert one(connection, "SHOW transaction_isolation") == "read committed"
    connection.rollback()
    connection.set_session(readonly=True, autocommit=True)  # SETs the session's defaults
    assert one(connection, "SHOW default_transaction_read_only") == "on"
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        one(connection, "CREATE TABLE impossible (n int)")
    connection.set_session(readonly=False, autocommit=True)
    assert one(connection, "SHOW transaction_read_only") == "off"


def test_client_encoding(autocommit: extensions.connection) -> None:
    assert autocommit.encoding == "UTF8"
    autocommit.set_client_encoding("LATIN1")
    assert autocommit.encoding in ("LATIN1", "ISO88591")
    assert one(autocommit, "SELECT 'ä' || %s", "ö") == "äö"
    assert one(autocommit, "SHOW client_encoding") == "LATIN1"
    autocommit.reset()
    assert one(autocommit, "SELECT length(%s)", "中文") == 2


def test_listen_and_poll(target: Target, autocommit: extensions.connection) -> None:
    with autocommit.cursor() as cursor:
        cursor.execute("LISTEN news")
    with closing(psycopg2.connect(target.dsn())) as other:
        other.autocommit = True
        with other.cursor() as cursor:
            cursor.execute("NOTIFY news, 'hello'")
    while not autocommit.notifies:
        assert select.select([autocommit], [], [], 10)[0], "nothing came"
        autocommit.poll()
    assert [(note.channel, note.payload) for note in autocommit.notifies] == [("news", "hello")]


def test_cancel_from_another_thread(connection: extensions.connection) -> None:
    timer = threading.Timer(0.2, connection.cancel)
    timer.start()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        one(connection, "SELECT pg_sleep(30)")
    timer.join()
    connection.rollback()
    assert one(connection, "SELECT 1") == 1


def test_asynchronous_connection(target: Target) -> None:
    with closing(psycopg2.connect(target.dsn(), async_=True)) as connection:
        psycopg2.extras.wait_select(connection)
        cursor = connection.cursor()
        for n in range(10):
            cursor.execute("SELECT %s + 1", [n])
            psycopg2.extras.wait_select(connection)
            assert cursor.fetchone() == (n + 1,)


def test_two_phase_commit(target: Target, connection: extensions.connection) -> None:
    target.prepare("CREATE TABLE phases (n int)")
    for n, finish in enumerate((connection.tpc_commit, connection.tpc_rollback)):
        connection.tpc_begin(connection.xid(2, f"{target.database.name}-{n}", "b"))
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO phases VALUES (%s)", [n])
        connection.tpc_prepare()
        finish()
    assert one(connection, "SELECT array_agg(n) FROM phases") == [0]


def test_notices_and_error_fields(autocommit: extensions.connection) -> None:
    with autocommit.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
        assert autocommit.notices[-1] == "NOTICE:  heard\n"
        cursor.execute("CREATE TABLE keyed (n int CONSTRAINT the_key PRIMARY KEY)")
        cursor.execute("INSERT INTO keyed VALUES (1)")
        with pytest.raises(psycopg2.errors.UniqueViolation) as raised:
            cursor.execute("INSERT INTO keyed VALUES (1)")
    assert raised.value.pgcode == "23505"
    assert raised.value.diag.constraint_name == "the_key"
    assert raised.value.diag.message_detail == "Key (n)=(1) already exists."


def test_rows_as_dicts_json_and_composed_sql(autocommit: extensions.connection) -> None:
    with autocommit.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        query = sql.SQL("SELECT {} AS doc, %s AS n").format(sql.Literal(json.dumps({"a": 1})))
        cursor.execute(query, [5])
        assert cursor.fetchone() == {"doc": '{"a": 1}', "n": 5}
        cursor.execute("CREATE TYPE pair AS (a int, b text)")
        psycopg2.extras.register_composite("pair", cursor)
        cursor.execute("SELECT (1, 'x')::pair AS p")
        assert tuple(cursor.fetchone()["p"]) == (1, "x")


def test_large_objects(connection: extensions.connection) -> None:
    with connection:
        written = connection.lobject(0, "wb")
        written.write(b"x" * 100_000)
        written.close()
    with connection:
        read = connection.lobject(written.oid, "rb")
        read.seek(99_990)
        assert read.read() == b"x" * 10
        read.unlink()


def test_a_pool_of_connections_and_threads(target: Target) -> None:
    pool = psycopg2.pool.ThreadedConnectionPool(1, 8, target.dsn())
    failures: list[Exception] = []

    def work(number: int) -> None:
        connection = pool.getconn(number)
        try:
            for n in range(30):
                assert one(connection, "SELECT %s + %s", number, n) == number + n
                connection.commit()
        except Exception as failure:
            failures.append(failure)
        finally:
            pool.putconn(connection, number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.closeall()
    assert failures == []
