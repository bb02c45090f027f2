"""`shape` keeps the facts of a statement; `normalised` tells statements apart as people do."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sql.analyse import analyse
from proxy.sql.normalise import Shape, normalised, shape
from proxy.sql.statement import KeyValue, Literal, Parameter, Scan, Statement
from tests.unit.sql.fixtures_file import cases

TEXTS = [case.text for case in cases()]


def _put_back(value: KeyValue, made: Shape) -> KeyValue:
    """The literal for a parameter of the shape; others as they are."""
    if isinstance(value, Parameter) and value.index >= made.first:
        return made.literals[value.index - made.first]
    return value


def _spelt_alike(value: KeyValue) -> KeyValue:
    """Numbers in one spelling: the parser writes .5 as 0.5, and 5. as 5.0."""
    if isinstance(value, Literal) and not value.quoted and value.text:
        return replace(value, text=f"{Decimal(value.text).normalize():f}")
    return value


def _with_values(statement: Statement, made: Shape) -> Statement:
    scans = []
    for scan in statement.scans:
        columns = []
        for column, values in scan.equalities:
            known = (_spelt_alike(_put_back(value, made)) for value in values)
            columns.append((column, tuple(dict.fromkeys(known))))
        scans.append(Scan(scan.table, tuple(columns), scan.written))
    return replace(statement, scans=tuple(dict.fromkeys(scans)))


def _facts(text: str, made: Shape) -> Sequence[Statement]:
    return [_with_values(statement, made) for statement in analyse(text).statements]


def assert_same_facts(text: str) -> Shape | None:
    made = shape(text)
    if made is not None:
        assert _facts(made.text, made) == _facts(text, made)
        assert analyse(made.text).hints == analyse(text).hints
        again = shape(made.text)
        assert again is None or not again.constants
    return made


@pytest.mark.parametrize("text", TEXTS)
def test_the_facts_of_every_fixture_are_kept(text: str) -> None:
    made = assert_same_facts(text)

    if made is not None:
        assert len(analyse(text).statements) == 1


STRINGS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12),
    st.sampled_from(["now", "it's", "''", "\\", "a\\'b", "--", "/*", "$1", "5", "05", "-5", ";"]),
).map(lambda text: "'" + text.replace("'", "''") + "'")
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["0", "007", "1.5", ".5", "5.", "1e10", "- 5", "-\n5", "0x1F", "1_000"]),
)
CONSTANTS = st.one_of(STRINGS, NUMBERS)
TEMPLATES = st.sampled_from(
    [
        "SELECT * FROM t WHERE k = {} AND j={}",
        "SELECT * FROM t WHERE {} = k OR j IN ({},{})",
        "select {}, {} from t where k in ({}) and a like 'x%' limit 5;",
        "SELECT * FROM t WHERE k = ANY (ARRAY[{}, {}]) AND (j = ({}))",
        "SELECT * FROM t WHERE k = {}::int AND j = {}::text AND i = {} :: bigint",
        "SELECT * FROM t WHERE k = CAST({} AS int) AND j = cast( {} AS text)",
        "SELECT * FROM t WHERE k = {}::text::int",
        "INSERT INTO t (k, j) VALUES ({}, {}), ({}, {}) ON CONFLICT (k) DO UPDATE SET j = {}",
        "UPDATE t SET a = {}, b = b + {} WHERE k = {}",
        "UPDATE t SET a = a - 5, b = b-{} WHERE k = {}",
        "DELETE FROM t USING u WHERE t.k = u.k AND u.k = {}",
        "WITH x AS (SELECT * FROM t WHERE k = {}) SELECT * FROM x WHERE j > {} AND i = $1",
        'SELECT "a 1", t1.c2 FROM "t""1" t1 WHERE "t1"."k" = {} /* {} */ AND j = {}',
        "SELECT * FROM t WHERE d > date '2020-01-01' AND k = {} AND x::numeric(10,2) = {}",
        "SELECT * FROM t WHERE at < interval '1 day' AND e = E'a\\'b' AND k = {}",
        "SELECT * FROM t WHERE a LIKE {} ESCAPE '\\' AND b BETWEEN {} AND {} AND k = {}",
        "SELECT CASE WHEN a = {} THEN {} ELSE {} END, a[1:2], b->'x', b ->> {} FROM t WHERE k={}",
        "VALUES ({}, {}), ({}, {})",
    ]
)


@given(TEMPLATES, st.data())
@settings(max_examples=400, deadline=None)
def test_the_facts_are_kept_whatever_the_constants(template: str, data: st.DataObject) -> None:
    constants = [data.draw(CONSTANTS) for _ in range(template.count("{}"))]

    assert_same_facts(template.format(*constants))


@pytest.mark.parametrize(
    ("text", "expected", "constants"),
    [
        ("SELECT * FROM t WHERE k = 5;", "SELECT * FROM t WHERE k = $1;", ["5"]),
        ("select a1, b2c from t1 where k=-5", "select a1, b2c from t1 where k=$1", ["-5"]),
        ("SELECT 'it''s', 1.5e10, .5", "SELECT $1, $2, $3", ["it's", "1.5e10", ".5"]),
        ("SELECT a - 5, a -5, a-5 FROM t", "SELECT a - $1, a -$2, a-$3 FROM t", ["5", "5", "5"]),
        ("SELECT (-5), -5 FROM t", "SELECT ($1), $2 FROM t", ["-5", "-5"]),
        ('SELECT "a 1" FROM "t\'x" WHERE k = 1', 'SELECT "a 1" FROM "t\'x" WHERE k = $1', ["1"]),
        ("INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES ($1, $2)", ["1", "a"]),
        ("SELECT date '2020-01-01', 5", "SELECT date '2020-01-01', $1", ["5"]),
        ("SELECT x::varchar(10), 5 FROM t", "SELECT x::varchar(10), $1 FROM t", ["5"]),
        ("SELECT * FROM t", "SELECT * FROM t", []),
    ],
)
def test_ordinary_constants(text: str, expected: str, constants: list[str]) -> None:
    made = shape(text)

    assert made is not None
    assert made.text == expected
    assert made.first == 1
    assert [literal.text for literal in made.literals] == constants


@pytest.mark.parametrize(
    ("text", "first", "constants"),
    [
        ("SELECT * FROM t WHERE j = $7 AND k = 5", 8, ["5"]),
        ("SELECT * FROM t WHERE k = 5 -- 6 'x'", 1, ["5"]),
        ("SELECT * FROM t /* 6 /* 'x' */ */ WHERE k = 5", 1, ["5"]),
        ("/* 6 */ SELECT 5", 1, ["5"]),
        ("SELECT E'it\\'s 6', 5", 1, ["5"]),
        ("SELECT $$6 'x'$$, $q$7$$8$q$, 5", 1, ["5"]),
        ("SELECT B'01', X'1F', n'x', 5", 1, ["5"]),
        ("SELECT a LIKE'x'AND b", 1, ["x"]),
        ("SELECT * FROM t WHERE at < 'now' AND k = 5", 1, ["5"]),
        ("SELECT CAST(x AS numeric(10, 2)), CAST(5.7 AS int), 5", 1, ["5"]),
        ("SELECT interval '1' day, time zone 'utc', 5", 1, ["5"]),
        ("SELECT 'a' 'b', 5", 1, ["5"]),
        ("SELECT 'a'\n'b', 5", 1, ["5"]),
    ],
)
def test_constants_that_need_thought(text: str, first: int, constants: list[str]) -> None:
    made = assert_same_facts(text)

    assert made is not None
    assert made.first == first
    assert [literal.text for literal in made.literals] == constants


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BEGIN",
        "SET x = 5",
        "EXPLAIN SELECT 5",
        "(SELECT 5)",
        "SELECTED 5",
        "SELECT 1; SELECT 2",
        "SELECT 'abc",
        "SELECT 1a",
        "SELECT U&'x', 5",
        "SELECT set_config('a', 'b', false)",
        "SELECT \"set_config\"('a', 'b', false)",
        "SELECT SET_CONFIG('a', 'b', false)",
        "SELECT * FROM json_table('[]', '$[*]' COLUMNS (a int PATH '$.a')) x",
        "SELECT 5 /* penstock: primary */",
        "/*Penstock :nocache*/ SELECT 5",
        "SELECT 5 -- penstock: ttl=5",
    ],
)
def test_texts_that_keep_their_constants(text: str) -> None:
    assert shape(text) is None


def test_literals_tell_strings_from_numbers() -> None:
    made = shape("SELECT * FROM t WHERE k = '5' AND j = 5")

    assert made is not None
    assert made.literals == (Literal("5", quoted=True), Literal("5", quoted=False))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT  *\n FROM Orders -- all\nWHERE Id = 5;", "select * from orders where id = ?;"),
        ("select 'a''b', E'\\'', $$x$$, 1.5, $1, B'0'", "select ?, ?, ?, ?, ?, ?"),
        ('SELECT "Id" FROM "Orders"', 'select "Id" from "Orders"'),
        ("SELECT 1 WHERE a IN (1, 2,3) AND b IN ($1)", "select ? where a in (?) and b in (?)"),
        ("INSERT INTO t VALUES (1,'a'), (2,'b'),(3,'c')", "insert into t values (?,?)"),
        ("/* x */ SELECT/**/1", "select ?"),
        ("", ""),
        ("SELECT 'oops", "?"),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_normalising_again_changes_nothing_but_marks(text: str) -> None:
    once = normalised(text)

    assert "  " not in once.replace('"', "")
    assert normalised(once).replace("?", "") == once.replace("?", "") or "?" in once
