"""Failovers by real Sentinels while processes write and read."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from structlog.testing import capture_logs

from proxy.cache.errors import CacheUnavailable
from proxy.cache.link import LinkState
from proxy.cache.manager import CacheManager
from proxy.cache.site import LEASE_SECONDS
from proxy.config.cache_settings import CacheSettings
from tests.integration.cache.caches import DATABASE, Cache, eventually
from tests.integration.cache.groups import MASTER, Watched, cut_off, wait_for
from tests.integration.cache.load import PATIENCE, all_up, primary_port, through_another_primary
from tests.integration.cache.servers import OwnRedis


@pytest.fixture
async def pair(watched: Watched, start_caches: Callable[..., Cache]) -> list[Cache]:
    """Two processes."""
    options = {"sentinels": watched.addresses, "sentinel_master": MASTER}
    caches = [start_caches(None, **options) for _ in range(2)]
    await all_up(caches)
    return caches


async def test_it_finds_the_primary(watched: Watched, pair: list[Cache]) -> None:
    await pair[0].store(b"rows")
    assert (await pair[1].lookup()).payload == b"rows"
    assert watched.primary().client().dbsize() > 0
    settings = CacheSettings.model_validate(
        {"sentinels": watched.addresses, "sentinel_master": MASTER}
    )
    manager = await CacheManager.open(settings, DATABASE)
    try:
        assert (await manager.invalidate("*")).tables == ("*",)
    finally:
        await manager.close()
    assert (await pair[1].lookup()).payload is None


async def the_primary_dies(watched: Watched) -> None:
    """What it did last is on no replica."""
    primary = watched.primary()
    copies = [server for server in watched.servers if server is not primary]
    cut_off(primary, copies)
    await asyncio.sleep(0.3)
    primary.kill()
    for server in copies:
        server.thaw()


async def the_primary_freezes_until_another_is_there(watched: Watched) -> None:
    """Then it wakes up and takes itself for the primary."""
    old = watched.primary()
    old.freeze()
    await asyncio.to_thread(_await_another, watched, old.port)
    old.thaw()


async def a_failover_by_command(watched: Watched) -> None:
    """The old primary is well all the time."""
    old = watched.primary().port
    watched.sentinels[0].fail_over()
    await asyncio.to_thread(_await_another, watched, old)


def _await_another(watched: Watched, old: int) -> None:
    wait_for(
        lambda: all(int(str(one.state()["port"])) != old for one in watched.sentinels),
        "all Sentinels name another primary",
    )


@pytest.mark.parametrize(
    "failover",
    [the_primary_dies, the_primary_freezes_until_another_is_there, a_failover_by_command],
)
async def test_no_stale_hit_through_a_failover(
    watched: Watched, pair: list[Cache], failover: Callable[[Watched], Coroutine[None, None, None]]
) -> None:
    history = await through_another_primary(pair, watched.primary().port, failover(watched))
    assert history.stale == []


async def test_the_old_entries_are_dead_on_the_promoted_replica(
    watched: Watched, pair: list[Cache], start_caches: Callable[..., Cache]
) -> None:
    """The replica has both entry and epochs as they were before a write: its link was cut."""
    cache, _ = pair
    await cache.store(b"old")
    primary = watched.primary()
    copies = [server for server in watched.servers if server is not primary]
    await asyncio.to_thread(_await_copies, primary, copies)
    cut_off(primary, copies)
    await cache.move("orders")
    primary.kill()
    for server in copies:
        server.thaw()
    await eventually(lambda: primary_port(cache) not in (None, primary.port), PATIENCE)
    await cache.up()
    assert (await cache.lookup()).reason == "invalidated"


def _await_copies(primary: OwnRedis, copies: list[OwnRedis]) -> None:
    sizes = [server.client().dbsize for server in (primary, *copies)]
    wait_for(lambda: len({size() for size in sizes}) == 1, "the replicas have everything")


async def test_without_enough_sentinels_the_cache_is_not_used(
    watched: Watched, pair: list[Cache]
) -> None:
    """They, and a failover that they ran, could be on the other side of a cut network."""
    cache = pair[0]
    watched.sentinels[0].freeze()
    await asyncio.sleep(2 * LEASE_SECONDS)
    assert cache.service.link.state is LinkState.UP
    with capture_logs() as logs:
        watched.sentinels[1].kill()
        await eventually(lambda: cache.service.link.state is not LinkState.UP)
        # On a busy machine it may first be one that answers too late.
        told = "1 of 3 Sentinels see the primary"
        await eventually(lambda: any(told in str(one.get("why")) for one in logs), PATIENCE)
    settings = CacheSettings.model_validate(
        {"sentinels": watched.addresses, "sentinel_master": MASTER}
    )
    with pytest.raises(CacheUnavailable, match="2 are needed"):
        await CacheManager.open(settings, DATABASE)
    watched.sentinels[1].start()
    await eventually(lambda: cache.service.up, PATIENCE)


async def test_a_name_that_sentinels_do_not_know(
    watched: Watched, start_caches: Callable[..., Cache]
) -> None:
    with capture_logs() as logs:
        cache = start_caches(None, sentinels=watched.addresses, sentinel_master="another")
        await eventually(lambda: cache.service.link.state is LinkState.AWAY)
    assert "No such master with that name" in str(logs[0]["why"])
