"""PgBouncer's userlist.txt."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.problems import Problem
from proxy.auth.userlist import parse_userlist, read_userlist, write_entry

PATH = Path("userlist.txt")


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    problems: list[Problem] = []
    users = parse_userlist(text, PATH, problems)
    return dict(users), list(map(str, problems))


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("", {}),
        ('"app" "secret"', {"app": "secret"}),
        ('  "app"\t"secret"  \r\n\n"ops" ""\n', {"app": "secret", "ops": ""}),
        ('; "no" "one"\n"app" "x" ignored "y"\n', {"app": "x"}),
        ('"a""b" "say ""hi"""', {'a"b': 'say "hi"'}),
        ('"a;b" "#;"', {"a;b": "#;"}),
        ('"app""secret" "x"', {'app"secret': "x"}),
        ('"ä" "ö\\n"', {"ä": "ö\\n"}),
    ],
)
def test_entries(text: str, users: dict[str, str]) -> None:
    assert parse(text) == (users, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("app secret", 'the user name must stand in double quotes: "user" "password"'),
        ('"app', "the quote that begins the user name is not closed on its line"),
        ('"app"', 'the password must stand in double quotes: "user" "password"'),
        ('"app" hush', 'the password must stand in double quotes: "user" "password"'),
        ('"app" "hush', "the quote that begins the password is not closed on its line"),
        ('"app" "hush""', "the quote that begins the password is not closed on its line"),
        ('"" "hush"', "the user name is empty"),
        ('"first" "hush"', 'the user "first" is in line 1 already'),
        ("# no comment", 'the user name must stand in double quotes: "user" "password"'),
    ],
)
def test_problems_name_the_line_and_no_secret(line: str, message: str) -> None:
    users, problems = parse(f'"first" "1"\n\n{line}\n"last" "2"\n')
    assert users == {"first": "1", "last": "2"}
    assert problems == [f"userlist.txt:3: {message}"]
    assert "hush" not in problems[0]


WORD = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))


@given(st.dictionaries(WORD.filter(bool), WORD))
def test_what_is_written_reads_back(users: dict[str, str]) -> None:
    text = "\n".join(write_entry(user, secret) for user, secret in users.items())
    assert parse(text) == (users, [])


@given(st.text())
def test_any_text_is_taken_or_refused(text: str) -> None:
    users, problems = parse(text)
    lines = [line for line in text.split("\n") if line.strip(" \t\r\f\v")]
    assert len(users) + len(problems) <= len(lines)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'"\xe4" "x"')
    problems: list[Problem] = []
    assert read_userlist(tmp_path / "none", problems) == {}
    assert read_userlist(tmp_path / "latin", problems) == {}
    assert [problem.message for problem in problems] == [
        "can't be read: No such file or directory",
        "is not UTF-8 text",
    ]
