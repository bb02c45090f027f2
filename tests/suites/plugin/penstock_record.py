"""A pytest plugin that records each test's outcome as it is known, a JSON line each.

Stands alone: it is loaded into a driver's test run, in that driver's environment.
"""

import json
import os

import pytest

FILE = os.environ["PENSTOCK_RECORD"]


def _write(record: dict[str, object]) -> None:
    with open(FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def pytest_collection_finish(session: pytest.Session) -> None:
    """How many tests there are."""
    _write({"total": len(session.items)})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Set-up, call and teardown each report; the reader takes the worst of them."""
    if type(report).__name__ == "SubtestReport":
        return
    if report.when == "call" or report.outcome != "passed":
        text = "" if report.outcome == "passed" else str(report.longrepr)[-2000:]
        _write({"test": report.nodeid, "outcome": report.outcome, "text": text})


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that could not be collected."""
    if report.failed:
        _write({"broken": report.nodeid, "text": str(report.longrepr)[-2000:]})
