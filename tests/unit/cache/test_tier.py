"""What stays in memory, for how long, and what it takes."""

import random
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest

from proxy.cache.statistics import RuleCounters, Statistics
from proxy.cache.tier import Answer, Right, Tier

TERMS = object()
ORDERS = frozenset(["orders"])
FOREVER = 1e9


def make_tier(limit: int = 1 << 20) -> Tier:
    tier = Tier(limit, Statistics())
    tier.trusted_until = FOREVER
    return tier


def keep(
    tier: Tier,
    key: bytes,
    reply: bytes = bytes(100),
    tables: frozenset[str] = ORDERS,
    database: str = "app",
    expires: float = FOREVER,
) -> None:
    view = tier.view(database, tables)
    tier.keep(key, reply, 0, TERMS, RuleCounters(), Right(view, view.version, expires))


def get(tier: Tier, key: bytes, now: float = 1.0) -> Answer | None:
    return tier.get(key, TERMS, now)


def test_it_serves_while_it_is_trusted_and_the_answer_lives() -> None:
    tier = make_tier()
    tier.trusted_until = 5.0
    keep(tier, b"k", expires=3.0)
    assert get(tier, b"k", 2.9) is not None
    assert get(tier, b"k", 3.0) is None
    keep(tier, b"k")
    assert get(tier, b"k", 4.9) is not None
    assert get(tier, b"k", 5.0) is None


def test_an_answer_is_for_statements_on_the_same_terms() -> None:
    tier = make_tier()
    view = tier.view("app", ORDERS)
    right = Right(view, view.version, FOREVER)
    tier.keep(b"k", b"rows", 0, ("rule", 1), RuleCounters(), right)
    assert tier.get(b"k", ("rule", 1), 1.0) is not None
    assert tier.get(b"k", ("rule", 2), 1.0) is None


@pytest.mark.parametrize(
    ("database", "names", "stays"),
    [
        ("app", {"orders"}, False),
        ("app", {"items", "orders"}, False),
        ("app", {"*"}, False),
        ("app", {"items"}, True),
        ("other", {"orders"}, True),
        ("other", {"*"}, True),
    ],
)
def test_what_invalidates(database: str, names: set[str], stays: bool) -> None:
    tier = make_tier()
    keep(tier, b"k", tables=frozenset(["orders", "customers"]))
    tier.invalidate(database, frozenset(names))
    assert (get(tier, b"k") is not None) is stays


def test_a_right_ends_with_the_next_invalidation_or_emptying() -> None:
    tier = make_tier()
    ends: list[Callable[[], None]] = [partial(tier.invalidate, "app", ORDERS), tier.empty]
    for end in ends:
        view = tier.view("app", ORDERS)
        right = Right(view, view.version, FOREVER)
        end()
        tier.trusted_until = FOREVER
        tier.keep(b"k", b"rows", 0, TERMS, RuleCounters(), right)
        assert get(tier, b"k") is None


def test_without_memory_nothing_is_kept() -> None:
    tier = make_tier(0)
    keep(tier, b"k")
    assert get(tier, b"k") is None


def test_it_stays_within_its_limit_and_prefers_what_is_asked_for() -> None:
    tier = make_tier(300_000)
    often = [b"often%d" % n for n in range(100)]
    dice = random.Random(1)
    for number in range(20_000):
        key = dice.choice(often)
        if get(tier, key) is None:
            keep(tier, key)
        keep(tier, b"once%d" % number)
        assert tier.size <= 300_000
    assert sum(get(tier, key) is not None for key in often) > 95


def test_outdated_answers_make_room_first() -> None:
    tier = make_tier(300_000)
    for number in range(300):
        keep(tier, b"old%d" % number)
    for _ in range(3):
        for number in range(300):
            get(tier, b"old%d" % number)
    tier.invalidate("app", ORDERS)
    for number in range(500):
        keep(tier, b"new%d" % number, tables=frozenset(["items"]))
    assert tier.size <= 300_000
    assert tier._statistics.evictions < 500


def test_a_new_answer_takes_the_place_of_the_old() -> None:
    tier = make_tier()
    keep(tier, b"k", b"old")
    size = tier.size
    keep(tier, b"k", b"new")
    answer = get(tier, b"k")
    assert answer is not None
    assert answer.reply == b"new"
    assert tier.size == size


@pytest.mark.parametrize("length", [60, 1000])
def test_it_counts_what_it_takes(length: int) -> None:
    """Not less than Python really takes, and not much more."""
    tier = make_tier(1 << 30)
    tracemalloc.start()
    for number in range(20_000):
        keep(tier, b"key of some length %d" % number, bytes(length) + b"%d" % number)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken * 0.95 < tier.size < taken * 1.5
