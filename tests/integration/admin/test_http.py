"""The HTTP listener, asked over real connections."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin.http import ListenError, bound_address, start_http, stop_http
from proxy.admin.metrics import Observed, PoolRow
from proxy.cache.statistics import Statistics
from proxy.config.types import HostPort
from proxy.topology.counters import Counters
from proxy.topology.node import Address, DatabaseTopology, Node, Role

LOOPBACK = HostPort("127.0.0.1", 0)


class World:
    """What the listener observes, to be changed by a test."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.cache_up = True
        self.stopping = False
        self.app = DatabaseTopology(
            "app",
            Node("primary", Role.PRIMARY, Address("10.0.0.1", 5432, "app")),
            [Node("replica1", Role.REPLICA, Address("10.0.0.2", 5432, "app"), lag_bytes=12)],
        )
        self.shop = DatabaseTopology(
            "shop", Node("primary", Role.PRIMARY, Address("10.0.0.3", 5432, "shop"))
        )
        self.observed = Observed(
            self.counters,
            [self.app, self.shop],
            pools=lambda: [PoolRow("app", "ann", "primary", 1, 2, 0, 20)],
            cache=Statistics(),
            cache_up=lambda: self.cache_up,
            stopping=lambda: self.stopping,
        )


@dataclass
class Answer:
    status: int
    content_type: str
    text: str


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def base(world: World) -> AsyncIterator[str]:
    runner = await start_http(LOOPBACK, world.observed)
    yield f"http://{bound_address(runner)}"
    await stop_http(runner)


async def get(url: str, accept: str = "") -> Answer:
    headers = {"Accept": accept} if accept else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return Answer(response.status, response.headers["Content-Type"], await response.text())


async def get_json(url: str) -> tuple[int, dict[str, object]]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json()


async def test_metrics_are_prometheus_text(base: str, world: World) -> None:
    world.counters.tally("primary", "primary", "insert").count += 2
    world.counters.latency["primary"].observe(0.002)
    answer = await get(f"{base}/metrics")
    assert answer.status == 200
    assert answer.content_type.startswith("text/plain; version=")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["penstock_queries_total", "insert", "primary", "primary"] == 2
    assert samples["penstock_query_duration_seconds_count", "primary"] == 1
    assert samples["penstock_pool_connections", "ann", "app", "idle", "primary"] == 2
    assert samples["penstock_replica_lag_bytes", "app", "replica1"] == 12
    assert samples["penstock_node_up", "app", "primary", "primary"] == 1
    assert samples["penstock_cache_up",] == 1
    assert samples["process_resident_memory_bytes",] > 1e6


async def test_metrics_in_openmetrics_where_asked_for(base: str) -> None:
    answer = await get(f"{base}/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_healthz_does_not_depend_on_servers(base: str, world: World) -> None:
    world.app.primary.healthy = False
    assert (await get(f"{base}/healthz")).status == 200


async def test_readyz_while_all_primaries_are_reachable(base: str) -> None:
    assert await get_json(f"{base}/readyz") == (
        200,
        {"ready": True, "stopping": False, "down": [], "degraded": []},
    )


async def test_readyz_names_the_primary_that_is_down_until_it_is_back(
    base: str, world: World
) -> None:
    world.shop.primary.healthy = False
    world.shop.primary.error = "connection refused"
    status, report = await get_json(f"{base}/readyz")
    assert status == 503
    assert report["down"] == [
        {
            "database": "shop",
            "node": "primary",
            "address": "10.0.0.3:5432",
            "error": "connection refused",
        }
    ]
    world.shop.primary.healthy = True
    assert (await get(f"{base}/readyz")).status == 200


async def test_readyz_shows_lesser_faults_and_stays_ready(base: str, world: World) -> None:
    world.app.replicas[0].healthy = False
    world.cache_up = False
    status, report = await get_json(f"{base}/readyz")
    assert status == 200
    assert report["degraded"] == [
        {
            "database": "app",
            "node": "replica1",
            "address": "10.0.0.2:5432",
            "error": "not reachable",
        },
        {"node": "cache", "error": "Redis does not answer"},
    ]


async def test_readyz_while_stopping(base: str, world: World) -> None:
    world.stopping = True
    assert (await get(f"{base}/readyz")).status == 503


async def test_other_paths_are_not_found(base: str) -> None:
    assert (await get(f"{base}/")).status == 404


async def test_a_taken_address_is_named_with_its_setting(world: World) -> None:
    runner = await start_http(LOOPBACK, world.observed)
    taken = bound_address(runner)
    with pytest.raises(ListenError, match=rf"{taken} \(server\.http_listen\): .*in use"):
        await start_http(taken, world.observed)
    await stop_http(runner)


async def test_after_a_stop_nobody_answers(world: World) -> None:
    runner = await start_http(LOOPBACK, world.observed)
    url = f"http://{bound_address(runner)}/healthz"
    assert (await get(url)).status == 200
    await stop_http(runner)
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(url)
