"""Lines and tokens of pg_hba.conf's format."""

from pathlib import Path

import pytest

from proxy.auth.problems import Problem
from proxy.auth.tokens import Token, read_lines


def lines(directory: Path, text: str, **files: str) -> tuple[list[list[list[str]]], list[str]]:
    """(the fields of each line as lists of words, problems with the directory left out)."""
    for name, content in files.items():
        path = directory / name.replace("__", "/").replace("_conf", ".conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    path = directory / "hba.conf"
    path.write_text(text)
    problems: list[Problem] = []
    found = read_lines(path, problems)
    words = [[[token.text for token in field] for field in line.fields] for line in found]
    return words, [str(problem).replace(f"{directory}/", "") for problem in problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("# nothing\n\n   \t\n", []),
        ("a b\n", [[["a"], ["b"]]]),
        ("  a\tb # c", [[["a"], ["b"]]]),
        ("a b#c", [[["a"], ["b"]]]),
        ("a,b c", [[["a", "b"], ["c"]]]),
        ("a, b c", [[["a", "b"], ["c"]]]),
        ("a,\tb,c d", [[["a", "b", "c"], ["d"]]]),
        (",a b", [[["a"], ["b"]]]),
        ('"a b" c', [[["a b"], ["c"]]]),
        ('"a,b#c" d', [[["a,b#c"], ["d"]]]),
        ('"say ""hi""" d', [[['say "hi"'], ["d"]]]),
        ('"" d', [[[""], ["d"]]]),
        ('a"b c"d e', [[["ab cd"], ["e"]]]),
        ("a \\\nb\nc", [[["a"], ["b"]], [["c"]]]),
        ("a b\\", [[["a"], ["b"]]]),
        ("a b\r\nc\r\n", [[["a"], ["b"]], [["c"]]]),
    ],
)
def test_words(tmp_path: Path, text: str, expected: list[list[list[str]]]) -> None:
    assert lines(tmp_path, text) == (expected, [])


def test_a_line_is_known_by_its_first_number(tmp_path: Path) -> None:
    path = tmp_path / "hba.conf"
    path.write_text("# x\na \\\n b\n\nc\n")
    assert [str(line.place) for line in read_lines(path, [])] == [f"{path}:2", f"{path}:5"]


def test_a_quote_takes_a_keywords_meaning_away() -> None:
    assert Token("all").is_keyword("all")
    assert not Token("all", quoted=True).is_keyword("all")


def test_lists_from_files(tmp_path: Path) -> None:
    found = lines(tmp_path, "a @names,d e", names="b # one\nc,@more\n", more="x y")
    assert found == ([[["a"], ["b", "c", "x", "y", "d"], ["e"]]], [])
    assert lines(tmp_path, 'a "@names" @') == ([[["a"], ["@names"], ["@"]]], [])


def test_included_files(tmp_path: Path) -> None:
    text = "include one_conf\ninclude_dir parts\ninclude_if_exists none\nlast"
    text = text.replace("_conf", ".conf")
    files = {"one_conf": "one", "parts__b_conf": "b", "parts__a_conf": "a", "parts__c": "c"}
    assert lines(tmp_path, text, **files) == ([[["one"]], [["a"]], [["b"]], [["last"]]], [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('a\n"b', "hba.conf:2: a quote is not closed on its line"),
        ("include nowhere", "nowhere: can't be read: No such file or directory"),
        (
            "a @nowhere",
            "hba.conf:1: the file nowhere, included by @, can't be read: No such file or directory",
        ),
        ("include", "hba.conf:1: include needs one name after it"),
        ("include a b", "hba.conf:1: include needs one name after it"),
        ("include_dir none", "hba.conf:1: there is no directory none"),
        ("include hba.conf", "hba.conf: files include each other more than 10 deep"),
        (
            "a @own",
            "hba.conf:1: the file own, included by @, files include each other more than 10 deep",
        ),
    ],
)
def test_what_can_not_be_read(tmp_path: Path, text: str, problem: str) -> None:
    _, problems = lines(tmp_path, text, own="@own")
    assert len(problems) == 1
    assert problems[0].endswith(problem.rpartition("by @, ")[2])
    assert problems[0].split(":")[0] == problem.split(":")[0]


def test_the_other_lines_are_read_all_the_same(tmp_path: Path) -> None:
    found, problems = lines(tmp_path, 'a\n"b\nc\n')
    assert (found, len(problems)) == ([[["a"]], [["c"]]], 1)
