"""What `analyse` says of texts that it can't judge."""

import pytest

from proxy.sql.analyse import analyse
from proxy.sql.statement import Kind


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT 'abc", 'unexpected character "\'" at character 8'),
        ('SELECT "abc', "unexpected character '\"' at character 8"),
        ("SELECT $$abc", "unterminated dollar-quoted string at character 8"),
        ("SELECT /* /* */ 1", "unterminated comment at character 8"),
        ("SELECT 1a", "trailing junk after number at character 9"),
        ("SELECT $1a", "trailing junk after parameter at character 10"),
        ("SELECT U&'\\zzzz'", "an invalid Unicode escape at character 8"),
        ("SELECT U&'\\d83d'", "an invalid Unicode surrogate pair at character 8"),
        ("SELECT U&'\\0000'", "an invalid Unicode escape at character 8"),
        ("SELECT U&'x' UESCAPE '+'", "no such escape character is allowed at character 8"),
        ("SELECT U&'x' /* */ UESCAPE '!'", "UESCAPE behind a comment at character 20"),
        ("SELECT \x00", "unexpected character '\\x00' at character 8"),
        ("COPY", "COPY without a table"),
        ("COPY t", "COPY that is neither FROM nor TO"),
        ("COPY (SELECT 1", "a parenthesis is not closed"),
        ("EXPLAIN", "EXPLAIN without a statement"),
        ("DECLARE c CURSOR", "DECLARE without FOR and a statement"),
        ("PREPARE p", "PREPARE without a name and a statement"),
        ("SELEC 1", 'no statement begins with "SELEC"'),
        ("UPDATE update SET a = 1", "a word such as UPDATE stands where its meaning is not clear"),
    ],
)
def test_the_error_says_what_is_wrong(text: str, error: str) -> None:
    analysis = analyse(text)

    assert analysis.error == error
    assert [statement.kind for statement in analysis.statements] == [Kind.UNKNOWN]
    assert analysis.statements[0].writes_unknown


def test_errors_of_several_statements_are_joined() -> None:
    analysis = analyse("SELEC 1; SELECT 1; COPY")

    assert analysis.error == 'no statement begins with "SELEC"; COPY without a table'
    assert [s.kind for s in analysis.statements] == [Kind.UNKNOWN, Kind.SELECT, Kind.UNKNOWN]


def test_what_is_not_understood_still_tells_functions_and_pins() -> None:
    text = "UPDATE update SET a = set_config('role', 'bob', false), b = pg_advisory_lock(1)"
    (statement,) = analyse(text).statements

    assert statement.kind is Kind.UNKNOWN
    assert statement.functions == {"set_config", "pg_advisory_lock"}
    assert statement.settings == {"role"}
    assert statement.pins == "session advisory lock"
