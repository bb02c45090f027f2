"""Skeletons: the form in C does what the one in Python does, and they mean what shapes mean.

The compiled form is that of the tree which PENSTOCK_TREE names, as in `make test-compiled`.
"""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.sql.normalise import shape
from proxy.sql.skeleton import LONGEST, fits, skeleton_in_python
from tests.compiled import compiled_module, needs

_pieces = st.sampled_from(
    [
        *("SELECT ", "a", " FROM t", " WHERE ", "x", " = ", " AND ", "id", ";", "(", ")", ",", " "),
        *("-", "+", "'", "''", '"', "$1", "$", ".", "::int", "::numeric(10, 2)", " LIMIT ", "--"),
        *("/*", "*/", "0", "7", "12", "007", "1.5", "1e3", "0x1F", "1_000", "e'\\n'", "IN (1, 2)"),
        *("BETWEEN 1 AND 2", "date '2024-01-01'", "interval '1' day", "CAST(5 AS int)", "é", "\0"),
        *("UPDATE t SET a = a + -5", "numeric(10)", "x5", "5x", "- 5", "-5", "--5", "&", "U&'5'"),
    ]
)
_texts = st.lists(_pieces, max_size=14).map("".join)
_statements = _texts.map(lambda text: "SELECT " + text)

COMPILED = compiled_module("sql", "_skeleton")
needs_compiled = needs(COMPILED)


@needs_compiled
@given(_texts | st.text(max_size=40))
@example("1")
@example("1 " * (LONGEST // 2))
@example("1 " * (LONGEST // 2) + "1")
@example("01 0 00 10")
def test_both_forms_do_the_same(text: str) -> None:
    assert COMPILED is not None
    encoded = text.encode()
    assert COMPILED.skeleton(encoded) == skeleton_in_python(encoded)


@needs_compiled
def test_the_compiled_form_takes_bytes_alone() -> None:
    assert COMPILED is not None
    with pytest.raises(TypeError, match="bytes"):
        COMPILED.skeleton("1")


@pytest.mark.parametrize(
    ("text", "bones"),
    [
        ("SELECT a FROM t WHERE id = 42", "SELECT a FROM t WHERE id = \0"),
        ("SELECT -1,0", "SELECT -\0,\0"),
        ("SELECT t1.a, $1, 1.5, 007, '5', 5x, 1_0", None),
        ("SELECT 'é', 5", None),
        ("SELECT 1\0", None),
    ],
)
def test_what_is_taken_out(text: str, bones: str | None) -> None:
    expected = text.encode() if bones is None else bones.encode()
    assert skeleton_in_python(text.encode()) == expected


@given(_statements, st.lists(st.integers(0, 10**20), min_size=1, max_size=4))
def test_texts_with_a_fitting_skeleton_have_one_shape(text: str, numbers: list[int]) -> None:
    bones = skeleton_in_python(text.encode())
    first = shape(text)
    if first is None or bones == text.encode() or not fits(bones, first):
        return
    turns = iter(range(bones.count(b"\0")))
    other = re.sub(rb"\0", lambda _: b"%d" % numbers[next(turns) % len(numbers)], bones)
    assert skeleton_in_python(other) == bones
    second = shape(other.decode())
    assert second is not None
    assert second.text == first.text


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM t WHERE id = 42;",
        "UPDATE t SET a = a + -17 WHERE id = 3;",
        "INSERT INTO h (a, b) VALUES (1, -2, CURRENT_TIMESTAMP);",
        "SELECT a FROM t WHERE a BETWEEN 1 AND 9 LIMIT 10",
    ],
)
def test_ordinary_statements_fit(text: str) -> None:
    found = shape(text)
    assert found is not None
    assert fits(skeleton_in_python(text.encode()), found)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a::numeric(10, 2) FROM t WHERE id = 42",
        'SELECT "a 5 b" FROM t WHERE id = 42',
        "SELECT a FROM t WHERE b = 'x' AND id = 42",
        "SELECT a FROM t WHERE id = 4.5",
    ],
)
def test_other_numbers_do_not_fit(text: str) -> None:
    found = shape(text)
    assert found is None or not fits(skeleton_in_python(text.encode()), found)
