"""What counts as lost when a driver's suite is run through Penstock."""

from tests.suites.comparison import compare
from tests.suites.definition import SETTINGS, Known, load_known, load_suites
from tests.suites.execution import Run

KNOWN = (
    Known("driver", ("transaction*",), ("tests/test_a.py::test_pid[*]",), "not the server's"),
    Known("driver", ("session",), ("tests/test_b.py::*",), "two sockets"),
)


def test_what_passed_direct_must_pass_through() -> None:
    direct = {"a": "passed", "b": "passed", "c": "failed", "d": "skipped", "e": "passed"}
    through = {"a": "passed", "b": "failed", "c": "failed", "d": "failed"}
    found = compare("driver", "session", direct, through, ())
    assert (found.held, found.lost, found.good) == (1, ("b", "e"), False)


def test_a_skip_is_a_loss() -> None:
    assert compare("driver", "session", {"a": "passed"}, {"a": "skipped"}, ()).lost == ("a",)


def test_known_losses_are_those_of_suite_setting_and_test() -> None:
    one, two = "tests/test_a.py::test_pid[x]", "tests/test_b.py::T::test_it"
    direct, through = {one: "passed", two: "passed"}, {one: "failed", two: "failed"}
    found = compare("driver", "transaction-routed", direct, through, KNOWN)
    assert (dict(found.known), found.lost) == ({one: "not the server's"}, (two,))
    found = compare("driver", "session", direct, through, KNOWN)
    assert (dict(found.known), found.lost) == ({two: "two sockets"}, (one,))
    assert compare("other", "session", direct, through, KNOWN).lost == (one, two)


def test_a_listed_test_that_passes_is_told() -> None:
    outcomes = {"tests/test_b.py::T::test_it": "passed"}
    found = compare("driver", "session", outcomes, outcomes, KNOWN)
    assert found.gained == ("tests/test_b.py::T::test_it",)
    assert found.good


def test_the_worst_of_set_up_call_and_teardown_counts() -> None:
    run = Run(SETTINGS[0])
    run.note('{"test": "a", "outcome": "passed", "text": ""}')
    run.note('{"test": "a", "outcome": "failed", "text": "in teardown"}')
    run.note('{"test": "b", "outcome": "failed", "text": "in call"}')
    run.note('{"test": "b", "outcome": "passed", "text": ""}')
    assert run.outcomes == {"a": "failed", "b": "failed"}


def test_the_files_in_the_repository() -> None:
    suites, names = load_suites(), {setting.name for setting in SETTINGS}
    for entry in load_known():
        assert entry.suite in suites
        assert entry.reason
        assert all(name in names or "*" in name for name in entry.settings)
