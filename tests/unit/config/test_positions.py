"""Every key that tomllib finds must be found at its line."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.positions import Path, key_lines


def paths(value: Any, path: Path = ()) -> set[Path]:
    """Every path in a parsed document but the root's."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    found: set[Path] = set()
    for key, child in children:
        found.add((*path, key))
        if isinstance(child, dict | list):
            found |= paths(child, (*path, key))
    return found


TRICKY = '''\
# a comment with = and [brackets] and "quotes"
plain = 1   # trailing = "comment"
dotted . "quoted.key" . 'literal' = "a # no comment"
basic = "esc \\" quote ] }"
multi = """
fake = 1
[fake]
escaped \\""" still ""\\""" inside"""""
literal = \'\'\'
fake2 = 'x' \'\'\'\'\'
date = 1979-05-27 07:32:00
array = [ 1, # one ]
  [2, 3],
  "four, ]",
  { five = 5, six = [6, 6], "seven" = { eight = 8 } },
]
empty = []
nothing = {}

[table.sub]
key = true
[[array_of.tables]]
first = 1
  [array_of.tables.inner]
  x = 1
  [[array_of.tables.deep]]
  y = 1
  [[array_of.tables.deep]]
  y = 2

[[array_of.tables]]
  [[array_of.tables.deep]]
  y = 3
[table]
late = 1
["quoted table".'and literal']
"caf\\u00e9" = 1
'''


def test_finds_exactly_the_paths_that_tomllib_finds() -> None:
    assert set(key_lines(TRICKY)) == paths(tomllib.loads(TRICKY))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("plain",), "plain = 1"),
        (("dotted", "quoted.key", "literal"), "dotted . "),
        (("literal",), "literal = "),
        (("date",), "date ="),
        (("array", 1), "[2, 3]"),
        (("array", 3, "seven", "eight"), "{ five"),
        (("table",), "[table.sub]"),
        (("table", "late"), "late"),
        (("array_of", "tables", 0, "deep", 1, "y"), "y = 2"),
        (("array_of", "tables", 1, "deep", 0, "y"), "y = 3"),
        (("quoted table", "and literal", "café"), '"caf'),
    ],
)
def test_names_the_line_of_a_key(path: Path, text: str) -> None:
    line = TRICKY.splitlines()[key_lines(TRICKY)[path] - 1]
    assert text in line


def test_counts_lines_that_end_in_carriage_return_and_newline() -> None:
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n")[("b", "c")] == 4


def written(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(character):04X}" for character in value) + '"'
    if isinstance(value, list):
        return "[\n" + ", # x ]\n".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(k)} = {written(v)}" for k, v in value.items()) + "}"
    return str(value)


text = st.text(st.characters(max_codepoint=0xFFF, exclude_categories=["Cs"]), max_size=5)
values = st.recursive(
    st.booleans() | st.integers(-9, 9) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(text, values, max_size=4))
def test_agrees_with_tomllib_on_any_document(document: dict[str, Any]) -> None:
    toml = "".join(f"{written(key)} = {written(value)}\n" for key, value in document.items())
    assert set(key_lines(toml)) == paths(tomllib.loads(toml))
