"""What ends the reasons for which a session keeps its connection."""

import pytest

from proxy.sql.analyse import analyse
from proxy.sql.pins import is_over, joined, relieved


@pytest.mark.parametrize(
    ("takes", "gives_back", "over"),
    [
        ("LISTEN a", "UNLISTEN *", True),
        ("LISTEN a", "UNLISTEN a", False),
        ("LISTEN a", "CLOSE ALL", False),
        ("DECLARE a CURSOR WITH HOLD FOR SELECT 1", "CLOSE A", True),
        ("DECLARE a CURSOR WITH HOLD FOR SELECT 1", "CLOSE b", False),
        ("DECLARE a CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL", True),
        ('DECLARE "A" CURSOR WITH HOLD FOR SELECT 1', "CLOSE a", False),
        ('DECLARE "A" CURSOR WITH HOLD FOR SELECT 1', "CLOSE ALL", True),
        ("SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_unlock_all()", True),
        ("SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_unlock_all() LIMIT 0", False),
        ("SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_unlock(1)", False),
        ("SELECT setseed(0.1)", "SELECT pg_advisory_unlock_all()", False),
        ("PREPARE p AS SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all()", False),
    ],
)
def test_what_is_over(takes: str, gives_back: str, over: bool) -> None:
    reason = analyse(takes).statements[0].pins
    assert reason is not None
    assert is_over(reason, analyse(gives_back).statements[0].ends) == over


def test_reasons_are_joined_once_each() -> None:
    assert joined([None, None]) is None
    assert joined(["LISTEN", None, "LOAD and LISTEN"]) == "LISTEN and LOAD"
    assert not is_over("LISTEN and LOAD", frozenset({"LISTEN"}))
    assert is_over("LISTEN and LOAD", frozenset({"LISTEN", "LOAD"}))


@pytest.mark.parametrize(
    ("reason", "because", "expected"),
    [
        ("LISTEN", "", None),
        ("LISTEN and PREPARE", "", "PREPARE"),
        ("PREPARE", "", "PREPARE"),
        ("LISTEN", "no luck", "LISTEN: no luck"),
        ("LISTEN and PREPARE", "no luck and no hope", "LISTEN: no luck, no hope and PREPARE"),
    ],
)
def test_a_reason_that_holds_only_because_of_something(
    reason: str, because: str, expected: str | None
) -> None:
    found = relieved(reason, "LISTEN", because)
    assert found == expected
    if because and reason == "LISTEN":
        assert is_over(str(found), frozenset({"LISTEN"}))
