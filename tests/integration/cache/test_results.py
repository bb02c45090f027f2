"""Lookups, fills and moves on a real server that is well."""

import asyncio
import os
import struct
import time
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from proxy.cache.codec import Codec
from proxy.cache.keys import KeySpace
from proxy.cache.manager import CacheManager
from tests.integration.cache.caches import DATABASE, ORDERS, Cache, digest
from tests.integration.cache.servers import OwnRedis

KEYS = KeySpace("penstock", DATABASE)
ENTRY = KEYS.result("orders", digest())


async def test_miss_fill_hit(cache: Cache) -> None:
    first = await cache.lookup()  # the table has no epoch yet
    assert (first.payload, first.reason) == (None, "no entry")
    assert 0 < first.fresh_after <= time.monotonic()
    cache.fill(first, b"rows")
    hit = await cache.lookup()
    assert (hit.payload, hit.reason, hit.ticket) == (b"rows", "hit", None)


async def test_entries_are_told_apart_by_digest_label_and_database(cache: Cache) -> None:
    await cache.store(b"rows")
    assert (await cache.lookup("another")).payload is None
    assert (await cache.lookup(reads=("customers", "orders"))).payload is None


@pytest.mark.parametrize("moved", ["orders", "*"])
async def test_a_move_between_lookup_and_fill_refuses_the_fill(cache: Cache, moved: str) -> None:
    await cache.lookup()
    found = await cache.lookup()
    await cache.move(moved)
    cache.fill(found, b"old")
    assert (await cache.lookup()).reason == "no entry"
    assert cache.service.results.statistics.refused_fills == 1


@pytest.mark.parametrize("moved", ["orders", "*"])
async def test_a_move_ends_what_was_stored(cache: Cache, moved: str) -> None:
    await cache.store(b"old")
    await cache.move(moved)
    assert (await cache.lookup()).reason == "invalidated"


async def test_a_move_of_another_table_ends_nothing(cache: Cache) -> None:
    await cache.store(b"rows")
    await cache.move("customers")
    assert (await cache.lookup()).payload == b"rows"


async def test_any_table_of_a_join_ends_its_result(cache: Cache) -> None:
    join = ("customers", "items", "orders")
    for table in join:
        await cache.store(table.encode(), reads=join)
        await cache.move(table, "unrelated")
        assert (await cache.lookup(reads=join)).reason == "invalidated"


async def test_a_result_that_reads_no_table(cache: Cache) -> None:
    await cache.store(b"1", reads=())
    await cache.move("*")
    assert (await cache.lookup(reads=())).reason == "invalidated"


async def test_a_move_of_nothing_is_done_at_once(cache: Cache) -> None:
    await cache.move()
    assert cache.service.results.statistics.moves == 1  # the one at the start


async def test_entries_expire(cache: Cache) -> None:
    await cache.lookup()
    cache.fill(await cache.lookup(), b"rows", ttl=0.05)
    assert (await cache.lookup()).payload == b"rows"
    await asyncio.sleep(0.08)
    assert (await cache.lookup()).reason == "no entry"


async def test_fresh_after_follows_the_moves(
    cache: Cache, start_caches: Callable[[str], Cache], own_redis: OwnRedis
) -> None:
    await cache.lookup()
    first = (await cache.lookup()).fresh_after
    assert (await cache.lookup()).fresh_after == first
    before = time.monotonic()
    await cache.move("orders")
    own = (await cache.lookup()).fresh_after
    assert own >= before > first
    other = start_caches(own_redis.url)  # moves "*" as it starts
    await other.up()
    await other.move("orders")
    learned = time.monotonic()
    assert (await cache.lookup()).fresh_after >= learned


async def test_two_processes_share_entries_and_moves(
    cache: Cache, start_caches: Callable[[str], Cache], own_redis: OwnRedis
) -> None:
    other = start_caches(own_redis.url)
    await other.up()
    await cache.store(b"rows")
    assert (await other.lookup()).payload == b"rows"
    await other.move("orders")
    assert (await cache.lookup()).reason == "invalidated"


async def test_a_new_process_trusts_nothing_stored_before(
    cache: Cache, start_caches: Callable[[str], Cache], own_redis: OwnRedis
) -> None:
    await cache.store(b"rows")
    other = start_caches(own_redis.url)
    await other.up()
    assert (await other.lookup()).reason == "invalidated"


async def test_a_large_result(cache: Cache) -> None:
    rows = os.urandom(1 << 20)
    await cache.store(rows)
    assert (await cache.lookup()).payload == rows


ROWS = b"".join(b"row %d of many that are alike;" % number for number in range(3000))


async def test_long_results_are_compressed(
    own_redis: OwnRedis, start_caches: Callable[..., Cache]
) -> None:
    cache, never = start_caches(own_redis.url), start_caches(own_redis.url, compress_above=0)
    await cache.up()
    await never.up()
    await cache.store(ROWS)
    client = own_redis.client()
    compressed = client.strlen(ENTRY)
    assert compressed < len(ROWS) / 4
    hit = await never.lookup()  # who doesn't compress reads it all the same
    assert (hit.payload, hit.reason) == (ROWS, "hit")
    await cache.move("orders")
    assert (await cache.lookup()).reason == "invalidated"
    await never.store(ROWS)
    assert client.strlen(ENTRY) > len(ROWS)
    assert (await cache.lookup()).payload == ROWS


async def test_encrypted_results(own_redis: OwnRedis, start_caches: Callable[..., Cache]) -> None:
    key, another = SecretStr("ab" * 32), SecretStr("cd" * 32)
    one, two, other, without = caches = [
        start_caches(own_redis.url, encryption_key=secret) for secret in (key, key, another, None)
    ]
    for cache in caches:
        await cache.up()
    await one.store(ROWS)
    await one.store(b"a secret row", "short")
    client = own_redis.client()
    short = KEYS.result("orders", digest("short"))
    assert b"row" not in client.get(ENTRY) + client.get(short)
    assert client.strlen(ENTRY) < len(ROWS) / 4
    assert (await two.lookup()).payload == ROWS
    assert (await two.lookup("short")).payload == b"a secret row"
    for stranger in (other, without):
        assert (await stranger.lookup()).reason == "entry of another version or key"
    await without.store(b"forged", "short")
    assert (await one.lookup("short")).reason == "entry of another version or key"
    manager = CacheManager.from_url(
        own_redis.url, "penstock", DATABASE, codec=Codec(0, b"\xab" * 32)
    )
    try:
        await manager.set("greeting", b"hello row")
        assert await manager.get("greeting") == b"hello row"
        assert b"row" not in client.get(KEYS.application("greeting"))
    finally:
        await manager.close()


async def test_a_thousand_lookups_at_once(cache: Cache) -> None:
    await cache.store(b"0", "q0")
    for i in range(1, 50):
        await cache.store(str(i).encode(), f"q{i}")
    found = await asyncio.gather(*(cache.lookup(f"q{i % 50}") for i in range(1000)))
    assert [int(hit.payload or b"-1") for hit in found] == [i % 50 for i in range(1000)]


def _damaged(entry: bytes) -> list[bytes]:
    flipped = [
        entry[:i] + bytes((entry[i] ^ 0x20,)) + entry[i + 1 :] for i in range(0, len(entry), 3)
    ]
    count = struct.unpack_from(">H", entry, 3)[0]
    miscounted = [entry[:3] + struct.pack(">H", n) + entry[5:] for n in (0, count - 1, 60000)]
    return [*flipped, *miscounted, b"", b"P", entry[:-1], entry[:20], entry + b"!", b"\x80\x04N."]


async def test_a_damaged_entry_is_a_miss_and_is_replaced(cache: Cache, own_redis: OwnRedis) -> None:
    client = own_redis.client()
    await cache.store(b"rows and rows")
    entry = client.get(ENTRY)
    for damaged in _damaged(entry):
        client.set(ENTRY, damaged)
        found = await cache.lookup()
        assert found.payload is None
        assert found.reason == "damaged entry", damaged
        assert found.ticket is not None
    assert cache.service.results.statistics.misses["damaged entry"] == len(_damaged(entry))
    cache.fill(found, b"again")
    assert (await cache.lookup()).payload == b"again"


async def test_an_entry_of_another_version_is_a_miss(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.store(b"rows")
    client = own_redis.client()
    entry = client.get(ENTRY)
    client.set(ENTRY, entry[:1] + b"\x01" + entry[2:])
    assert (await cache.lookup()).reason == "entry of another version or key"


async def test_an_entry_under_another_key_is_a_miss(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.store(b"rows")
    own_redis.client().copy(ENTRY, KEYS.result("orders", digest("another")))
    assert (await cache.lookup("another")).reason == "damaged entry"


async def test_keys_of_another_type_are_misses(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.store(b"rows")
    client = own_redis.client()
    client.delete(ENTRY)
    client.rpush(ENTRY, b"a", b"b")
    assert (await cache.lookup()).reason == "no entry"
    client.set(KEYS.epoch("orders"), b"")
    assert (await cache.lookup()).ticket is None
    await cache.move("orders")
    cache.fill(await cache.lookup(), b"healed")
    assert (await cache.lookup()).payload == b"healed"


@pytest.mark.parametrize("evicted", ["orders", "*"])
async def test_an_evicted_epoch_never_comes_back(
    cache: Cache, own_redis: OwnRedis, evicted: str
) -> None:
    await cache.store(b"rows")
    own_redis.client().delete(KEYS.epoch(evicted))
    found = await cache.lookup()
    assert (found.payload, found.reason) == (None, "invalidated")
    assert (await cache.lookup()).reason == "invalidated"
    await cache.store(b"new rows")


async def test_an_epoch_evicted_between_lookup_and_fill(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.lookup()
    found = await cache.lookup()
    own_redis.client().delete(KEYS.epoch("orders"))
    cache.fill(found, b"rows")
    assert (await cache.lookup()).payload is None
    assert cache.service.results.statistics.refused_fills == 1


async def test_flushall(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.store(b"rows")
    found = await cache.lookup("another")
    own_redis.client().flushall()
    assert (await cache.lookup()).payload is None
    cache.fill(found, b"late")
    await cache.store(b"new rows")
    assert (await cache.lookup("another")).reason == "no entry"


async def test_a_server_that_lost_its_scripts(cache: Cache, own_redis: OwnRedis) -> None:
    own_redis.client().script_flush()
    await cache.store(b"rows")


async def test_a_database_named_later_is_invalidated_first(
    cache: Cache, own_redis: OwnRedis
) -> None:
    results = cache.service.results
    client = own_redis.client()
    other = KeySpace("penstock", "odd:{name}*")
    client.set(other.epoch("*"), b"x" * 16)
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    results.lookup("odd:{name}*", "orders", digest(), ORDERS, answer.set_result)
    await answer
    assert client.get(other.epoch("*")) not in (None, b"x" * 16)


async def test_statistics(cache: Cache) -> None:
    await cache.lookup(rule="point")
    cache.fill(await cache.lookup(rule="point"), b"rows")
    for _ in range(2):
        await cache.lookup(rule="point")
    statistics = cache.service.results.statistics
    assert (statistics.hits, statistics.fills, statistics.bytes_served) == (2, 1, 8)
    assert statistics.hit_rate == 0.5
    rule = statistics.rules["point"]
    assert (rule.hits, rule.misses, rule.fills) == (2, 2, 1)
