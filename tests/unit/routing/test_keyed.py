"""Which statements are pinned to keys of a table that is invalidated by key."""

from dataclasses import replace

import pytest

from proxy.config.cache_settings import CacheRule, CacheSettings
from proxy.config.settings import RoutingSettings
from proxy.routing.plan import Pinned
from proxy.routing.planner import Planner
from proxy.sql.analyse import analyse
from proxy.sql.statement import Literal
from tests.unit.routing.shop import CATALOGUE

RULES = (
    CacheRule(name="by user", tables=("orders", "order_items"), granularity="key", key="user_id"),
    CacheRule(name="by name", tables=("us*", "events*"), granularity="key", key="name"),
    CacheRule(name="rest", tables=("*",)),
)
KEYS = {
    ("orders", "user_id"): "integer",
    ("order_items", "user_id"): "bigint",
    ("users", "name"): "text",
    ("events", "name"): "text",
    ("audited", "user_id"): "integer",
}
CASCADES = {**CATALOGUE.cascades, "order_items": frozenset({"order_items"})}


def planner(**changes: object) -> Planner:
    catalogue = replace(CATALOGUE, keys=KEYS, **changes)  # type: ignore[arg-type]
    return Planner(RoutingSettings(), CacheSettings(rule=RULES), catalogue)


def pins(*pinned: Pinned | None) -> str:
    return " ".join(
        f"{one.table}.{one.column}:{one.type}="
        + "|".join(
            v.text or "NULL" if isinstance(v, Literal) else f"${v.index}" for v in one.values
        )
        for one in pinned
        if one is not None
    )


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT * FROM orders WHERE user_id = 7", "orders.user_id:integer=7"),
        ("SELECT * FROM orders o WHERE 1 < id AND o.user_id = $1", "orders.user_id:integer=$1"),
        ("SELECT * FROM users WHERE name = 'ann'", "users.name:text=ann"),
        ("SELECT * FROM orders WHERE user_id IN (7)", "orders.user_id:integer=7"),
        ("SELECT * FROM orders WHERE user_id IN (7, 8)", ""),
        ("SELECT * FROM orders WHERE user_id = 7 OR id = 1", ""),
        ("SELECT * FROM orders WHERE user_id > 7", ""),
        ("SELECT * FROM orders WHERE user_id = $1 AND id = $1", ""),
        ("SELECT * FROM orders WHERE user_id = 7 UNION SELECT * FROM orders WHERE user_id = 8", ""),
        ("SELECT * FROM orders WHERE user_id = 7 AND EXISTS (SELECT FROM orders)", ""),
        (
            "SELECT * FROM orders o JOIN order_items i USING (user_id) WHERE o.user_id = 7",
            "order_items.user_id:bigint=7 orders.user_id:integer=7",
        ),
        (
            "SELECT * FROM orders o, order_items i WHERE o.user_id = $1 AND i.user_id = $2",
            "order_items.user_id:bigint=$2",
        ),
        ("SELECT * FROM orders JOIN looped ON true WHERE orders.user_id = 7", ""),
        ("SELECT * FROM events WHERE name = 'x'", ""),
        ("SELECT * FROM users WHERE name = 'ann' COLLATE loose", ""),
    ],
)
def test_reads(sql: str, found: str) -> None:
    plan = planner().plan(analyse(sql))
    assert plan.cache is not None, plan.uncached_reason
    assert pins(*plan.cache.pins) == found
    assert plan.keyed == bool(found)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE orders SET note = 'x' WHERE user_id = 7", "orders.user_id:integer=7"),
        ("DELETE FROM orders WHERE user_id = $1", "orders.user_id:integer=$1"),
        ("INSERT INTO orders (id, user_id) VALUES (1, 7)", "orders.user_id:integer=7"),
        (
            "INSERT INTO orders (id, user_id) VALUES (1, 7), (2, $1)",
            "orders.user_id:integer=7|$1",
        ),
        ("INSERT INTO users (name) VALUES ('a') ON CONFLICT DO NOTHING", "users.name:text=a"),
        ("UPDATE orders SET note = 'x' WHERE user_id IN (7, 8)", "orders.user_id:integer=7|8"),
        ("UPDATE orders SET note = 'x'", ""),
        ("UPDATE orders SET user_id = 8 WHERE user_id = 7", ""),
        ("UPDATE orders SET (note, user_id) = ('x', 8) WHERE user_id = 7", ""),
        ("UPDATE orders SET note = 'x' WHERE user_id = 7 OR id = 1", ""),
        ("UPDATE orders SET note = $1 WHERE user_id = $1", ""),
        ("INSERT INTO orders (id) VALUES (1)", ""),
        ("INSERT INTO orders SELECT * FROM orders WHERE user_id = 7", ""),
        (
            "INSERT INTO orders (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET note = ''",
            "",
        ),
        ("TRUNCATE orders", ""),
        ("COPY orders FROM STDIN", ""),
        ("UPDATE orders SET note = '' WHERE user_id = 7; SELECT 1", ""),
        ("WITH x AS (DELETE FROM orders WHERE user_id = 7 RETURNING 1) SELECT * FROM x", ""),
        ("DELETE FROM order_items WHERE user_id = 7", ""),
        ("INSERT INTO events (name) VALUES ('x')", ""),
        ("UPDATE audited SET note = '' WHERE user_id = 7", ""),
        (f"INSERT INTO orders (user_id) VALUES {', '.join(f'({n})' for n in range(17))}", ""),
    ],
)
def test_writes(sql: str, found: str) -> None:
    plan = planner(cascades=CASCADES).plan(analyse(sql))
    assert pins(plan.pinned_write) == found
    assert plan.writes


def test_a_table_without_a_known_key_column_is_invalidated_as_a_whole() -> None:
    plan = planner().plan(analyse("SELECT * FROM stock WHERE user_id = 7"))
    assert plan.cache is not None
    assert plan.cache.pins == ()


def test_what_may_also_be_read_through_a_view_is_not_pinned() -> None:
    plan = planner().plan(analyse("SELECT * FROM orders WHERE user_id = 7"))
    assert plan.cache is not None
    assert plan.cache.reads == ("orders",)
    view = planner().plan(analyse("SELECT * FROM recent WHERE user_id = 7"))
    assert view.cache is None or view.cache.pins == ()
