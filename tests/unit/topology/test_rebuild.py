"""A topology brought in line with changed settings."""

from proxy.config.settings import DatabaseSettings
from proxy.topology.build import build_topology, rebuild_topology


def database(primary: str, *replicas: str) -> DatabaseSettings:
    return DatabaseSettings.model_validate(
        {"primary": {"host": primary}, "replicas": {"hosts": list(replicas)}}
    )


def test_nodes_that_stay_keep_their_name_and_what_is_known_of_them() -> None:
    topology = build_topology("app", database("p", "a:1", "b:1", "c:1"))
    primary, a, b, c = topology.nodes()
    c.fresh_until = 7.0
    gone = rebuild_topology(topology, database("p", "c:1", "d:1", "b:1"))
    assert gone == [a]
    assert topology.primary is primary
    assert topology.replicas[0] is c
    assert topology.replicas[2] is b
    assert [node.name for node in topology.replicas] == ["replica3", "replica1", "replica2"]
    assert c.fresh_until == 7.0
    assert not topology.replicas[1].healthy


def test_nothing_is_known_of_replicas_of_another_primary() -> None:
    topology = build_topology("app", database("p", "a:1"))
    [replica] = topology.replicas
    replica.fresh_until, replica.healthy = 7.0, True
    before = topology.primary
    assert rebuild_topology(topology, database("q", "a:1")) == [before]
    assert topology.primary.address.host == "q"
    assert topology.replicas == [replica]
    assert (replica.healthy, replica.fresh_until) == (False, float("-inf"))


def test_a_replica_that_becomes_the_primary() -> None:
    topology = build_topology("app", database("p", "a:5432"))
    old = topology.nodes()
    assert rebuild_topology(topology, database("a", "p:5432")) == old
    assert [str(node.address) for node in topology.nodes()] == ["a:5432", "p:5432"]


def test_another_name_on_the_servers_replaces_every_node() -> None:
    topology = build_topology("app", database("p", "a:1"))
    old = topology.nodes()
    renamed = database("p", "a:1").model_copy(update={"server_database": "other"})
    assert rebuild_topology(topology, renamed) == old
    assert {node.address.database for node in topology.nodes()} == {"other"}
