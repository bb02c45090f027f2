"""The steps that decide which channels a session listens on, and what follows from them."""

import pytest

from proxy.sql.analyse import analyse
from proxy.sql.listening import Outlook, Step, Verb, in_order, too_involved


def steps(text: str) -> list[Step]:
    return list(in_order(each.step for each in analyse(text).statements))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LISTEN News", [Step(Verb.LISTEN, "news")]),
        ('listen "a ""b"""', [Step(Verb.LISTEN, 'a "b"')]),
        ("LISTEN " + "x" * 70, [Step(Verb.LISTEN, "x" * 63)]),
        ("LISTEN select", []),
        ("LISTEN a b", []),
        ("UNLISTEN *", [Step(Verb.UNLISTEN_ALL)]),
        ('UNLISTEN "*"', [Step(Verb.UNLISTEN, "*")]),
        ("DISCARD ALL", [Step(Verb.UNLISTEN_ALL)]),
        ("DISCARD PLANS", []),
        ("START TRANSACTION", [Step(Verb.BEGIN)]),
        ("END", [Step(Verb.COMMIT)]),
        ("ABORT", [Step(Verb.ROLLBACK)]),
        ("COMMIT PREPARED 'x'", []),
        ("PREPARE TRANSACTION 'x'", [Step(Verb.PREPARE)]),
        ("PREPARE p AS SELECT 1", []),
        ("ROLLBACK WORK TO SAVEPOINT S", [Step(Verb.ROLLBACK_TO, "s")]),
        ('RELEASE "S"', [Step(Verb.RELEASE, "S")]),
        ("SELECT 'LISTEN a'", []),
        ("EXPLAIN SELECT 1", []),
    ],
)
def test_steps(text: str, expected: list[Step]) -> None:
    assert steps(text) == expected


@pytest.mark.parametrize(
    ("text", "within", "expected"),
    [
        ("LISTEN a", True, False),
        ("BEGIN; LISTEN a; COMMIT", False, False),
        ("LISTEN a; COMMIT; SELECT 1", False, True),
        ("LISTEN a; COMMIT; BEGIN", False, True),
        ("LISTEN a; SAVEPOINT s", False, True),
        ("BEGIN; SAVEPOINT s", False, False),
        ("SAVEPOINT s; ROLLBACK TO s", True, True),
        ("COMMIT; BEGIN", False, False),
    ],
)
def test_what_is_too_involved(text: str, within: bool, expected: bool) -> None:
    assert too_involved(steps(text), within) is expected


@pytest.mark.parametrize(
    ("texts", "channels"),
    [
        (["LISTEN a; LISTEN b; UNLISTEN a"], ["b"]),
        (["BEGIN", "LISTEN a", "ROLLBACK"], []),
        (
            [
                "BEGIN",
                "SAVEPOINT s",
                "LISTEN a",
                "SAVEPOINT s",
                "LISTEN b",
                "RELEASE s",
                "ROLLBACK TO s",
                "COMMIT",
            ],
            [],
        ),
        (
            [
                "BEGIN",
                "LISTEN a",
                "SAVEPOINT s",
                "LISTEN b",
                "SAVEPOINT t",
                "LISTEN c",
                "ROLLBACK TO s",
                "LISTEN d",
                "COMMIT",
            ],
            ["a", "d"],
        ),
        (
            [
                "BEGIN",
                "LISTEN a",
                "SAVEPOINT s",
                "LISTEN b",
                "SAVEPOINT t",
                "RELEASE s",
                "ROLLBACK TO t",
                "COMMIT",
            ],
            [],
        ),
        (["LISTEN a", "BEGIN", "UNLISTEN *", "LISTEN b", "COMMIT"], ["b"]),
    ],
)
def test_outlook(texts: list[str], channels: list[str]) -> None:
    outlook, within = Outlook(), False
    for text in texts:
        found = steps(text)
        within = within or found[0].verb is Verb.BEGIN
        within = within and found[-1].verb not in (Verb.COMMIT, Verb.ROLLBACK)
        outlook.run(found, False, not within)
    assert list(outlook.channels) == channels


def test_a_failed_transaction_commits_nothing() -> None:
    outlook = Outlook()
    outlook.run(steps("LISTEN a"), False, False)
    outlook.fail(False)
    assert outlook.pending
    outlook.run(steps("COMMIT"), True, True)
    assert not outlook.channels
    assert not outlook.pending
