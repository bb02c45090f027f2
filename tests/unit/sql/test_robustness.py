"""Texts that are huge, deep or noise: `analyse` and `shape` answer, and in good time."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.sql.analyse import analyse
from proxy.sql.normalise import normalised, shape
from proxy.sql.statement import Kind, Statement
from tests.unit.sql.fixtures_file import cases

MEGABYTE = 1_000_000
DEEP = 20_000

DEEP_TEXTS = {
    "parentheses": "SELECT " + "(" * DEEP + "1" + ")" * DEEP,
    "open parentheses": "SELECT " + "(" * DEEP,
    "brackets": "SELECT " + "ARRAY[" * DEEP + "1" + "]" * DEEP,
    "some brackets": "SELECT " + "ARRAY[" * 24 + "1" + "]" * 24,
    "not": "SELECT " + "NOT " * DEEP + "true",
    "minus": "SELECT " + "- " * DEEP + "1",
    "case": "SELECT " + "CASE WHEN " * DEEP + "a" + " THEN 1 END" * DEEP,
    "subqueries": "SELECT * FROM " + "(SELECT * FROM " * DEEP + "t" + ") x" * DEEP,
    "unions": "SELECT 1 FROM t" + " UNION SELECT 1 FROM t" * DEEP,
    "ands": "SELECT 1 FROM t WHERE true" + " AND a = 1" * DEEP,
    "ors": "SELECT 1 FROM t WHERE true" + " OR a = 1" * DEEP,
    "casts": "SELECT 1" + "::int" * DEEP,
    "joins": "SELECT * FROM t" + " JOIN t ON true" * DEEP,
    "joins without conditions": "SELECT * FROM t " + "JOIN t " * DEEP + "ON true " * DEEP,
    "calls": "SELECT " + "f(" * 100 + "1" + ")" * 100,
    "comments": "/*" * DEEP + "*/" * DEEP + "SELECT 1",
    "explains": "EXPLAIN " * DEEP + "SELECT 1",
    "declares": "DECLARE c CURSOR FOR " * DEEP + "SELECT 1",
    "semicolons": ";" * MEGABYTE,
    "dots": "SELECT a" + ".b" * DEEP + " FROM t",
    "operators": "SELECT 1 " + "+" * MEGABYTE + " 2",
    "quotes": "SELECT " + "'" * (MEGABYTE + 1),
    "dollars": "SELECT " + "$" * MEGABYTE,
    "letters": "SELECT " + "e" * MEGABYTE + "'",
    "spaces": "SELECT" + " " * MEGABYTE + "'",
    "backslashes": "SELECT E'" + "\\" * MEGABYTE,
    "strings in parts": "SELECT 'a'" + "\n'a'" * (MEGABYTE // 4),
    "ctes": "WITH " + ", ".join(f"c{i} AS (SELECT 1)" for i in range(2_000)) + " SELECT 1",
}
HUGE_TEXTS = {
    "string": "SELECT * FROM t WHERE a = '" + "x" * MEGABYTE + "'",
    "dollar quote": "SELECT * FROM t WHERE a = $$" + "x" * MEGABYTE + "$$",
    "comment": "SELECT /* " + "x" * MEGABYTE + "*/ * FROM t",
    "rows": "INSERT INTO t (k, a) VALUES (1, 'a')" + ", (1, 'a')" * (MEGABYTE // 10),
    "list": "SELECT * FROM t WHERE k IN (1" + ", 12345678" * (MEGABYTE // 10) + ")",
}


def _seconds(call: object, text: str) -> float:
    assert callable(call)
    start = time.process_time()
    call(text)
    return time.process_time() - start


@pytest.mark.parametrize("title", DEEP_TEXTS)
def test_deep_texts_are_answered(title: str) -> None:
    text = DEEP_TEXTS[title]

    assert _seconds(analyse, text) < 10
    assert _seconds(shape, text) < 5
    assert _seconds(normalised, text) < 5


@pytest.mark.parametrize("title", HUGE_TEXTS)
def test_huge_texts_are_understood(title: str) -> None:
    analysis = analyse(HUGE_TEXTS[title])

    (statement,) = analysis.statements
    assert statement.kind in (Kind.SELECT, Kind.INSERT)
    assert {scan.table.name for scan in statement.scans} == {"t"}
    assert _seconds(shape, HUGE_TEXTS[title]) < 5


@pytest.mark.parametrize("call", [analyse, shape, normalised])
@pytest.mark.parametrize("title", ["rows", "list", "string"])
def test_time_grows_with_the_text_and_no_faster(title: str, call: object) -> None:
    text = HUGE_TEXTS[title]
    opening, size = text[:40], 50_000
    small = _seconds(call, opening + text[-size:]) + _seconds(call, opening + text[-size:])
    large = _seconds(call, opening + text[-8 * size :])

    assert large < 8 * small + 0.5


def test_a_mistake_of_the_analysis_leaves_the_statement_to_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(tokens: object, text: str) -> Statement:
        raise TypeError("a mistake")

    monkeypatch.setattr("proxy.sql.analyse.classify", fails)
    analysis = analyse("SELECT 1")
    (statement,) = analysis.statements
    assert statement.kind is Kind.UNKNOWN
    assert statement.writes_unknown
    assert analysis.error is not None
    assert "TypeError('a mistake')" in analysis.error


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
@example("\\")
@example("\ud800")
@example("'\ud800'")
def test_noise_is_answered(text: str) -> None:
    assert analyse(text).statements
    assert isinstance(normalised(text), str)
    shape(text)


PIECES = sorted({piece for case in cases() for piece in case.text.split()})


@given(st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_pieces_of_statements_in_any_order_are_answered(text: str) -> None:
    for statement in analyse(text).statements:
        reads = statement.kind is Kind.SELECT and not statement.locking and not statement.writes
        if reads:
            words = f" {text.upper()} "
            assert not any(f" {verb} INTO " in words for verb in ("INSERT", "MERGE")) or any(
                quote in text for quote in ("'", '"', "$", "--", "/*")
            )
