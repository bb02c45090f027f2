"""Plans and routes in words."""

import pytest

from proxy.routing.explain import describe, explained_statement
from proxy.routing.route import Route, RouteRefused, Target
from proxy.sql.analyse import analyse
from proxy.topology.node import Address, Node, Role
from tests.unit.routing.shop import PLANNER

REPLICA = Node("replica1", Role.REPLICA, Address("127.0.0.1", 5433, "shop"))
ROUTE = Route(Target.REPLICA, REPLICA, "only reads")


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("EXPLAIN (PENSTOCK) SELECT 1", "SELECT 1"),
        ("explain(penstock)select 1;", "select 1;"),
        (" \n-- x\nExplain /* y */ ( Penstock )\n\tSELECT 1", "SELECT 1"),
        ("SHOW ROUTE FOR SELECT 1", "SELECT 1"),
        ("show route -- ?\nfor(SELECT 1)", "(SELECT 1)"),
        ("SHOW ROUTE FOR /* penstock: primary */ SELECT 1", "/* penstock: primary */ SELECT 1"),
        ("SHOW ROUTE FOR SELECT 'unterminated", "SELECT 'unterminated"),
        ("EXPLAIN (PENSTOCK)", ""),
    ],
)
def test_questions_to_penstock(text: str, inner: str) -> None:
    assert explained_statement(text) == inner


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "EXPLAIN SELECT 1",
        "EXPLAIN (ANALYZE) SELECT 1",
        "EXPLAIN (PENSTOCKS) SELECT 1",
        "SHOW ROUTE",
        "SHOW ROUTE FORSELECT 1",
        "SHOWROUTE FOR SELECT 1",
        "-- EXPLAIN (PENSTOCK) SELECT 1",
        "/* SHOW ROUTE FOR SELECT 1",
        "SELECT 'SHOW ROUTE FOR x'",
    ],
)
def test_other_statements(text: str) -> None:
    assert explained_statement(text) is None


def test_long_blanks_are_scanned_once() -> None:
    assert explained_statement(" /**/" * 50_000 + "SELECT 1") is None


def _rows(statement: str, outcome: Route | RouteRefused | None = ROUTE) -> dict[str, str]:
    plan = PLANNER.plan(analyse(statement))
    return dict(describe(plan, plan.refusal or outcome, extras=(("turn", "1"),)))


def test_a_cached_read() -> None:
    assert _rows("/* penstock: ttl=3, loud */ SELECT count(*) FROM open_orders") == {
        "kind": "select",
        "tables read": "open_orders",
        "functions": "count",
        "reads in all": "orders, users",
        "access": "read: only reads",
        "route": "replica1: only reads",
        "cache": "rule 'shop', TTL 3 s, at most 1048576 bytes",
        "cache label": "open_orders",
        "cache depends on": "orders, users",
        "hints": "ttl=3",
        "hints not understood": "loud",
        "turn": "1",
    }


def test_a_write() -> None:
    rows = _rows("UPDATE users SET name = charge(1)")
    assert rows["tables written"] == "users"
    assert rows["moves epochs of"] == "every table"
    assert rows["access"] == "write: writes users"
    assert rows["cache"] == "no: only SELECT is cached, not UPDATE"


def test_a_sharded_statement() -> None:
    rows = _rows("INSERT INTO accounts (id) VALUES (2), ($1), (NULL)", None)
    assert rows["shard key"] == "accounts.id = '2' or $1 or NULL"
    assert rows["shard"] == "decided by the parameters"
    assert rows["route"] == "the shard that the parameters of each execution decide"
    assert _rows("SELECT * FROM accounts WHERE id = 1")["shard"] == "2"


def test_the_shard_of_one_execution() -> None:
    shard = Node("shard1", Role.SHARD, Address("127.0.0.1", 5441, "shop"), shard=1)
    route = Route(Target.SHARD, shard, "the shard of the key")
    assert _rows("SELECT * FROM accounts WHERE id = $1", route)["shard"] == "1, by these values"


def test_refusals() -> None:
    rows = _rows("DELETE FROM accounts")
    assert rows["route"].startswith("refused (0A000): the statement is not limited to one id")
    assert rows["hint"].startswith("Add id =")
    rows = _rows("SELECT 1", RouteRefused("57P03", "no replica", "wait"))
    assert rows["route"] == "refused (57P03): no replica"


def test_session_effects() -> None:
    rows = _rows("SET search_path = a; LISTEN x; DISCARD ALL")
    assert rows["kind"] == "multi, 3 statements"
    assert rows["keeps its connection"] == "LISTEN"
    assert rows["changes settings"] == "all, back to their defaults"
    rows = _rows("SELECT currval('s'), set_config(a, b, false) FROM tenants")
    assert rows["needs its connection"]
    assert rows["changes settings"] == "maybe others, which the text doesn't tell"
    assert rows["asked for by a rule"] == "primary"


def test_what_could_not_be_parsed() -> None:
    rows = _rows("SELECT 'unterminated")
    assert "character 8" in rows["parse error"]
    assert rows["reads in all"] == rows["moves epochs of"] == "every table"
