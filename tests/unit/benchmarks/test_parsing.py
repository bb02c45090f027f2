"""The benchmark of plans whose texts are new."""

import pytest

from benchmarks import logic
from benchmarks.parsing import known, measure, texts

_SHAPE = "SELECT abalance AS {name} FROM pgbench_accounts WHERE aid = $1"


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.0])
async def test_as_many_texts_are_new_as_the_rate_says(rate: float) -> None:
    plans = logic.context().plans
    measure(plans, known(_SHAPE))
    wanted = list(texts(_SHAPE, rate, 100))
    before = plans._counters.plan_misses
    cost = measure(plans, wanted)
    new = plans._counters.plan_misses - before
    assert new == len(set(wanted) - set(known(_SHAPE)))
    assert (new == 0) == (rate == 1.0)
    assert cost.longest >= cost.mean > 0
