"""Decisions: a plan, a session's facts and the nodes' state."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.config.settings import ReplicaSettings
from proxy.routing.decide import decide
from proxy.routing.plan import Plan
from proxy.routing.route import Facts, Route, RouteRefused, ShardUnresolved, Target
from proxy.sql.analyse import analyse
from proxy.topology.node import Address, DatabaseTopology, Node, Role
from tests.unit.routing.shop import PLANNER

READ = PLANNER.plan(analyse("SELECT * FROM orders"))
WRITE = PLANNER.plan(analyse("DELETE FROM order_items"))
BEGIN = PLANNER.plan(analyse("BEGIN"))
BEGIN_READ_ONLY = PLANNER.plan(analyse("BEGIN READ ONLY"))
COMMIT = PLANNER.plan(analyse("COMMIT"))
ON_SHARD_2 = PLANNER.plan(analyse("SELECT * FROM accounts WHERE id = 1"))
BY_PARAMETER = PLANNER.plan(analyse("SELECT * FROM accounts WHERE id = $1"))


def _node(name: str, role: Role, **state: Any) -> Node:
    return Node(name, role, Address("127.0.0.1", 5432, "shop"), **{"fresh_until": 100.0, **state})


def _topology(replicas: int = 2) -> DatabaseTopology:
    return DatabaseTopology(
        "shop",
        _node("primary", Role.PRIMARY),
        [_node(f"replica{number}", Role.REPLICA) for number in range(1, replicas + 1)],
        [_node(f"shard{number}", Role.SHARD, shard=number) for number in range(3)],
    )


def _decide(
    plan: Plan,
    topology: DatabaseTopology,
    facts: Facts | None = None,
    turn: int = 0,
    max_lag: float = 0.0,
    shard: int | None = None,
    **settings: Any,
) -> Route:
    policy = ReplicaSettings.model_validate(settings)
    return decide(plan, facts or Facts(), topology, policy, turn, shard, max_lag=max_lag)


def _name(route: Route) -> str:
    assert route.node is not None
    return route.node.name


def test_reads_take_turns_over_replicas() -> None:
    topology = _topology()
    routes = [_decide(READ, topology, turn=turn) for turn in range(4)]
    assert [_name(route) for route in routes] == ["replica1", "replica2", "replica1", "replica2"]
    assert {route.target for route in routes} == {Target.REPLICA}


def test_a_route_is_made_once() -> None:
    topology = _topology()
    assert _decide(READ, topology) is _decide(READ, topology)


def test_least_connections() -> None:
    topology = _topology(3)
    for node, in_use in zip(topology.replicas, (5, 2, 3), strict=True):
        node.in_use = in_use
    assert _name(_decide(READ, topology, balance="least_connections")) == "replica2"
    topology.replicas[2].in_use = 2
    turns = {_name(_decide(READ, topology, turn=t, balance="least_connections")) for t in range(3)}
    assert turns == {"replica2", "replica3"}


def test_writes_go_to_the_primary_and_say_why() -> None:
    route = _decide(WRITE, _topology())
    assert (_name(route), route.reason) == ("primary", "writes order_items")
    assert route.target is Target.PRIMARY


def test_sick_replicas_are_passed_over() -> None:
    topology = _topology()
    topology.replicas[0].healthy = False
    assert {_name(_decide(READ, topology, turn=turn)) for turn in range(3)} == {"replica2"}
    topology.replicas[1].healthy = False
    assert _decide(READ, topology).reason == "no healthy replica"
    assert _name(_decide(READ, topology)) == "primary"
    assert _decide(READ, _topology(0)).reason == "no replica is configured"


def test_a_session_reads_its_own_writes() -> None:
    topology = _topology()
    facts = Facts(fresh_after=200.0)
    route = _decide(READ, topology, facts)
    assert _name(route) == "primary"
    assert route.reason == "no replica has replayed this session's last write"
    topology.replicas[1].fresh_until = 200.0
    assert _name(_decide(READ, topology, facts)) == "replica2"


def test_replicas_too_far_behind_get_no_reads() -> None:
    topology = _topology()
    topology.replicas[0].lag_seconds = 31.0
    topology.replicas[1].lag_seconds = 3.0
    assert {_name(_decide(READ, topology, turn=t, max_lag=30.0)) for t in range(2)} == {"replica2"}
    route = _decide(READ, topology, max_lag=1.0)
    assert (_name(route), route.reason) == ("primary", "every replica is more than 1 s behind")
    assert {_name(_decide(READ, topology, turn=t)) for t in range(2)} == {"replica1", "replica2"}


@pytest.mark.parametrize(
    ("preference", "primary_healthy", "expected"),
    [
        ("primary", True, "primary"),
        ("primary", False, "primary"),
        ("primary_preferred", True, "primary"),
        ("primary_preferred", False, "replica1"),
        ("replica_preferred", True, "replica1"),
        ("replica", True, "replica1"),
    ],
)
def test_read_preference(preference: str, primary_healthy: bool, expected: str) -> None:
    topology = _topology()
    topology.primary.healthy = primary_healthy
    assert _name(_decide(READ, topology, read_preference=preference)) == expected
    assert _name(_decide(WRITE, topology, read_preference=preference)) == "primary"


def test_primary_preferred_reads_a_replica_only_if_one_is_fit() -> None:
    topology = _topology(1)
    topology.primary.healthy = topology.replicas[0].healthy = False
    route = _decide(READ, topology, read_preference="primary_preferred")
    assert (_name(route), route.reason) == ("primary", "no replica can stand in for the primary")


def test_replicas_only_is_an_error_without_one() -> None:
    topology = _topology()
    for node in topology.replicas:
        node.healthy = False
    with pytest.raises(RouteRefused, match="no healthy replica") as refused:
        _decide(READ, topology, read_preference="replica")
    assert refused.value.sqlstate == "57P03"
    assert "replica_preferred" in refused.value.hint
    # Reading one's own writes is not given up for the preference.
    topology.replicas[0].healthy = True
    route = _decide(READ, topology, Facts(fresh_after=200.0), read_preference="replica")
    assert _name(route) == "primary"


def test_nearest_is_the_lowest_latency_of_fit_nodes() -> None:
    topology = _topology()
    for node, latency in zip(topology.nodes(), (0.002, 0.001, 0.003), strict=False):
        node.latency = latency
    assert _name(_decide(READ, topology, read_preference="nearest")) == "replica1"
    topology.replicas[0].fresh_until = 0.0
    facts = Facts(fresh_after=50.0)
    assert _name(_decide(READ, topology, facts, read_preference="nearest")) == "primary"
    assert _name(_decide(WRITE, topology, read_preference="nearest")) == "primary"


def test_nearest_takes_turns_while_latencies_are_unknown() -> None:
    topology = _topology()
    names = {_name(_decide(READ, topology, turn=t, read_preference="nearest")) for t in range(3)}
    assert names == {"primary", "replica1", "replica2"}
    for node in topology.nodes():
        node.healthy = False
    route = _decide(READ, topology, read_preference="nearest")
    assert (_name(route), route.reason) == ("primary", "no healthy node")


def test_hints_come_before_the_preference() -> None:
    topology = _topology()
    to_primary = replace(READ, node_hint="primary")
    assert _name(_decide(to_primary, topology, read_preference="replica")) == "primary"
    to_replica = replace(READ, node_hint="replica")
    assert _name(_decide(to_replica, topology, read_preference="primary")) == "replica1"
    for node in topology.replicas:
        node.healthy = False
    assert _name(_decide(to_replica, topology, read_preference="primary")) == "primary"


def test_an_open_transaction_stays_where_it_is() -> None:
    topology = _topology()
    replica = topology.replicas[1]
    facts = Facts(linked=replica, in_transaction=True)
    assert _name(_decide(READ, topology, facts)) == "replica2"
    assert _name(_decide(WRITE, topology, facts)) == "replica2"
    assert _name(_decide(READ, topology, Facts(in_transaction=True))) == "primary"


def test_a_pinned_session_stays_where_it_is() -> None:
    topology = _topology()
    route = _decide(READ, topology, Facts(pinned="LISTEN"))
    assert (_name(route), route.reason) == ("primary", "LISTEN")
    route = _decide(READ, topology, Facts(pinned="LISTEN", linked=topology.primary))
    assert (_name(route), route.reason) == ("primary", "LISTEN")


@pytest.mark.parametrize(
    ("plan", "read_only_default", "expected"),
    [
        (BEGIN, False, "primary"),
        (BEGIN, True, "replica1"),
        (BEGIN_READ_ONLY, False, "replica1"),
        (PLANNER.plan(analyse("BEGIN READ WRITE")), True, "primary"),
        (PLANNER.plan(analyse("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")), False, "primary"),
        (PLANNER.plan(analyse("/* penstock: primary */ BEGIN READ ONLY")), False, "primary"),
    ],
)
def test_read_only_transactions_may_run_on_replicas(
    plan: Plan, read_only_default: bool, expected: str
) -> None:
    facts = Facts(read_only_default=read_only_default)
    assert _name(_decide(plan, _topology(), facts)) == expected


def test_sharded_statements_go_to_their_shard() -> None:
    topology = _topology()
    route = _decide(ON_SHARD_2, topology)
    assert (route.target, _name(route)) == (Target.SHARD, "shard2")
    assert _name(_decide(BY_PARAMETER, topology, shard=1)) == "shard1"
    with pytest.raises(ShardUnresolved):
        _decide(BY_PARAMETER, topology)


def test_a_transaction_does_not_change_its_shard() -> None:
    topology = _topology()
    facts = Facts(linked=topology.shards[2], in_transaction=True)
    assert _name(_decide(ON_SHARD_2, topology, facts)) == "shard2"
    assert _name(_decide(COMMIT, topology, facts)) == "shard2"
    with pytest.raises(RouteRefused, match="on shard2, and the statement needs rows on shard0"):
        _decide(BY_PARAMETER, topology, facts, shard=0)
    with pytest.raises(RouteRefused, match="tables that are not sharded") as refused:
        _decide(READ, topology, facts)
    assert refused.value.sqlstate == "0A000"
    with pytest.raises(RouteRefused, match="the transaction is on primary"):
        _decide(ON_SHARD_2, topology, Facts(linked=topology.primary, in_transaction=True))


def test_a_pinned_session_does_not_reach_shards() -> None:
    topology = _topology()
    with pytest.raises(RouteRefused, match=r"bound to primary \(LISTEN\)"):
        _decide(ON_SHARD_2, topology, Facts(linked=topology.primary, pinned="LISTEN"))
