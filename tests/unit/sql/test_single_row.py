"""INSERT of one row and UPDATE by equalities, taken to pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.single_row import (
    BOOLEAN,
    NULL,
    NUMBER,
    PARAMETER,
    STRING,
    Assignment,
    SingleRow,
    Value,
    single_row,
)


def test_an_insert() -> None:
    row = single_row("""INSERT INTO App."T x" (a, "B") VALUES (-1.5, 'it''s');""")
    assert row == SingleRow(
        "app",
        "T x",
        'App."T x"',
        (Assignment("a", Value("-1.5", NUMBER)), Assignment("B", Value("it's", STRING))),
    )
    assert row.inserts


def test_an_insert_without_columns() -> None:
    row = single_row("/* why */ insert into t values ($2, null, TRUE, $1::text)")
    assert row is not None
    assert row.assigned == (
        Assignment("", Value("$2", PARAMETER, parameter=2)),
        Assignment("", Value("null", NULL)),
        Assignment("", Value("TRUE", BOOLEAN)),
        Assignment("", Value("$1", PARAMETER, "text", 1)),
    )


def test_an_update() -> None:
    row = single_row("UPDATE t SET n = n - 1, m = $1 WHERE k = 'a' AND id = 7")
    assert row is not None
    assert not row.inserts
    assert row.assigned == (
        Assignment("n", Value("1", NUMBER), -1),
        Assignment("m", Value("$1", PARAMETER, parameter=1)),
    )
    assert row.keys == (
        Assignment("k", Value("a", STRING)),
        Assignment("id", Value("7", NUMBER)),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 1",
        "DELETE FROM t WHERE id = 1",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t (a) VALUES (1), (2)",
        "INSERT INTO t (a, b) VALUES (1)",
        "INSERT INTO t (a) VALUES (now())",
        "INSERT INTO t (a) VALUES (DEFAULT)",
        "INSERT INTO t (a) VALUES (1 + 1)",
        "INSERT INTO t (a[1]) VALUES (1)",
        "INSERT INTO t (a) VALUES (- 'x')",
        "INSERT INTO t (a) VALUES (1) RETURNING a",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
        "INSERT INTO t AS u (a) VALUES (1)",
        "INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1)",
        "INSERT INTO t (a) SELECT 1",
        "INSERT INTO a.b.c (a) VALUES (1)",
        "WITH x AS (SELECT 1) INSERT INTO t (a) VALUES (1)",
        "UPDATE t SET a = 1",
        "UPDATE t SET a = 1 WHERE id = 1 OR id = 2",
        "UPDATE t SET a = 1 WHERE id IN (1)",
        "UPDATE t SET a = 1 WHERE id = other",
        "UPDATE t SET a = 1 WHERE NOT id = 1",
        "UPDATE t SET a = b + 1 WHERE id = 1",
        "UPDATE t SET a = a * 2 WHERE id = 1",
        "UPDATE t SET (a, b) = (1, 2) WHERE id = 1",
        "UPDATE t u SET a = 1 WHERE id = 1",
        "UPDATE t SET a = 1 FROM u WHERE id = 1",
        "UPDATE ONLY t SET a = 1 WHERE id = 1",
        "UPDATE t * SET a = 1 WHERE id = 1",
        "UPDATE t SET a = 1 WHERE id = 1 RETURNING a",
        "UPDATE t SET a = 1 WHERE id = 1; UPDATE t SET a = 2 WHERE id = 1",
        "UPDATE t SET a = 1 WHERE CURRENT OF c",
        "UPDATE t SET a = 'unended WHERE id = 1",
    ],
)
def test_no_other_form(text: str) -> None:
    assert single_row(text) is None


@given(st.text(alphabet="insert updaewh(),=$1'\"+-.;v::", max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    single_row(text)
    single_row(f"UPDATE t SET {text}")
    single_row(f"INSERT INTO t {text}")
