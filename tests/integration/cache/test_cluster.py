"""A real Redis Cluster that loses a primary, or moves the slot, while processes write and read."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from structlog.testing import capture_logs

from proxy.cache.cluster import slot_of
from proxy.cache.keys import KeySpace
from proxy.cache.manager import CacheManager
from proxy.config.cache_settings import CacheSettings
from tests.integration.cache.caches import DATABASE, Cache, eventually
from tests.integration.cache.groups import OwnCluster, cut_off, wait_for
from tests.integration.cache.load import PATIENCE, all_up, through_another_primary
from tests.integration.cache.servers import OwnRedis

SLOT = slot_of(b"penstock")


@pytest.fixture
async def pair(cluster: OwnCluster, start_caches: Callable[..., Cache]) -> list[Cache]:
    """Two processes that know one node each, and not the one that has the slot."""
    others = [node for node in cluster.nodes if node is not cluster.owner(SLOT)]
    caches = [start_caches(None, cluster=[f"127.0.0.1:{node.port}"]) for node in others[:2]]
    await all_up(caches)
    return caches


def test_slots_are_those_of_redis(own_redis: OwnRedis, cluster: OwnCluster) -> None:
    for tag in ("penstock", "a", "tenant 42", "123456789"):
        assert cluster.nodes[0].client().execute_command("CLUSTER KEYSLOT", tag) == slot_of(
            tag.encode()
        )


async def test_all_keys_are_in_one_slot(cluster: OwnCluster, pair: list[Cache]) -> None:
    await pair[0].store(b"rows", reads=("customers", "orders"))
    hit = await pair[1].lookup(reads=("customers", "orders"))
    assert hit.payload == b"rows"
    keys = KeySpace("{penstock}", DATABASE)
    client = cluster.owner(SLOT).client()
    assert client.get(keys.epoch("orders")) is not None
    assert client.execute_command("CLUSTER COUNTKEYSINSLOT", SLOT) == client.dbsize()
    settings = CacheSettings.model_validate({"cluster": cluster.addresses[:1]})
    manager = await CacheManager.open(settings, DATABASE)
    try:
        assert (await manager.invalidate("orders:*")).tables == ("orders",)
    finally:
        await manager.close()
    assert (await pair[1].lookup(reads=("customers", "orders"))).payload is None


async def the_primary_dies(cluster: OwnCluster) -> None:
    """What it did last is not on its replica."""
    primary, replica = cluster.owner(SLOT), _replica(cluster)
    cut_off(primary, [replica])
    await asyncio.sleep(0.3)
    primary.kill()
    replica.thaw()


async def the_primary_freezes_until_another_is_there(cluster: OwnCluster) -> None:
    """Then it wakes up and takes itself for the primary."""
    old = cluster.owner(SLOT)
    others = [node for node in cluster.nodes if node is not old]
    old.freeze()
    await asyncio.to_thread(
        wait_for, lambda: all(_owner_of(node) != old.port for node in others), "another primary"
    )
    old.thaw()


async def a_replica_takes_over_unasked(cluster: OwnCluster) -> None:
    """The old primary is well all the time, and is not asked."""
    _replica(cluster).client().execute_command("CLUSTER FAILOVER", "TAKEOVER")


def _replica(cluster: OwnCluster) -> OwnRedis:
    port = cluster.owner(SLOT).port
    return next(
        node
        for node in cluster.nodes
        if node.client().info("replication").get("master_port") == port
    )


async def the_slot_moves_to_another_primary(cluster: OwnCluster) -> None:
    old = cluster.owner(SLOT)
    target = next(
        node
        for node in cluster.nodes
        if node is not old and node.client().info("replication")["role"] == "master"
    )
    there = target.client().execute_command("CLUSTER MYID")
    old.client().execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", there)


def _owner_of(node: OwnRedis) -> int:
    """The port of the node that has the slot, as `node` sees it."""
    for low, high, leader, *_ in node.client().execute_command("CLUSTER SLOTS"):
        if low <= SLOT <= high:
            return int(leader[1])
    return 0


@pytest.mark.parametrize(
    "trouble",
    [
        the_primary_dies,
        the_primary_freezes_until_another_is_there,
        a_replica_takes_over_unasked,
        the_slot_moves_to_another_primary,
    ],
)
async def test_no_stale_hit_when_the_primary_changes(
    cluster: OwnCluster,
    pair: list[Cache],
    trouble: Callable[[OwnCluster], Coroutine[None, None, None]],
) -> None:
    history = await through_another_primary(pair, cluster.owner(SLOT).port, trouble(cluster))
    assert history.stale == []


async def test_without_a_majority_the_cache_is_not_used(
    cluster: OwnCluster, pair: list[Cache]
) -> None:
    """The primary lives; whoever could have been made another can't be asked."""
    cache, owner = pair[0], cluster.owner(SLOT)
    with capture_logs() as logs:
        for node in cluster.nodes:
            if node is not owner:
                node.freeze()
        await eventually(lambda: not cache.service.up)
    assert "are needed" in str(logs[0]["why"])
    for node in cluster.nodes:
        node.thaw()
    await eventually(lambda: cache.service.up, PATIENCE)
