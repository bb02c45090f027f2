"""psql: what people type, and the catalogue queries behind its backslash commands.

What psql prints through Penstock must be what it prints on the primary.
"""

from pathlib import Path

import pytest

from tests.compat.targets import Target, direct, lines

SCHEMA = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
    "CREATE SCHEMA store",
    "CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, feels mood DEFAULT 'ok')",
    "CREATE TABLE orders (id serial PRIMARY KEY, customer bigint REFERENCES customers, "
    "amount positive, placed timestamptz DEFAULT now())",
    "CREATE INDEX orders_by_customer ON orders (customer)",
    "CREATE VIEW totals AS SELECT customer, sum(amount) FROM orders GROUP BY customer",
    "CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN n * 2",
    "CREATE TABLE store.shelves (id integer, label varchar(20)) PARTITION BY LIST (id)",
    "CREATE TABLE store.shelves_1 PARTITION OF store.shelves FOR VALUES IN (1)",
    "COMMENT ON TABLE customers IS 'who buys'",
    "INSERT INTO customers SELECT n, 'name ' || n FROM generate_series(1, 100) n",
    "INSERT INTO orders (customer, amount, placed) "
    "SELECT n % 100 + 1, n, timestamptz '2024-01-01' + n * interval '1 hour' "
    "FROM generate_series(1, 1000) n",
)

COMMANDS = (
    r"\d",
    r"\d+",
    r"\d customers",
    r"\d+ orders",
    r"\d totals",
    r"\d store.shelves",
    r"\dt",
    r"\dt store.*",
    r"\di",
    r"\dv",
    r"\ds",
    r"\df",
    r"\df+ twice",
    r"\sf twice",
    r"\sv totals",
    r"\dT",
    r"\dD",
    r"\dn",
    r"\dn+",
    r"\dp",
    r"\du",
    r"\dx",
    r"\dC int*",
    r"\do ||",
    r"\l",
    r"\z orders",
    r"\d nowhere",
)


@pytest.fixture(scope="module", autouse=True)
def _schema(target: Target) -> None:
    target.prepare(*SCHEMA)


def psql(target: Target, script: str, *arguments: str, cwd: Path | None = None) -> tuple[str, str]:
    """Standard output and standard error of a script that must succeed."""
    done = target.run(target.database.stack.psql, *arguments, stdin=script, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_describing_commands_print_what_they_print_on_the_primary(target: Target) -> None:
    script = "\n".join(f"\\echo == {command[1:]}\n{command}" for command in COMMANDS)
    proxied, errors = psql(target, script)
    for _ in range(3):  # databases of other tests come and go, and vacuum changes sizes
        straight = psql(direct(target.database), script)
        if (proxied, errors) == straight:
            break
        proxied, errors = psql(target, script)
    assert (proxied, errors) == straight
    assert "orders_by_customer" in proxied
    assert "SELECT customer" in proxied
    assert lines(errors) == ['Did not find any relation named "nowhere".']


def test_describing_sees_what_the_session_has_just_made(target: Target) -> None:
    script = "".join(
        f"CREATE TABLE made_{n} (id integer, extra text);\n\\d made_{n}\nDROP TABLE made_{n};\n"
        for n in range(20)
    )
    output, errors = psql(target, script)
    assert output.count("extra  | text") == 20
    assert errors == ""


def test_output_formats(target: Target) -> None:
    script = r"""
        \x
        SELECT * FROM customers WHERE id = 7;
        \x auto
        \pset null '(none)'
        SELECT 1 AS one, NULL AS nothing, 'a|b' AS piped;
        \a
        \t
        SELECT id, name FROM customers WHERE id < 4 ORDER BY id;
        \pset format csv
        SELECT id, name || ',' FROM customers WHERE id < 3 ORDER BY id;
        SELECT n, n % 2, n * 10 FROM generate_series(1, 4) n \crosstabview
        SELECT id, feels FROM customers WHERE id = 1 \gdesc
    """
    output, _ = psql(target, script)
    assert output == psql(direct(target.database), script)[0]
    assert "name  | name 7" in output
    assert "1|name 1\n2|name 2\n3|name 3\n" in output
    assert '1,"name 1,"' in output


def test_copy_out_and_in(target: Target, tmp_path: Path) -> None:
    script = r"""
        \copy (SELECT * FROM customers ORDER BY id) TO 'out.csv' WITH (FORMAT csv, HEADER)
        CREATE TABLE copied (LIKE customers);
        \copy copied FROM 'out.csv' WITH (FORMAT csv, HEADER)
        SELECT count(*), min(id), max(id) FROM copied;
        \copy copied FROM stdin
        1000	last	happy
        \.
        \copy copied TO 'out.bin' WITH (FORMAT binary)
        TRUNCATE copied;
        \copy copied FROM 'out.bin' WITH (FORMAT binary)
        SELECT count(*), max(id) FROM copied;
        COPY copied TO STDOUT \g out.txt
        \! wc -l < out.txt
        DROP TABLE copied;
    """.replace("        ", "")
    output, _ = psql(target, script, "-At", "-v", "ON_ERROR_STOP=1", cwd=tmp_path)
    assert lines(output) == [
        "COPY 100",
        "CREATE TABLE",
        "COPY 100",
        "100|1|100",
        "COPY 1",
        "COPY 101",
        "TRUNCATE TABLE",
        "COPY 101",
        "101|1000",
        "COPY 101",
        "101",
        "DROP TABLE",
    ]


def test_copy_with_a_bad_row_fails_and_leaves_the_session_usable(target: Target) -> None:
    script = "CREATE TABLE strict (n integer);\nCOPY strict FROM stdin;\n1\ntwo\n3\n\\.\n"
    output, errors = psql(
        target, script + "SELECT count(*) FROM strict;\nDROP TABLE strict;", "-At"
    )
    assert lines(output) == ["CREATE TABLE", "0", "DROP TABLE"]
    assert 'invalid input syntax for type integer: "two"' in errors
    assert 'CONTEXT:  COPY strict, line 2, column n: "two"' in errors


def test_errors_go_on_or_stop(target: Target) -> None:
    script = "SELECT 1;\nSELECT 1/0;\nSELECT * FROM missing;\nSELECT 2;\n"
    output, errors = psql(target, script, "-At")
    assert lines(output) == ["1", "2"]
    assert "division by zero" in errors
    assert 'relation "missing" does not exist' in errors
    assert "^" in errors  # the position was passed on
    stopped = target.run(target.database.stack.psql, "-At", "-v", "ON_ERROR_STOP=1", stdin=script)
    assert stopped.returncode == 3
    assert lines(stopped.stdout) == ["1"]


def test_transactions_and_savepoints(target: Target) -> None:
    script = r"""
        CREATE TABLE ledger (n integer);
        BEGIN;
        INSERT INTO ledger VALUES (1);
        SELECT count(*) FROM ledger;
        ROLLBACK;
        SELECT count(*) FROM ledger;
        BEGIN;
        INSERT INTO ledger VALUES (2);
        SAVEPOINT here;
        SELECT 1/0;
        SELECT 'ignored';
        ROLLBACK TO here;
        INSERT INTO ledger VALUES (3);
        COMMIT;
        SELECT sum(n) FROM ledger;
        BEGIN; INSERT INTO ledger VALUES (4); SELECT 1/0; COMMIT;
        SELECT sum(n) FROM ledger;
        \set AUTOCOMMIT off
        INSERT INTO ledger VALUES (100);
        ROLLBACK;
        SELECT sum(n) FROM ledger;
        COMMIT;
        \set AUTOCOMMIT on
        DROP TABLE ledger;
    """
    output, errors = psql(target, script, "-Atq")
    assert lines(output) == ["1", "0", "5", "5", "5"]
    assert lines(errors) == [
        "ERROR:  division by zero",
        "ERROR:  current transaction is aborted, commands ignored until end of transaction block",
        "ERROR:  division by zero",
    ]


def test_on_error_rollback_uses_savepoints(target: Target) -> None:
    script = r"""
        \set ON_ERROR_ROLLBACK on
        BEGIN;
        CREATE TABLE kept (n integer);
        SELECT 1/0;
        INSERT INTO kept VALUES (1);
        COMMIT;
        SELECT count(*) FROM kept;
        DROP TABLE kept;
    """
    output, errors = psql(target, script, "-Atq")
    assert lines(output) == ["1"]
    assert lines(errors) == ["ERROR:  division by zero"]


def test_variables_gset_gexec_and_conditions(target: Target) -> None:
    script = r"""
        \set who 'name 5'
        SELECT id FROM customers WHERE name = :'who';
        SELECT count(*) AS how_many, max(id) AS top FROM customers \gset
        \echo :how_many :top
        SELECT 'CREATE TABLE gen_' || n || ' (n integer)' FROM generate_series(1, 3) n \gexec
        SELECT count(*) FROM pg_class WHERE relname LIKE 'gen\_%';
        SELECT format('DROP TABLE %I', relname) FROM pg_class WHERE relname LIKE 'gen\_%' \gexec
        SELECT :how_many > 50 AS many \gset
        \if :many
        \echo many
        \else
        \echo few
        \endif
        SELECT 'SELECT ' || 6 * 7 \gexec
        SELECT 1/0;
        \echo :SQLSTATE :LAST_ERROR_MESSAGE
        \errverbose
    """
    output, _ = psql(target, script, "-Atq")
    assert lines(output)[:6] == ["5", "100 100", "3", "many", "42", "22012 division by zero"]


def test_bind_and_named_statements(target: Target) -> None:
    script = r"""
        SELECT name FROM customers WHERE id = $1 \bind 3 \g
        SELECT $1::int + $2::int \bind 40 2 \g
        INSERT INTO customers VALUES ($1, $2) RETURNING id \bind 5000 guest \g
        SELECT name FROM customers WHERE id = $1 \bind 5000 \g
        DELETE FROM customers WHERE id = $1 \bind 5000 \g
        SELECT count(*) FROM orders WHERE customer = $1 \parse by_customer
        \bind_named by_customer 1 \g
        \bind_named by_customer 2 \g
        \close_prepared by_customer
        \bind_named by_customer 1 \g
    """
    output, errors = psql(target, script, "-Atq")
    assert lines(output) == ["name 3", "42", "5000", "guest", "10", "10"]
    assert 'prepared statement "by_customer" does not exist' in errors


def test_pipeline_commands(target: Target) -> None:
    script = r"""
        \startpipeline
        SELECT $1::int \bind 1 \sendpipeline
        SELECT name FROM customers WHERE id = $1 \bind 2 \sendpipeline
        \syncpipeline
        SELECT 1/$1::int \bind 0 \sendpipeline
        SELECT 'skipped' \bind \sendpipeline
        \syncpipeline
        SELECT 'after' \bind \sendpipeline
        \endpipeline
        SELECT 'done';
    """
    output, errors = psql(target, script, "-Atq")
    assert (output, errors) == psql(direct(target.database), script, "-Atq")
    assert [line for line in lines(output) if "pipeline" not in line.lower()] == [
        "1",
        "name 2",
        "after",
        "done",
    ]


def test_several_statements_in_one_message(target: Target) -> None:
    """-c sends its whole argument as one query string."""
    psql_program = target.database.stack.psql
    done = target.run(
        psql_program, "-Atc", "SELECT 1; CREATE TABLE m (n int); INSERT INTO m VALUES (7); TABLE m"
    )
    assert lines(done.stdout) == ["1", "CREATE TABLE", "INSERT 0 1", "7"]
    failed = target.run(psql_program, "-Atc", "INSERT INTO m VALUES (8); SELECT 1/0; TABLE m")
    assert failed.returncode == 1
    script = r"SELECT 1\; SELECT 2\; SELECT count(*) FROM m;" "\nDROP TABLE m;\n"
    done = target.run(psql_program, "-Atq", stdin="SELECT 0 FROM pg_current_xact_id();" + script)
    assert lines(done.stdout)[1:] == ["1", "2", "1"]


def test_copy_behind_a_write_in_one_message(target: Target) -> None:
    script = (
        "CREATE TABLE behind (n int);\n"
        "INSERT INTO behind VALUES (1)\\; COPY behind FROM STDIN\\; TABLE behind;\n2\n3\n\\.\n"
        "DROP TABLE behind;\n"
    )
    output, errors = psql(target, script, "-Atq")
    assert (lines(output), errors) == (["1", "2", "3"], "")


def test_a_large_result_arrives_whole(target: Target) -> None:
    script = "SELECT n, md5(n::text) FROM generate_series(1, 200000) n;\n"
    output, _ = psql(target, script, "-At")
    assert output == psql(direct(target.database), script, "-At")[0]
    fetched, _ = psql(target, f"\\set FETCH_COUNT 1000\n{script}", "-At")
    assert fetched == output


def test_session_settings_and_notices(target: Target) -> None:
    script = r"""
        SET search_path = store, public;
        SET timezone = 'Asia/Tokyo';
        SHOW search_path;
        SELECT timestamptz '2024-06-01 00:00+00';
        SELECT count(*) FROM shelves;
        SET application_name = 'compat';
        SELECT current_setting('application_name');
        DO $$ BEGIN RAISE NOTICE 'heard %', 1; END $$;
        CREATE TABLE IF NOT EXISTS store.shelves (id integer);
        RESET ALL;
        SHOW search_path;
        \encoding latin1
        SELECT 'ä' = U&'\00c3\00a4';
        \encoding utf8
        SELECT length('ä');
    """
    output, errors = psql(target, script, "-Atq")
    assert (output, errors) == psql(direct(target.database), script, "-Atq")
    assert lines(output)[:4] == ["store, public", "2024-06-01 09:00:00+09", "0", "compat"]
    assert lines(errors)[0] == "NOTICE:  heard 1"


def test_timing_conninfo_and_single_transaction(target: Target) -> None:
    output, _ = psql(target, "\\timing on\nSELECT 5;\n\\conninfo\n", "-At")
    assert "Time: " in output
    assert target.user in output
    script = "CREATE TABLE once (n int);\nINSERT INTO once VALUES (1);\nSELECT 1/0;\n"
    done = target.run(target.database.stack.psql, "-1", "-q", "-v", "ON_ERROR_STOP=1", stdin=script)
    assert done.returncode == 3
    assert psql(target, "SELECT to_regclass('once') IS NULL;", "-At")[0].strip() == "t"
    target.settle()


def test_listen_and_notify_in_one_session(target: Target) -> None:
    output, _ = psql(
        target, "LISTEN news;\nNOTIFY news, 'hello';\nSELECT 1;\nUNLISTEN *;\n", "-Atq"
    )
    assert 'Asynchronous notification "news" with payload "hello" received' in output


def test_cursors(target: Target) -> None:
    script = """
        BEGIN;
        DECLARE c SCROLL CURSOR FOR SELECT id FROM customers ORDER BY id;
        FETCH 2 FROM c;
        MOVE 10 IN c;
        FETCH 1 FROM c;
        FETCH BACKWARD 1 FROM c;
        CLOSE c;
        COMMIT;
        BEGIN;
        DECLARE held CURSOR WITH HOLD FOR SELECT id FROM customers ORDER BY id DESC;
        COMMIT;
        FETCH 2 FROM held;
        CLOSE held;
    """
    output, _ = psql(target, script, "-Atq")
    assert lines(output) == ["1", "2", "13", "12", "100", "99"]
