"""A pytest plugin that records each test's outcome as it is known, a JSON line each.

Stands alone: it is loaded into a driver's test run, in that driver's environment.
"""

import json
import os

FILE = os.environ["PENSTOCK_RECORD"]
SEVERITY = {"passed": 0, "skipped": 1, "failed": 2}


def _write(record):
    with open(FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def pytest_collection_finish(session):
    _write({"total": len(session.items)})


def pytest_runtest_logreport(report):
    """Set-up, call and teardown each report; the worst of them counts."""
    if type(report).__name__ == "SubtestReport":
        return
    if report.when == "call" or report.outcome != "passed":
        text = "" if report.outcome == "passed" else str(report.longrepr)[-2000:]
        _write({"test": report.nodeid, "outcome": report.outcome, "text": text})


def pytest_collectreport(report):
    if report.failed:
        _write({"broken": report.nodeid, "text": str(report.longrepr)[-2000:]})
