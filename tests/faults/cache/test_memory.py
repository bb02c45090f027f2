"""Answers from a process's memory are never older than a write acknowledged before the question,
whichever process took the write, and whatever happens to the processes and to what is between them.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from proxy.cache.manager import CacheManager
from proxy.cache.members import WAIT_SECONDS
from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.faults.cache.history import History
from tests.faults.cache.test_coherence_faults import READ, redis_dies, redis_freezes
from tests.faults.cache.workload import PRECISE, RULE, Workload, metric
from tests.integration.cache.caches import eventually
from tests.integration.session.raw import SYNC, RawClient, bind, execute, parse, query
from tests.integration.session.test_cancel import cancel
from tests.proxies import Proxy, running_proxy

READS = 1000
MEMORY_HITS = "penstock_cache_memory_hits_total"
WRITE = "UPDATE c_plain SET version = {} WHERE id = 1"


async def _remembered(reader: RawClient, proxy: Proxy, value: str = "0") -> None:
    """Return when the row as it is comes from the proxy's memory."""
    before = metric(proxy, MEMORY_HITS)
    async with asyncio.timeout(10):
        while metric(proxy, MEMORY_HITS) == before:
            assert (await reader.query(READ)).value == value


async def _two(cleanup: ExitStack, schema: Database, place: Path) -> list[Proxy]:
    """On the primary alone: a read past the cache may lag on a replica behind the other's write.
    Patient, so that on a busy machine neither takes Redis for away while the other has it."""
    environment = {
        f"PENSTOCK_DATABASE__{schema.name.upper()}__REPLICAS__READ_PREFERENCE": "primary",
        "PENSTOCK_CACHE__TIMEOUT": "10s",
        "PENSTOCK_CACHE__RECONNECT_INTERVAL": "50ms",
    }
    return [
        cleanup.enter_context(running_proxy(schema, place, extra=RULE, environment=environment))
        for _ in range(2)
    ]


async def test_a_write_through_another_process(schema: Database, tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        one, other = await _two(cleanup, schema, tmp_path)
        reader, writer = await RawClient.login(one), await RawClient.login(other)
        for version in range(1, 30):
            await _remembered(reader, one, str(version - 1))
            assert (await writer.query(WRITE.format(version))).tags == ["UPDATE 1"]
            assert (await reader.query(READ)).value == str(version)
        assert metric(other, "penstock_cache_unconfirmed_moves_total") == 0


async def test_a_process_that_stands_still_for_longer_than_its_trust(
    schema: Database, tmp_path: Path
) -> None:
    """The writer waits for that long, and no longer; and the other knows when it goes on."""
    with ExitStack() as cleanup:
        one, other = await _two(cleanup, schema, tmp_path)
        reader, writer = await RawClient.login(one), await RawClient.login(other)
        await _remembered(reader, one)
        os.kill(one.process.pid, signal.SIGSTOP)
        try:
            reader.send(query(READ))  # it finds this first when it goes on
            writer.send(query(WRITE.format(1)))
            assert await writer.silent(WAIT_SECONDS / 2)
            async with asyncio.timeout(10):
                assert (await writer.until("Z")).tags == ["UPDATE 1"]
            reader.send(query(READ))
        finally:
            os.kill(one.process.pid, signal.SIGCONT)
        await reader.until("Z")  # it was asked before the write was acknowledged
        assert (await reader.until("Z")).value == "1"
        assert metric(other, "penstock_cache_unconfirmed_moves_total") >= 1
        assert (await writer.query(WRITE.format(2))).tags == ["UPDATE 1"]
        assert (await reader.query(READ)).value == "2"


Cut = Callable[[Stack], None]


def _client(servers: Stack) -> "redis.Redis":
    assert servers.redis is not None
    return redis.Redis.from_url(servers.redis.url)


def messages_cut(servers: Stack) -> None:
    _client(servers).client_kill_filter(_type="pubsub")


def commands_cut(servers: Stack) -> None:
    _client(servers).client_kill_filter(_type="normal", skipme=True)


def everything_flushed(servers: Stack) -> None:
    _client(servers).flushall()


@pytest.mark.parametrize(
    "cut", [messages_cut, commands_cut, pytest.param(everything_flushed, marks=pytest.mark.nightly)]
)
async def test_what_is_between_them_breaks_again_and_again(
    schema: Database, servers: Stack, tmp_path: Path, cut: Cut
) -> None:
    async def fault() -> None:
        for _ in range(6):
            await asyncio.sleep(0.4)
            await asyncio.to_thread(cut, servers)

    await _workload(schema, tmp_path, fault)


async def test_a_process_that_stands_still_under_load(schema: Database, tmp_path: Path) -> None:
    """For less than its trust lasts, and for more."""
    with ExitStack() as cleanup:
        proxies = await _two(cleanup, schema, tmp_path)

        async def fault() -> None:
            for seconds in (0.3, 1.5, 0.8, 1.2):
                await asyncio.sleep(0.4)
                os.kill(proxies[0].process.pid, signal.SIGSTOP)
                await asyncio.sleep(seconds)
                os.kill(proxies[0].process.pid, signal.SIGCONT)

        workload = Workload(proxies, PRECISE, History())
        await workload.run(READS, readers=10, fault=fault())
        assert workload.history.verdict() == ""


@pytest.mark.parametrize(
    "fault", [pytest.param(redis_dies, marks=pytest.mark.nightly), redis_freezes]
)
async def test_redis_is_lost_to_both(
    schema: Database,
    servers: Stack,
    tmp_path: Path,
    fault: Callable[[Stack, Workload], Awaitable[None]],
) -> None:
    with ExitStack() as cleanup:
        proxies = await _two(cleanup, schema, tmp_path)
        workload = Workload(proxies, PRECISE, History())
        await workload.run(READS, readers=10, fault=fault(servers, workload))  # type: ignore[arg-type]
        assert workload.history.verdict() == ""


async def _workload(schema: Database, place: Path, fault: Callable[[], Awaitable[None]]) -> None:
    with ExitStack() as cleanup:
        proxies = await _two(cleanup, schema, place)
        workload = Workload(proxies, PRECISE, History())
        await workload.run(READS, readers=10, fault=fault())  # type: ignore[arg-type]
        assert workload.history.verdict() == ""
        assert workload.failures == 0
        assert sum(metric(one, MEMORY_HITS) for one in proxies) > 0


async def test_over_two_workers(schema: Database, tmp_path: Path) -> None:
    two = {"PENSTOCK_SERVER__WORKERS": "2"}
    with running_proxy(schema, tmp_path, extra=RULE, environment=two) as proxy:
        workload = Workload([proxy], PRECISE, History())
        await workload.warm()
        await workload.run(READS, readers=12)
        assert workload.history.verdict() == ""
        assert workload.failures == 0
        assert metric(proxy, MEMORY_HITS) > 0


async def test_a_clearing_by_another_process_reaches_the_memory(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    """A write past the proxy shows once the cache was cleared, whole, by table or by key."""
    assert servers.redis is not None
    with running_proxy(schema, tmp_path, extra=RULE) as proxy:
        reader = await RawClient.login(proxy)
        manager = CacheManager.from_url(servers.redis.url, "penstock", schema.name)
        with psycopg.connect(schema.dsn(), autocommit=True) as around:
            for version, pattern in enumerate(("*", "c_pl*", "c_plain:[0-9a-f]*"), 1):
                await _remembered(reader, proxy, str(version - 1))
                around.execute(WRITE.format(version).encode())
                assert (await reader.query(READ)).value == str(version - 1)
                await manager.clear(pattern)
                assert (await reader.query(READ)).value == str(version)
        await manager.close()


async def test_an_answer_in_memory_lives_no_longer_than_the_rule_says(
    schema: Database, tmp_path: Path
) -> None:
    short = RULE.replace("60s", "2s")
    with running_proxy(schema, tmp_path, extra=short) as proxy:
        reader = await RawClient.login(proxy)
        await _remembered(reader, proxy)
        with psycopg.connect(schema.dsn(), autocommit=True) as around:
            around.execute(WRITE.format(1).encode())
        async with asyncio.timeout(10):
            while (await reader.query(READ)).value == "0":
                pass


async def test_a_pipeline_of_hits(schema: Database, tmp_path: Path) -> None:
    """Answers come in order, each once, also with what goes to a server between them."""
    with running_proxy(schema, tmp_path, extra=RULE) as proxy:
        client = await RawClient.login(proxy)
        await _remembered(client, proxy)
        client.send(b"".join([query(READ), query("SELECT 7"), query(READ), query(READ)]))
        values = [(await client.until("Z")).value for _ in range(4)]
        assert values == ["0", "7", "0", "0"]
        once = parse(READ) + bind() + execute() + SYNC
        client.send(once * 50)
        values = [(await client.until("Z")).value for _ in range(50)]
        assert values == ["0"] * 50


HELD = "SELECT version FROM c_held WHERE id = 1 /* penstock: primary */"
LONG = {"PENSTOCK_CACHE__COALESCE": "100s", "PENSTOCK_CACHE__TIMEOUT": "10s"}


@contextmanager
def _held(schema: Database) -> Iterator[psycopg.Connection[Any]]:
    """Nobody can read c_held until the connection commits."""
    with superuser_connection(schema.stack.primary, schema.name) as holder:
        holder.execute("BEGIN; LOCK TABLE c_held")
        yield holder


def _reads_of_held(schema: Database) -> int:
    """Statements that wait for the lock."""
    with superuser_connection(schema.stack.primary, schema.name) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE relation = 'c_held'::regclass AND NOT granted"
        ).fetchone()
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def _one_reads_held(
    schema: Database, place: Path
) -> AsyncIterator[tuple[Proxy, RawClient, psycopg.Connection[Any]]]:
    """(proxy, a client whose read of c_held is under way, who holds it up)."""
    with psycopg.connect(schema.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE c_held AS SELECT 1 AS id, 7 AS version")
    with running_proxy(schema, place, extra=RULE, environment=LONG) as proxy:
        leader = await RawClient.login(proxy)
        await _remembered(leader, proxy)  # the cache is in use
        with _held(schema) as holder:
            leader.send(query(HELD))
            await eventually(lambda: _reads_of_held(schema) == 1, 60.0)
            yield proxy, leader, holder


async def test_a_hot_key_that_nobody_has_is_read_once(schema: Database, tmp_path: Path) -> None:
    """By 500 clients at once."""
    async with _one_reads_held(schema, tmp_path) as (proxy, leader, holder):
        clients = [await RawClient.login(proxy) for _ in range(499)]
        misses = metric(proxy, "penstock_cache_misses_total")
        for client in clients:
            client.send(query(HELD))
        await eventually(lambda: metric(proxy, "penstock_cache_misses_total") == misses + 499, 60.0)
        assert _reads_of_held(schema) == 1
        holder.execute("COMMIT")
        assert {(await one.until("Z")).value for one in (leader, *clients)} == {"7"}
        assert metric(proxy, "penstock_cache_coalesced_total") == 499
        for client in clients:
            client.vanish()


async def test_a_client_that_waits_for_another_s_read_can_be_canceled(
    schema: Database, tmp_path: Path
) -> None:
    async with _one_reads_held(schema, tmp_path) as (proxy, leader, holder):
        misses = metric(proxy, "penstock_cache_misses_total")
        follower = await RawClient.login(proxy)
        follower.send(query(HELD))
        await eventually(lambda: metric(proxy, "penstock_cache_misses_total") > misses, 60.0)
        await cancel(proxy, follower.process_id, follower.secret)
        reply = await follower.until("Z")
        assert reply.errors == ["57014"]
        assert (await follower.query(READ)).value == "0"
        assert _reads_of_held(schema) == 1
        holder.execute("COMMIT")
        assert (await leader.until("Z")).value == "7"
        assert (await follower.query(HELD)).value == "7"


async def test_a_leader_that_leaves_lets_the_others_read(schema: Database, tmp_path: Path) -> None:
    async with _one_reads_held(schema, tmp_path) as (proxy, leader, holder):
        follower = await RawClient.login(proxy)
        misses = metric(proxy, "penstock_cache_misses_total")
        follower.send(query(HELD))
        await eventually(lambda: metric(proxy, "penstock_cache_misses_total") > misses, 60.0)
        leader.vanish()
        await eventually(lambda: metric(proxy, "penstock_clients") == 1, 60.0)
        await eventually(lambda: _reads_of_held(schema) >= 1, 60.0)
        holder.execute("COMMIT")
        assert (await follower.until("Z")).value == "7"
        assert metric(proxy, "penstock_cache_coalesced_total") == 0
