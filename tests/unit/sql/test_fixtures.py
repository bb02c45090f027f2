"""Every text under `fixtures/` has the facts that are written below it."""

import re

import pytest

from proxy.sql.analyse import analyse
from proxy.sql.statement import Kind
from tests.unit.sql.describe import describe
from tests.unit.sql.fixtures_file import Case, cases

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[case.where for case in CASES])
def test_facts(case: Case) -> None:
    analysis = analyse(case.text)

    assert describe(analysis) == list(case.expected)
    assert analysis.text == case.text
    unknown = any(statement.kind is Kind.UNKNOWN for statement in analysis.statements)
    assert (analysis.error is not None) == unknown


# Where neither comments nor lines are what the text is about.
PLAIN = [case for case in CASES if not re.search(r"\A\s*[-/\\]|\n|--", case.text)]


@pytest.mark.parametrize("case", PLAIN, ids=[case.where for case in PLAIN])
def test_facts_do_not_depend_on_comments_and_spaces(case: Case) -> None:
    spaced = f"/* a */\n\t{case.text}\n-- b"

    assert describe(analyse(spaced)) == list(case.expected)
