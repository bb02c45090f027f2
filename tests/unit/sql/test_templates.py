"""Texts that differ in whole numbers alone take a short way to their shape: the same shape."""

import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql import normalise
from proxy.sql.normalise import Shape, shape
from tests.unit.sql.fixtures_file import cases

TEXTS = [case.text for case in cases() if re.search("[0-9]", case.text)]
NUMBERS = st.one_of(
    st.integers(0, 10**25).map(str), st.sampled_from(["0", "00", "007", "2147483648"])
)


@pytest.fixture(autouse=True)
def _no_templates() -> Iterator[None]:
    """Texts of other tests have left theirs."""
    kept = dict(normalise._templates)
    normalise._templates.clear()
    yield
    normalise._templates.clear()
    normalise._templates.update(kept)


def shape_the_long_way(text: str) -> Shape | None:
    normalise._templates.clear()
    return shape(text)


def with_other_numbers(text: str, number: Callable[[str], str]) -> str:
    return re.sub("[0-9]+", lambda match: number(match[0]), text)


@given(st.sampled_from(TEXTS), st.data())
def test_other_numbers_in_a_text_seen_before(text: str, data: st.DataObject) -> None:
    other = with_other_numbers(text, lambda number: data.draw(NUMBERS | st.just(number)))
    expected = shape_the_long_way(other)

    shape_the_long_way(text)

    assert shape(other) == expected


def test_the_short_way_is_taken() -> None:
    shape("SELECT a1 FROM t WHERE k = 5 AND j IN (-6, 7)")
    (template,) = normalise._templates.values()

    assert template.shape_of("SELECT a1 FROM t WHERE k = 0 AND j IN (-12345, 7)") == Shape(
        "SELECT a1 FROM t WHERE k = $1 AND j IN ($2, $3)", 1, ("0", "-12345", "7")
    )


@pytest.mark.parametrize(
    "other",
    [
        "SELECT a2 FROM t WHERE k = 5",  # another name
        "SELECT a1 FROM t WHERE k = 05",  # in a cast, another value
        "SELECT a1 FROM t WHERE k = ",
        "SELECT a1 FROM t WHERE k = -5",
        "SELECT a1 FROM t WHERE k = 5.5",
        "SELECT a FROM t WHERE k = 15",  # the same but for where the digits are
        "SELECT a1 FROM t WHERE k = 5 ",
    ],
)
def test_what_differs_otherwise_takes_the_long_way(other: str) -> None:
    shape("SELECT a1 FROM t WHERE k = 5")
    (template,) = normalise._templates.values()

    assert template.shape_of(other) is None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t WHERE k = 'x' AND j = 5",
        "SELECT * FROM t WHERE k = 1.5",
        "SELECT * FROM t WHERE k = 007",
        "SELECT * FROM t WHERE k = a$1 AND j = 5",
        "SELECT * FROM t WHERE d = DATE '$1' AND j = 5",
        "SELECT * FROM t",
        "SELECT 5 AS é",
    ],
)
def test_other_texts_make_no_template(text: str) -> None:
    shape(text)

    assert not normalise._templates


def test_templates_are_bounded() -> None:
    for number in range(3000):
        shape(f"SELECT * FROM t WHERE {'k' * (number + 1)} = 5")

    assert len(normalise._templates) <= 1024
