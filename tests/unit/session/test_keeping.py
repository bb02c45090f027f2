"""For how long an answer is kept."""

from dataclasses import replace

import pytest

from proxy.cache.codec import Codec
from proxy.cache.flights import NO_FLIGHT
from proxy.cache.keys import KeySpace
from proxy.cache.schema import SchemaEpoch
from proxy.cache.scope import Scope
from proxy.cache.statistics import RuleCounters
from proxy.cache.ticket import Ticket
from proxy.routing.plan import CachePlan
from proxy.session.caching import _fill, _is_empty, _life
from proxy.wire.messages import command_complete, data_row, text_row_description

COLUMNS = text_row_description(["n"])
NONE = command_complete("SELECT 0")
ONE = data_row(["1"]) + command_complete("SELECT 1")
PLAN = CachePlan("r", 60.0, 1 << 20, ("t",), "t")
TICKET = Ticket(
    Scope(KeySpace("p", "d"), "t", ("t",), RuleCounters(), Codec().plain_header, SchemaEpoch()),
    bytes(16),
    bytes(48),
    NO_FLIGHT,
)


def life(plan: CachePlan, kept: bytes) -> float:
    return _life(_fill(plan, TICKET, 0.0, None), kept)


@pytest.mark.parametrize(
    ("kept", "empty"),
    [(COLUMNS + NONE, True), (NONE, True), (COLUMNS + ONE, False), (ONE, False), (b"", False)],
)
def test_a_result_without_rows_is_known(kept: bytes, empty: bool) -> None:
    assert _is_empty(kept) == empty


@pytest.mark.parametrize("empty_ttl", [5.0, 0.0])
def test_results_without_rows_have_a_life_of_their_own(empty_ttl: float) -> None:
    plan = replace(PLAN, empty_ttl_seconds=empty_ttl)
    assert life(plan, COLUMNS + NONE) == empty_ttl
    assert life(plan, COLUMNS + ONE) == 60.0
    assert life(PLAN, COLUMNS + NONE) == 60.0


def test_lives_are_shortened_at_random() -> None:
    plan = replace(PLAN, jitter_seconds=20.0)
    lives = [life(plan, ONE) for _ in range(200)]
    assert all(40.0 <= one <= 60.0 for one in lives)
    assert max(lives) - min(lives) > 5.0
