"""What a write invalidates by rules."""

import pytest

from proxy.cache.cascades import Cascades, Effects
from proxy.config.cache_settings import InvalidationRule
from tests.unit.routing.shop import CATALOGUE


def rule(name: str, writes: str, **options: object) -> InvalidationRule:
    return InvalidationRule.model_validate({"name": name, "writes": writes.split(), **options})


def at_once(cascades: Cascades, *written: str) -> set[str]:
    return set(cascades.of(frozenset(written)).names - set(written))


def test_a_write_reaches_tables_and_keys() -> None:
    cascades = Cascades(
        [rule("r", "order*", tables=["users", "prod*"], keys=["order:*"])], CATALOGUE
    )
    assert at_once(cascades, "orders") == {"users", "products", "~order:*"}
    assert at_once(cascades, "countries") == set()
    assert at_once(cascades, "countries", "order_items") == {"users", "products", "~order:*"}
    assert cascades.patterns == {"order:*"}


def test_views_and_partitions_stand_for_their_tables() -> None:
    cascades = Cascades([rule("r", "users", tables=["events", "recent"])], CATALOGUE)
    assert at_once(cascades, "users") == {"events", "events_2024", "events_2025", "orders"}


def test_rules_follow_each_other_and_come_to_an_end() -> None:
    rules = [
        rule("a", "orders", tables=["users"]),
        rule("b", "users", tables=["products"], keys=["u:*"]),
        rule("c", "products", tables=["orders"], keys=["p:*"]),
    ]
    cascades = Cascades(rules, CATALOGUE)
    for written in ("orders", "users", "products"):
        reached = {"orders", "users", "products", "~u:*", "~p:*"}
        assert at_once(cascades, written) == reached - {written}


def test_delays() -> None:
    rules = [
        rule("twice", "orders", tables=["orders", "users"], delay=0.5),
        rule("late", "users", keys=["u:*"], delay=0.5, at_once=False),
        rule("later", "users", keys=["v:*"], delay=2),
    ]
    assert Cascades(rules, CATALOGUE).of(frozenset({"orders"})) == Effects(
        frozenset({"orders", "users", "~v:*"}),
        ((0.5, frozenset({"orders", "users", "~u:*"})), (2.0, frozenset({"~v:*"}))),
    )


@pytest.mark.parametrize("delay", [0, 1])
def test_the_whole_database_needs_no_rule_but_a_second_time(delay: int) -> None:
    cascades = Cascades([rule("r", "users", keys=["u:*"], delay=delay)], CATALOGUE)
    effects = cascades.of(frozenset({"*"}))
    assert "*" in effects.names
    assert effects.later == (((1.0, frozenset({"~u:*"})),) if delay else ())
