"""What a run through Penstock has lost against the run without it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.suites.definition import Known

PASSED = "passed"
Outcomes = Mapping[str, str]
"""By node id: passed, failed or skipped."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One suite in one setting beside the same suite run direct."""

    suite: str
    setting: str
    held: int
    """Tests that passed both ways."""
    lost: tuple[str, ...]
    """Passed direct and not through Penstock, and nobody has said why."""
    known: Mapping[str, str]
    """Lost for a known reason, by test."""
    gained: tuple[str, ...]
    """Listed as known, and passed all the same."""
    texts: Mapping[str, str]
    """What the tests' failures said."""

    @property
    def good(self) -> bool:
        """Whether nothing was lost that isn't known."""
        return not self.lost


def compare(
    suite: str,
    setting: str,
    direct: Outcomes,
    through: Outcomes,
    known: Sequence[Known],
    texts: Mapping[str, str] | None = None,
) -> Comparison:
    """Every test that passed direct must have passed through Penstock, or be known not to."""
    expected = [test for test, outcome in direct.items() if outcome == PASSED]
    missing = [test for test in expected if through.get(test) != PASSED]
    reasons = {test: _reason(known, suite, setting, test) for test in expected}
    return Comparison(
        suite,
        setting,
        held=len(expected) - len(missing),
        lost=tuple(test for test in missing if reasons[test] is None),
        known={test: reason for test in missing if (reason := reasons[test]) is not None},
        gained=tuple(
            test for test in expected if reasons[test] is not None and test not in set(missing)
        ),
        texts=texts or {},
    )


def _reason(known: Iterable[Known], suite: str, setting: str, test: str) -> str | None:
    return next((entry.reason for entry in known if entry.covers(suite, setting, test)), None)
