"""The cost of a load's middle."""

import os
import time

import pytest

from benchmarks.measuring.cost import Cost
from benchmarks.measuring.window import Sample, Sampler, cost_each


def sampled(*costs: float) -> list[Sample]:
    """A sample each second, with as much system time as user's."""
    return [Sample(float(moment), Cost(cost, cost)) for moment, cost in enumerate(costs)]


def test_what_was_spent_before_the_first_transaction_does_not_count() -> None:
    samples = sampled(0.0, 900.0, 1000.0, 1010.0, 1030.0, 1900.0)
    ends = [1.5, 2.5, 3.5, 3.6, 3.7, 4.5]
    assert cost_each(samples, ends) == Cost(7.5, 7.5)


def test_too_few_samples_tell_nothing() -> None:
    assert cost_each(sampled(0.0, 10.0, 20.0), [0.5, 1.5]) is None
    assert cost_each(sampled(0.0, 10.0), []) is None


def test_nothing_ended_between_the_samples() -> None:
    assert cost_each(sampled(0.0, 10.0, 20.0, 30.0), [0.5, 2.5]) is None


def test_a_process_is_sampled_while_the_block_lasts() -> None:
    with Sampler(os.getpid()) as sampler:
        deadline = time.monotonic() + 30
        while len(sampler.samples) < 3 and time.monotonic() < deadline:
            sum(range(1000))
    moments = [sample.moment for sample in sampler.samples]
    assert len(moments) >= 3
    assert moments == sorted(moments)
    assert sampler.samples[-1].cost.user >= sampler.samples[0].cost.user
    with pytest.raises(RuntimeError):  # it has ended, and can't be entered again
        sampler.__enter__()
