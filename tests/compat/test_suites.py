"""The quick part of `make suites`: most of asyncpg's own tests, direct and through Penstock."""

import threading
from pathlib import Path

import pytest

from tests.suites.definition import SETTINGS, load_known, load_suites
from tests.suites.rounds import compare_all
from tests.suites.sources import Unavailable, prepare

ROOT = Path(__file__).parents[2]
FILES = [
    f"tests/test_{name}.py"
    for name in ("codecs", "copy", "cursor", "execute", "listeners", "prepare", "record")
]
POOLED = [setting for setting in SETTINGS if setting.name in ("session", "transaction")]


@pytest.mark.timeout(600)
def test_asyncpgs_own_tests() -> None:
    try:
        ready = prepare(load_suites()["asyncpg"], ROOT / "build" / "suites")
    except Unavailable as reason:
        pytest.skip(str(reason))
    found = list(
        compare_all(
            ready, POOLED, load_known(), threading.Event(), 3, lambda run, seconds: None, FILES
        )
    )
    assert {each.setting for each in found} == {"session", "transaction"}
    for each in found:
        assert each.held > 100
        assert not each.lost, "\n".join(f"{test}: {each.texts.get(test)}" for test in each.lost)
