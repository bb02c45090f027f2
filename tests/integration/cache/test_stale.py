"""Entries past their TTL: one reads anew, the others are answered meanwhile, on a real Redis."""

from collections.abc import Callable

import pytest

from proxy.cache.ticket import Lookup
from tests.integration.cache.caches import Cache, eventually
from tests.integration.cache.servers import OwnRedis

STALE = 60.0


async def outlived(cache: Cache) -> Lookup:
    """An entry past its TTL: what the first who asks for it then is told."""
    cache.fill(await cache.lookup(), b"old", ttl=0.05, stale=STALE)
    while (found := await cache.lookup(stale=STALE)).payload is not None:
        assert found.payload == b"old"
    return found


async def test_one_reads_anew_and_the_others_get_what_is_there(cache: Cache) -> None:
    statistics = cache.service.results.statistics
    first = await outlived(cache)
    assert first.reason == "entry to be read anew"
    for _ in range(3):
        assert (await cache.lookup(stale=STALE)).payload == b"old"
    assert statistics.stale_hits == 3
    cache.fill(first, b"new", ttl=60.0, stale=STALE)
    assert (await cache.lookup(stale=STALE)).payload == b"new"
    assert statistics.stale_hits == 3


async def test_another_tries_where_the_first_brings_nothing(cache: Cache) -> None:
    first = await outlived(cache)
    assert first.ticket is not None
    cache.service.results.forgo(first.ticket)
    second = await cache.lookup(stale=STALE)
    assert second.ticket is not None
    assert (await cache.lookup(stale=STALE)).payload == b"old"


async def test_nobody_gets_it_after_a_write(cache: Cache) -> None:
    first = await outlived(cache)
    await cache.move("orders")
    for _ in range(2):
        found = await cache.lookup(stale=STALE)
        assert (found.payload, found.reason) == (None, "invalidated")
    cache.fill(first, b"late")
    assert (await cache.lookup(stale=STALE)).payload is None


@pytest.mark.parametrize("stale", [0.0, STALE])
async def test_a_fresh_entry_is_a_hit_like_any_other(cache: Cache, stale: float) -> None:
    await cache.lookup()
    cache.fill(await cache.lookup(), b"rows", stale=stale)
    hit = await cache.lookup(stale=stale)
    assert hit.payload == b"rows"
    assert hit.right is not None
    assert cache.service.results.statistics.stale_hits == 0


async def test_one_of_all_processes_reads_anew(
    own_redis: OwnRedis, start_caches: Callable[..., Cache]
) -> None:
    cache, other = (start_caches(own_redis.url, coalesce=5.0) for _ in range(2))
    await cache.up()
    await other.up()
    await eventually(lambda: cache.service.results.has_company)  # when it has renewed
    await eventually(lambda: other.service.results.has_company)
    first = await outlived(cache)
    for _ in range(3):
        assert (await other.lookup(stale=STALE)).payload == b"old"
    assert other.service.results.statistics.stale_hits == 3
    assert first.ticket is not None
    cache.service.results.forgo(first.ticket)
    found = await other.lookup(stale=STALE)
    assert found.ticket is not None
    other.fill(found, b"new", ttl=60.0, stale=STALE)
    assert (await cache.lookup(stale=STALE)).payload == b"new"
