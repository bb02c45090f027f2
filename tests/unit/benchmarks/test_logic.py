"""The benchmark without sockets: every case gets its answers."""

import pytest

from benchmarks.logic import Case, cases, measure


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
async def test_every_case_runs(case: Case) -> None:
    assert measure(case, queries=20, passes=1) > 0
