"""Redis killed, frozen, cut off, full or not ours: the cache is bypassed, never trusted."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.cache.keys import KeySpace
from proxy.cache.link import LinkState
from proxy.cache.members import WAIT_SECONDS
from proxy.cache.ticket import Lookup
from tests.integration.cache.caches import DATABASE, TIMEOUT, Cache, digest, eventually
from tests.integration.cache.servers import OwnRedis

EPOCH = KeySpace("penstock", DATABASE).epoch("orders")
SLACK = 0.3  # of a busy machine


async def test_nothing_waits_for_a_redis_that_is_away(
    own_redis: OwnRedis, start_caches: Callable[[str], Cache]
) -> None:
    own_redis.kill()
    cache = start_caches(own_redis.url)
    assert (await cache.lookup()).reason == "redis is away"
    await cache.move("orders")  # held until the first attempt has failed
    assert cache.service.link.state is LinkState.AWAY
    called: list[str] = []
    cache.service.results.announce(DATABASE, frozenset(["orders"]), lambda: called.append("sent"))
    cache.service.results.move(DATABASE, frozenset(["orders"]), lambda: called.append("done"))
    assert called == ["sent", "done"]


async def test_restarted_empty(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.store(b"rows")
    own_redis.kill()
    await cache.down()
    assert (await cache.lookup()).reason == "redis is away"
    own_redis.start()
    await cache.up()
    assert (await cache.lookup()).payload is None
    await cache.store(b"new rows")


async def test_restarted_with_older_data(cache: Cache, own_redis: OwnRedis) -> None:
    """The trap: what comes back from disk holds the old epochs and the entries that match them."""
    client = own_redis.client()
    await cache.store(b"old")
    client.save()
    old_epoch = client.get(EPOCH)
    await cache.move("orders")
    own_redis.kill()
    await cache.down()
    own_redis.start()
    await cache.up()
    assert client.get(EPOCH) == old_epoch
    assert (await cache.lookup()).reason == "invalidated"


async def test_a_ticket_from_before_a_restart_fills_nothing(
    cache: Cache, own_redis: OwnRedis
) -> None:
    await cache.lookup()
    found = await cache.lookup()
    own_redis.client().save()
    own_redis.kill()
    await cache.down()
    own_redis.start()
    await cache.up()
    cache.fill(found, b"late")
    assert (await cache.lookup()).payload is None
    assert cache.service.results.statistics.refused_fills == 1


async def test_a_broken_connection_alone_invalidates_nothing(
    cache: Cache, own_redis: OwnRedis
) -> None:
    await cache.store(b"rows")
    _cut(own_redis)
    assert (await cache.lookup()).reason == "redis is away"
    await cache.up()
    assert (await cache.lookup()).payload == b"rows"


async def test_a_write_while_cut_off_invalidates_at_the_return(
    cache: Cache, own_redis: OwnRedis
) -> None:
    await cache.store(b"old")
    await asyncio.sleep(0.1)  # a link that was up for less is not restored at once
    _cut(own_redis)
    await cache.move("orders")  # held until it is settled
    assert cache.service.up
    assert (await cache.lookup()).reason == "invalidated"


async def test_a_frozen_redis_is_given_up_in_time(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.store(b"old")
    own_redis.freeze()
    started = time.monotonic()
    found = await cache.lookup()
    assert found.reason == "redis is away"
    assert TIMEOUT * 0.9 < time.monotonic() - started < 1.25 * TIMEOUT + SLACK
    started = time.monotonic()
    await cache.move("orders")  # others could trust their memory for a while
    assert time.monotonic() - started < WAIT_SECONDS + SLACK
    own_redis.thaw()
    await cache.up()
    assert (await cache.lookup()).reason == "invalidated"


async def test_a_move_into_a_frozen_redis_is_owed(cache: Cache, own_redis: OwnRedis) -> None:
    await cache.store(b"old")
    own_redis.freeze()
    await cache.move("orders")
    assert cache.service.results.statistics.owed_moves >= 1
    assert not cache.service.up
    own_redis.thaw()
    await cache.up()
    assert (await cache.lookup()).reason == "invalidated"


async def test_an_own_stall_is_not_blamed_on_redis(cache: Cache) -> None:
    await cache.store(b"rows")
    waiting = asyncio.ensure_future(cache.lookup())
    await asyncio.sleep(0)
    time.sleep(3 * TIMEOUT)  # noqa: ASYNC251  the stall
    assert (await waiting).payload == b"rows"


async def test_a_flood_of_large_fills_into_a_frozen_redis_is_dropped(
    cache: Cache, own_redis: OwnRedis
) -> None:
    await cache.lookup()
    found = await cache.lookup()
    own_redis.freeze()
    noise = os.urandom(1 << 20)  # not to be compressed
    for _ in range(60):
        cache.fill(found, noise)
        await asyncio.sleep(0)
    assert cache.service.results.statistics.dropped_fills >= 30
    own_redis.thaw()


async def test_wrong_password(
    start_redis: Callable[..., OwnRedis], start_caches: Callable[[str], Cache]
) -> None:
    server = start_redis("--requirepass", "secret")
    with capture_logs() as logs:
        wrong = start_caches(f"redis://:wrong@127.0.0.1:{server.port}/0")
        await wrong.move("orders")
        assert (await wrong.lookup()).reason == "redis is away"
        await asyncio.sleep(0.3)  # several attempts
    assert [log["event"] for log in logs] == ["redis is away: reads bypass the cache"]
    assert "WRONGPASS" in logs[0]["why"]
    assert "wrong@" not in str(logs)
    right = start_caches(f"redis://default:secret@127.0.0.1:{server.port}/3")
    await right.up()
    await right.store(b"rows")
    server.password = "secret"
    assert server.client().dbsize() == 0  # it is in database 3


async def test_a_replica_is_refused(
    own_redis: OwnRedis,
    start_redis: Callable[..., OwnRedis],
    start_caches: Callable[[str], Cache],
) -> None:
    replica = start_redis("--replicaof", f"127.0.0.1 {own_redis.port}")
    with capture_logs() as logs:
        cache = start_caches(replica.url)
        await eventually(lambda: cache.service.link.state is LinkState.AWAY)
    assert "is a replica" in logs[0]["why"]
    replica.client().replicaof("NO", "ONE")
    await cache.up()
    await cache.store(b"rows")


async def test_a_primary_that_becomes_a_replica(
    cache: Cache, own_redis: OwnRedis, start_redis: Callable[..., OwnRedis]
) -> None:
    """The connection stays; the first move that it refuses ends the trust."""
    await cache.store(b"old")
    other = start_redis()
    own_redis.client().replicaof("127.0.0.1", str(other.port))
    await cache.move("orders")
    assert not cache.service.up
    assert (await cache.lookup()).reason == "redis is away"


async def test_a_full_redis_still_invalidates(cache: Cache, own_redis: OwnRedis) -> None:
    client = own_redis.client()
    await cache.store(b"old")
    client.config_set("maxmemory", "1")
    await cache.move("orders")
    assert cache.service.up
    assert (await cache.lookup()).payload is None
    assert cache.service.results.statistics.owed_moves == 0
    client.config_set("maxmemory", "0")
    await cache.store(b"new")


async def test_one_line_per_outage(cache: Cache, own_redis: OwnRedis) -> None:
    with capture_logs() as logs:
        own_redis.kill()
        await cache.down()
        await asyncio.sleep(0.4)  # several attempts
        own_redis.start()
        await cache.up()
    events = [log["event"] for log in logs]
    assert events[-1] == "redis is back: the cache is in use again"
    assert len(events) <= 3  # the break, why no attempt succeeds, the return


async def test_every_callback_is_called_once_whenever_redis_dies(
    cache: Cache, own_redis: OwnRedis
) -> None:
    dice = random.Random(7)
    results = cache.service.results
    for _ in range(6):
        asked = 0
        answers: list[Any] = []

        def looked_up(found: Lookup, answers: list[Any] = answers) -> None:
            answers.append(found)
            if found.ticket is not None:
                results.fill(found.ticket, b"rows" * 50, 60.0)

        kill_at = dice.randrange(200)
        for number in range(220):
            if number == kill_at:
                own_redis.kill()
            results.lookup(DATABASE, "orders", digest(str(number % 9)), ("orders",), looked_up)
            results.move(DATABASE, frozenset(["items"]), lambda: answers.append(None))  # noqa: B023
            asked += 2
            if dice.random() < 0.2:
                await asyncio.sleep(0)
        await eventually(lambda: len(answers) >= asked)  # noqa: B023
        own_redis.start()
        await cache.up()
        assert len(answers) == asked


async def test_closing_answers_everybody(cache: Cache, own_redis: OwnRedis) -> None:
    own_redis.freeze()
    waiting = [asyncio.ensure_future(cache.lookup()), asyncio.ensure_future(cache.move("orders"))]
    await asyncio.sleep(0.01)
    await cache.service.close()
    await asyncio.wait_for(asyncio.gather(*waiting), 1.0)
    assert (await cache.lookup()).reason == "redis is away"


@pytest.mark.parametrize(
    "garbage", [b"+OK\r\n", b":1\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"*1\r\n*1\r\n\x00"]
)
async def test_a_server_that_is_no_redis(
    start_caches: Callable[[str], Cache], garbage: bytes
) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage * 9)
        await writer.drain()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with capture_logs() as logs:
        cache = start_caches(f"redis://127.0.0.1:{port}/0")
        await cache.move("orders")
    assert (await cache.lookup()).reason == "redis is away"
    assert not [log for log in logs if log["log_level"] == "error"], logs
    server.close()


def _cut(server: OwnRedis) -> None:
    """End the connections of everybody else."""
    server.client().client_kill_filter(skipme=True)
