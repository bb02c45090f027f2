"""Ident maps."""

from pathlib import Path

import pytest

from proxy.auth.identmap import allows, read_ident_file
from proxy.auth.problems import Problem

TEXT = r"""
# map  system            user
one    alice             app
one    bob               app
one    bob               "all"
two    /^(.*)@example$   \1
two    /@admin           all
two    root              /^db
two    "a b"             app
"""


@pytest.mark.parametrize(
    ("name", "system", "user", "expected"),
    [
        (None, "app", "app", True),
        (None, "App", "app", False),
        (None, "alice", "app", False),
        ("one", "alice", "app", True),
        ("one", "alice", "alice", False),
        ("one", "bob", "app", True),
        ("one", "bob", "other", False),
        ("one", "bob", "all", True),
        ("three", "alice", "app", False),
        ("two", "carol@example", "carol", True),
        ("two", "carol@example", "dave", False),
        ("two", "carol@example.org", "carol", False),
        ("two", "carol@example\n", "carol", False),
        ("two", "carol@admin", "dave", True),
        ("two", "root", "dba", True),
        ("two", "root", "app", False),
        ("two", "a b", "app", True),
    ],
)
def test_who_may_be_whom(
    tmp_path: Path, name: str | None, system: str, user: str, expected: bool
) -> None:
    path = tmp_path / "pg_ident.conf"
    path.write_text(TEXT)
    problems: list[Problem] = []
    maps = read_ident_file(path, problems)
    assert not problems
    assert allows(maps, name, system, user) is expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one alice", "a line has three fields: map name, system user name, database user name"),
        ("one alice app more", "a line has three fields"),
        ("one alice app,ops", "a line has three fields"),
        ("one alice +ops", '"+ops": Penstock does not know who is a member of a role'),
        (r"one /alice \1", "has nothing in parentheses"),
        ("one /( app", 'the regular expression "(" is wrong'),
    ],
)
def test_what_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "pg_ident.conf"
    path.write_text(f"\n{line}\n")
    problems: list[Problem] = []
    assert read_ident_file(path, problems) == {}
    (problem,) = problems
    assert str(problem).startswith(f"{path}:2: ")
    assert message in str(problem)
