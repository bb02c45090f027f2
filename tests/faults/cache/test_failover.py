"""The promise of the cache while the primary of a Redis behind Sentinels, or of a cluster, is lost.

Two whole proxies, whose clients write and read through a failover.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path

from proxy.cache.cluster import slot_of
from tests.databases import Database
from tests.faults.cache.history import History
from tests.faults.cache.workload import PRECISE, RULE, Workload, metric
from tests.integration.cache.groups import MASTER, OwnCluster, Watched, wait_for
from tests.proxies import Proxy, running_proxy

READS = 1000
SECONDS = 60.0


async def test_no_stale_read_when_sentinels_promote_another(
    schema: Database, tmp_path: Path, watched: Watched
) -> None:
    places = {
        "PENSTOCK_CACHE__REDIS": "",
        "PENSTOCK_CACHE__SENTINELS": json.dumps(watched.addresses),
        "PENSTOCK_CACHE__SENTINEL_MASTER": MASTER,
    }
    await _lose(schema, tmp_path, places, lambda: watched.primary().kill())


async def test_no_stale_read_when_a_cluster_promotes_another(
    schema: Database, tmp_path: Path, cluster: OwnCluster
) -> None:
    places = {
        "PENSTOCK_CACHE__REDIS": "",
        "PENSTOCK_CACHE__CLUSTER": json.dumps(cluster.addresses),
    }
    await _lose(schema, tmp_path, places, lambda: cluster.owner(slot_of(b"penstock")).kill())


async def _lose(
    schema: Database, tmp_path: Path, places: dict[str, str], kill: Callable[[], None]
) -> None:
    # What one proxy reads from a replica while it can't ask Redis may miss what another wrote.
    places |= {"PENSTOCK_ROUTING__ENABLED": "false", "PENSTOCK_CACHE__TIMEOUT": "1s"}
    with (
        running_proxy(schema, tmp_path, extra=RULE, environment=places) as first,
        running_proxy(schema, tmp_path, extra=RULE, environment=places) as second,
    ):
        workload = Workload([first, second], PRECISE, History())
        await asyncio.to_thread(_await, lambda: _up(first) and _up(second))
        await workload.run(READS, readers=10, fault=_fault(workload, kill))
        assert workload.history.verdict() == ""
        assert workload.failures == 0


def _fault(workload: Workload, kill: Callable[[], None]) -> Coroutine[None, None, None]:
    async def fault() -> None:
        await asyncio.to_thread(_await, lambda: all(_hits(proxy) for proxy in workload.proxies))
        await asyncio.to_thread(kill)
        await asyncio.to_thread(_await, lambda: not any(map(_up, workload.proxies)))
        await asyncio.to_thread(_await, lambda: all(map(_up, workload.proxies)))
        before = {proxy.port: _hits(proxy) for proxy in workload.proxies}
        await asyncio.to_thread(
            _await, lambda: all(_hits(proxy) > before[proxy.port] for proxy in workload.proxies)
        )

    return fault()


def _up(proxy: Proxy) -> bool:
    return metric(proxy, "penstock_cache_up") == 1


def _hits(proxy: Proxy) -> int:
    return metric(proxy, "penstock_cache_hits_total")


def _await(reached: Callable[[], bool]) -> None:
    wait_for(reached, "the proxies see it", SECONDS)
