from proxy.config.settings import DatabaseSettings
from proxy.topology.build import build_topology
from proxy.topology.node import Address, Role

SETTINGS = {
    "server_database": "shop_v2",
    "primary": {"host": "p", "port": 1},
    "replicas": {"hosts": ["r1:2", "[::1]:3"]},
    "sharding": {
        "enabled": True,
        "shards": [{"host": "s0", "port": 4}, {"host": "s1", "port": 5, "database": "other"}],
    },
}


def test_every_server_is_a_node() -> None:
    topology = build_topology("shop", DatabaseSettings.model_validate(SETTINGS))
    assert [(node.name, node.role, node.address, node.shard) for node in topology.nodes()] == [
        ("primary", Role.PRIMARY, Address("p", 1, "shop_v2"), None),
        ("replica1", Role.REPLICA, Address("r1", 2, "shop_v2"), None),
        ("replica2", Role.REPLICA, Address("::1", 3, "shop_v2"), None),
        ("shard0", Role.SHARD, Address("s0", 4, "shop_v2"), 0),
        ("shard1", Role.SHARD, Address("s1", 5, "other"), 1),
    ]
    assert topology.database == "shop"


def test_replicas_have_to_be_seen_before_they_count() -> None:
    topology = build_topology("shop", DatabaseSettings.model_validate(SETTINGS))
    assert topology.primary.healthy
    assert all(shard.healthy for shard in topology.shards)
    assert [(node.healthy, node.error) for node in topology.replicas] == [
        (False, "not reached yet"),
        (False, "not reached yet"),
    ]


def test_shards_count_only_where_sharding_is_enabled() -> None:
    settings = SETTINGS | {"sharding": {"enabled": False, "shards": [{"host": "s0"}]}}
    assert build_topology("shop", DatabaseSettings.model_validate(settings)).shards == []


def test_the_name_for_clients_is_the_servers_by_default() -> None:
    assert build_topology("shop", DatabaseSettings()).primary.address.database == "shop"
