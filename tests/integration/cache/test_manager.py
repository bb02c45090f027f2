"""`CacheManager` on a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.cache.errors import CacheUnavailable
from proxy.cache.keys import KeySpace
from proxy.cache.manager import CacheManager, Cleared, SetOptions
from tests.integration.cache.caches import DATABASE, Cache
from tests.integration.cache.servers import OwnRedis


@pytest.fixture
async def manager(own_redis: OwnRedis) -> AsyncIterator[CacheManager]:
    manager = CacheManager.from_url(own_redis.url, "penstock", DATABASE, timeout=1.0)
    yield manager
    await manager.close()


async def test_set_get_delete(manager: CacheManager) -> None:
    assert await manager.get("greeting") is None
    assert await manager.set("greeting", b"hello \x00\xff")
    assert await manager.get("greeting") == b"hello \x00\xff"
    assert await manager.delete("greeting")
    assert not await manager.delete("greeting")
    assert await manager.get("greeting") is None


async def test_an_entry_lives_as_long_as_told(manager: CacheManager) -> None:
    await manager.set("short", b"1", SetOptions(ttl=0.05))
    assert await manager.get("short") == b"1"
    await asyncio.sleep(0.08)
    assert await manager.get("short") is None


def test_a_life_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SetOptions\.ttl is 0"):
        SetOptions(ttl=0)


@pytest.mark.parametrize("moved", ["orders", "*"])
async def test_a_write_to_its_tables_ends_an_entry(
    manager: CacheManager, cache: Cache, moved: str
) -> None:
    options = SetOptions(tables=("orders", "customers"))
    assert await manager.set("top", b"1", options)
    await cache.move("items")
    assert await manager.get("top") == b"1"
    await cache.move(moved)
    assert await manager.get("top") is None


async def test_a_write_after_the_ticket_keeps_a_value_out(
    manager: CacheManager, cache: Cache
) -> None:
    ticket = await manager.ticket(["orders"])
    assert await manager.set("top", b"1", SetOptions(ticket=ticket))
    await cache.move("orders")
    assert not await manager.set("top", b"2", SetOptions(ticket=ticket))
    assert await manager.get("top") is None


async def test_a_damaged_entry_is_no_entry(manager: CacheManager, own_redis: OwnRedis) -> None:
    await manager.set("greeting", b"hello", SetOptions(tables=("orders",)))
    key = KeySpace("penstock", DATABASE).application("greeting")
    client = own_redis.client()
    entry = client.get(key)
    for damaged in (b"", b"x", entry[:-1], entry[:9], entry[:40] + b"?" + entry[41:]):
        client.set(key, damaged)
        assert await manager.get("greeting") is None


async def _fill_up(manager: CacheManager, cache: Cache) -> None:
    await cache.store(b"1", "q1", ("orders",))
    await cache.store(b"2", "q2", ("customers", "orders"))
    await cache.store(b"3", "q3", ("items",))
    for key in ("orders:17", "orders:18", "tenant-42:orders", "orders"):
        await manager.set(key, b"value")


async def _left(manager: CacheManager, cache: Cache) -> set[str]:
    left = set()
    for text, reads in (("q1", ("orders",)), ("q2", ("customers", "orders")), ("q3", ("items",))):
        if (await cache.lookup(text, reads)).payload is not None:
            left.add(text)
    for key in ("orders:17", "orders:18", "tenant-42:orders", "orders"):
        if await manager.get(key) is not None:
            left.add(key)
    return left


EVERYTHING = {"q1", "q2", "q3", "orders:17", "orders:18", "tenant-42:orders", "orders"}


@pytest.mark.parametrize(
    ("pattern", "moved", "gone"),
    [
        ("orders:*", ("orders",), {"q1", "q2", "orders:17", "orders:18"}),
        ("orders", ("orders",), {"q1", "q2", "orders"}),
        ("ord*:*", ("orders",), {"q1", "q2", "orders:17", "orders:18"}),
        ("[ci]*", ("customers", "items"), {"q2", "q3"}),
        ("tenant-42:*", (), {"tenant-42:orders"}),
        ("orders:17", (), {"orders:17"}),
        ("nothing:*", (), set()),
        ("*", ("*",), EVERYTHING),
        ("*:*", ("*",), EVERYTHING - {"orders"}),
    ],
)
async def test_patterns(
    manager: CacheManager, cache: Cache, pattern: str, moved: tuple[str, ...], gone: set[str]
) -> None:
    await _fill_up(manager, cache)
    assert await manager.invalidate(pattern) == Cleared(moved, len(gone))
    assert await _left(manager, cache) == EVERYTHING - gone


async def test_a_pattern_ends_fills_that_are_on_their_way(
    manager: CacheManager, cache: Cache
) -> None:
    await cache.lookup()
    found = await cache.lookup()
    assert await manager.clear("orders:*") == 0
    cache.fill(found, b"late")
    assert (await cache.lookup()).payload is None


async def test_a_pattern_leaves_other_databases_and_prefixes_alone(
    manager: CacheManager, own_redis: OwnRedis
) -> None:
    others = [
        CacheManager.from_url(own_redis.url, "penstock", "app2"),
        CacheManager.from_url(own_redis.url, "penstoc?", DATABASE),
        CacheManager.from_url(own_redis.url, "penstock", "*"),
    ]
    for other in others:
        await other.set("key", b"value")
    await manager.set("key", b"value")
    assert await manager.clear("*") == 1
    for other in others:
        assert await other.get("key") == b"value"
        assert await other.clear("*") == 1
        await other.close()


async def test_many_keys_go_by_the_batch(manager: CacheManager, own_redis: OwnRedis) -> None:
    keys = KeySpace("penstock", DATABASE)
    client = own_redis.client()
    client.mset({keys.result("orders", i.to_bytes(16, "big")): b"" for i in range(25_000)})
    told: list[int] = []
    assert await manager.clear("orders:*", told.append) == 25_000
    assert len(told) > 10
    assert told == sorted(told)
    assert told[-1] >= 25_000


@pytest.mark.parametrize("pattern", ["", ":*"])
async def test_an_empty_pattern_is_refused(manager: CacheManager, pattern: str) -> None:
    with pytest.raises(ValueError, match="names no tables"):
        await manager.clear(pattern)


async def test_figures(manager: CacheManager, cache: Cache) -> None:
    assert await manager.get_hit_rate() == 0.0
    await cache.lookup(rule="point")
    cache.fill(await cache.lookup(rule="point"), b"rows")
    for _ in range(6):
        await cache.lookup(rule="point")
    cache.service.results.publish()
    cache.service.results.publish()  # counts nothing twice
    await cache.lookup(rule="point")  # comes after it on the link
    stats = await manager.get_stats()
    assert (stats.hits, stats.misses, stats.hit_rate) == (6, 2, 0.75)
    assert stats.counters["rule:point:hits"] == 6
    assert await manager.get_hit_rate() == 0.75


async def test_memory(manager: CacheManager, own_redis: OwnRedis) -> None:
    empty = await manager.get_memory_usage()
    assert (empty.keys, empty.cache) == (0, 0)
    for i in range(50):
        await manager.set(f"k{i}", bytes(1000))
    own_redis.client().config_set("maxmemory", "100mb")
    usage = await manager.get_memory_usage()
    assert usage.keys == 50
    assert 50_000 < usage.cache < 150_000
    assert usage.server > usage.cache
    assert usage.server_limit == 100 << 20


async def test_every_method_says_that_redis_is_away(
    manager: CacheManager, own_redis: OwnRedis
) -> None:
    await manager.set("key", b"value")
    own_redis.kill()
    for call in (
        manager.get("key"),
        manager.set("key", b"value"),
        manager.set("key", b"value", SetOptions(tables=("orders",))),
        manager.ticket(["orders"]),
        manager.delete("key"),
        manager.clear("*"),
        manager.get_stats(),
        manager.get_hit_rate(),
        manager.get_memory_usage(),
    ):
        with pytest.raises(CacheUnavailable, match=r"could not .*Redis"):
            await call


async def test_a_frozen_redis_is_unavailable(own_redis: OwnRedis) -> None:
    manager = CacheManager.from_url(own_redis.url, "penstock", DATABASE, timeout=0.1)
    own_redis.freeze()
    with pytest.raises(CacheUnavailable, match="clear 'orders:\\*'"):
        await manager.clear("orders:*")
    await manager.close()
