"""The same promise while servers fail beside the workload."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.faults.cache.history import History
from tests.faults.cache.relay import relaying
from tests.faults.cache.workload import PRECISE, RULE, Workload, metric
from tests.integration.session.raw import RawClient, query
from tests.proxies import Proxy, running_proxy

READS = 1000

Fault = Callable[[Stack, Workload], Coroutine[None, None, None]]


async def replicas_pause(servers: Stack) -> None:
    """One or both stand still for a while, time and again."""
    chance = random.Random(2)
    for _ in range(4):
        chosen = chance.sample(servers.replicas, chance.choice((1, 2)))
        for replica in chosen:
            await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_pause()")
        await asyncio.sleep(0.5)
        for replica in chosen:
            await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_resume()")
        await asyncio.sleep(0.3)


async def redis_dies(servers: Stack, workload: Workload) -> None:
    """Killed, away for a while, started again with nothing in it."""
    assert servers.redis is not None
    for _ in range(2):
        await asyncio.sleep(0.8)
        await asyncio.to_thread(servers.redis.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(servers.redis.start)


async def redis_freezes(servers: Stack, workload: Workload) -> None:
    """It answers nothing, keeps all that it had, and goes on: for longer than the time-out, and
    for less."""
    assert servers.redis is not None
    for seconds in (0.1, 0.8, 0.2, 0.3):
        await asyncio.sleep(0.5)
        servers.redis.freeze()
        await asyncio.sleep(seconds)
        servers.redis.thaw()


async def backends_die(servers: Stack, workload: Workload, times: int = 60) -> None:
    """Any of the proxy's server connections, at any moment, in the middle of writes too."""
    name = workload.proxies[0].database.name
    with superuser_connection(servers.primary) as primary:
        for _ in range(times):
            await asyncio.to_thread(
                primary.execute,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = (SELECT pid "
                "FROM pg_stat_activity WHERE datname = %s AND usename = %s "
                "AND application_name = '' ORDER BY random() LIMIT 1)",
                [name, workload.proxies[0].database.user],
            )
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("fault", [redis_dies, redis_freezes, backends_die])
async def test_no_stale_read(
    schema: Database, servers: Stack, tmp_path: Path, fault: Fault
) -> None:
    with running_proxy(schema, tmp_path, extra=RULE) as proxy:
        workload = Workload([proxy], PRECISE, History())
        await workload.run(READS, readers=10, fault=fault(servers, workload))
        assert workload.history.verdict() == ""
        assert (workload.failures > 0) == (fault is backends_die)


async def test_replicas_that_stand_still(schema: Database, servers: Stack, tmp_path: Path) -> None:
    """Two proxies: what is too old for one to keep is known from the other's moves alone."""
    with (
        running_proxy(schema, tmp_path, extra=RULE) as first,
        running_proxy(schema, tmp_path, extra=RULE) as second,
    ):
        workload = Workload([first, second], PRECISE, History())
        await workload.warm()
        await workload.run(READS, readers=10, fault=replicas_pause(servers))
        assert workload.history.verdict() == ""
        assert workload.failures == 0


READ = "SELECT version FROM c_plain WHERE id = 1"


async def test_a_transaction_on_an_old_replica_keeps_nothing(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    with running_proxy(schema, tmp_path, extra=RULE) as proxy:
        snapshot, writer, reader = [await RawClient.login(proxy) for _ in range(3)]
        await _kept(reader, proxy)
        for replica in servers.replicas:
            await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_pause()")
        try:
            await writer.query("UPDATE c_plain SET version = 1 WHERE id = 1")
            await snapshot.query("BEGIN READ ONLY")
            assert (await snapshot.query(READ)).value == "0"  # or this test shows nothing
            await snapshot.query("COMMIT")
            assert (await reader.query(READ)).value == "1"
        finally:
            for replica in servers.replicas:
                await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_resume()")


async def test_a_write_is_acknowledged_when_redis_has_heard_of_its_end(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    assert servers.redis is not None
    patient = {"PENSTOCK_CACHE__TIMEOUT": "10s"}
    with running_proxy(schema, tmp_path, extra=RULE, environment=patient) as proxy:
        writer, reader = [await RawClient.login(proxy) for _ in range(2)]
        await _kept(reader, proxy)
        with superuser_connection(servers.primary, schema.name) as other:
            other.execute("BEGIN; SELECT FROM c_plain WHERE id = 1 FOR UPDATE")
            writer.send(query("UPDATE c_plain SET version = 1 WHERE id = 1"))
            assert await writer.silent(0.3)
            servers.redis.freeze()
            other.execute("COMMIT")
        try:
            await asyncio.to_thread(_await_version, schema, 1)
            assert await writer.silent(0.3)
        finally:
            servers.redis.thaw()
        assert (await writer.until("Z")).tags == ["UPDATE 1"]
        assert (await reader.query(READ)).value == "1"


async def test_a_write_whose_proxy_dies(schema: Database, tmp_path: Path) -> None:
    """Another proxy doesn't go on with what it had kept before the write."""
    with running_proxy(schema, tmp_path, extra=RULE) as other:
        reader = await RawClient.login(other)
        with (
            contextlib.suppress(AssertionError),  # the block's end complains of the kill
            running_proxy(schema, tmp_path, extra=RULE) as proxy,
        ):
            writer = await RawClient.login(proxy)
            await _kept(reader, other)
            writer.send(query("UPDATE c_plain SET version = 1 WHERE pg_sleep(0.5) IS NOT NULL"))
            await asyncio.sleep(0.3)
            proxy.process.kill()
            proxy.process.wait()
        await asyncio.to_thread(_await_version, schema, 1)
        assert (await reader.query(READ)).value == "1"


async def test_a_write_whose_server_is_cut_off(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    """Its connection is lost while it waits for a lock; it is committed all the same, later."""
    primary = f"PENSTOCK_DATABASE__{schema.name.upper()}__PRIMARY__PORT"
    extra = RULE.replace("60s", "300s") + "[routing]\nenabled = false\n"
    async with relaying(servers.primary.host, servers.primary.port) as relay:
        with running_proxy(
            schema, tmp_path, extra=extra, environment={primary: str(relay.own_port)}
        ) as proxy:
            writer, reader = [await RawClient.login(proxy) for _ in range(2)]
            await _kept(reader, proxy)
            with superuser_connection(servers.primary, schema.name) as other:
                other.execute("BEGIN; SELECT FROM c_plain WHERE id = 1 FOR UPDATE")
                writer.send(query("UPDATE c_plain SET version = 1 WHERE id = 1"))
                assert await writer.silent(0.3)
                await relay.cut(0.1)
                assert (await writer.until("E")).errors
                hits = metric(proxy, "penstock_cache_hits_total")
                async with asyncio.timeout(10):
                    while metric(proxy, "penstock_cache_hits_total") == hits:
                        assert (await reader.query(READ)).rows in ([], [("0",)])
                other.execute("COMMIT")
            await asyncio.to_thread(_await_version, schema, 1)
            async with asyncio.timeout(20):
                while (await reader.query(READ)).rows != [("1",)]:
                    pass


async def _kept(reader: RawClient, proxy: Proxy) -> None:
    """Return when the row as it is comes from the cache."""
    async with asyncio.timeout(5):
        while not metric(proxy, "penstock_cache_hits_total"):
            assert (await reader.query(READ)).value == "0"


def _await_version(database: Database, version: int) -> None:
    deadline = time.monotonic() + 10
    with superuser_connection(database.stack.primary, database.name) as connection:
        while connection.execute(READ.encode()).fetchone() != (version,):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("sql", ["UPDATE c_plain SET version = 5 WHERE id = 2", READ])
async def test_a_transaction_whose_server_is_lost_while_redis_is_asked(
    schema: Database, servers: Stack, tmp_path: Path, sql: str
) -> None:
    """Its next statement must not run on another connection, outside of it."""
    assert servers.redis is not None
    patient = {"PENSTOCK_CACHE__TIMEOUT": "10s", "PENSTOCK_CACHE__MEMORY": "0"}
    with running_proxy(schema, tmp_path, extra=RULE, environment=patient) as proxy:
        one = await RawClient.login(proxy)
        await _kept(one, proxy)
        await one.query("BEGIN")
        await one.query("SELECT pg_advisory_xact_lock(1)")
        process_id = (await one.query("SELECT pg_backend_pid()")).value
        servers.redis.freeze()
        try:
            one.send(query(sql))
            await asyncio.sleep(0.2)
            with superuser_connection(servers.primary) as primary:
                await asyncio.to_thread(
                    primary.execute, f"SELECT pg_terminate_backend({process_id}, 5000)".encode()
                )
            await asyncio.sleep(0.2)
        finally:
            servers.redis.thaw()
        reply = await one.until("Z")
        assert reply.errors[-1] in ("57P01", "08006")
        assert (reply.rows, reply.status) == ([], "E")
        assert (await one.query("SELECT 1")).errors == ["25P02"]
        assert (await one.query("COMMIT")).tags == ["ROLLBACK"]
        assert (await one.query("SELECT version FROM c_plain WHERE id = 2")).value == "0"


async def test_old_replicas_while_redis_is_away(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    """A row that the cache has shown to be new is not read from where it is old."""
    assert servers.redis is not None
    with running_proxy(schema, tmp_path, extra=RULE) as proxy:
        writer, reader = [await RawClient.login(proxy) for _ in range(2)]
        await _kept(reader, proxy)
        for replica in servers.replicas:
            await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_pause()")
        await asyncio.to_thread(servers.redis.kill)
        try:
            await writer.query("UPDATE c_plain SET version = 1 WHERE id = 1")
            for _ in range(4):
                assert (await reader.query(READ)).value == "1"
        finally:
            await asyncio.to_thread(servers.redis.start)
            for replica in servers.replicas:
                await asyncio.to_thread(replica.psql, "SELECT pg_wal_replay_resume()")
