"""Reads served from the cache are never older than the last write acknowledged before them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database
from tests.faults.cache.history import History
from tests.faults.cache.workload import PRECISE, RULE, SWEEPING, Way, Workload, metric
from tests.proxies import Proxy, running_proxy
from tests.stacks import PrivateStack

SECONDS = 4.0
ON_PRIMARY = '[[routing.rule]]\nname = "primary"\ntables = ["c_*"]\nnode = "primary"\n'


@pytest.fixture(scope="module")
def servers(module_private_stack: PrivateStack) -> Stack:
    return module_private_stack(replicas=2, redis=True)


@pytest.fixture
def empty(servers: Stack, request: pytest.FixtureRequest) -> Iterator[Database]:
    name = f"coherent_{abs(hash(request.node.name)) % 10**9}"
    with fresh_database(servers, name) as database:
        with psycopg.connect(database.dsn(), autocommit=True) as connection:
            for way in (*PRECISE, *SWEEPING):
                connection.execute(way.schema.format(name=way.name))
        yield database


@pytest.fixture
def two(empty: Database, tmp_path: Path) -> Iterator[list[Proxy]]:
    """Two that share Redis and the servers, at their defaults."""
    with ExitStack() as cleanup:
        yield [cleanup.enter_context(running_proxy(empty, tmp_path, extra=RULE)) for _ in range(2)]


@pytest.fixture
def one(empty: Database, tmp_path: Path) -> Iterator[Proxy]:
    with running_proxy(empty, tmp_path, extra=RULE) as proxy:
        yield proxy


def verdict(history: History) -> str:
    """Empty if every read was right."""
    found = list(history.violations())
    if not found:
        return ""
    return "\n".join([f"{len(found)} of {len(history.reads)} reads:", *map(str, found[:10])])


async def test_over_two_proxies(two: list[Proxy]) -> None:
    """Each learns of the other's writes from Redis alone."""
    history = History()
    workload = Workload(two, PRECISE, history)
    await workload.warm()
    before = sum(metric(proxy, "penstock_cache_bypasses_total") for proxy in two)
    await workload.run(SECONDS, readers=12)
    print(
        len(history.reads),
        history.acknowledged,
        [metric(p, "penstock_cache_hits_total") for p in two],
    )
    assert verdict(history) == ""
    assert workload.failures == 0
    assert sum(metric(proxy, "penstock_cache_bypasses_total") for proxy in two) == before
    assert all(metric(proxy, "penstock_cache_hits_total") > 50 for proxy in two)


@pytest.mark.parametrize("ways", [PRECISE, SWEEPING], ids=["precise", "sweeping"])
async def test_every_read_of_one_proxy(one: Proxy, ways: tuple[Way, ...]) -> None:
    """Also those that bypass the cache."""
    history = History()
    workload = Workload([one], ways, history)
    await workload.run(SECONDS, readers=12)
    assert verdict(history) == ""
    assert workload.failures == 0
    assert metric(one, "penstock_cache_hits_total") > 50
