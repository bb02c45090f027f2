"""The monitor while servers pause, hang, die, are promoted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from proxy.local.postgres import PostgresServer
from proxy.local.stack import Stack
from tests.integration.topology.watching import (
    INTERVAL,
    Watched,
    becomes,
    connected,
    fresh,
    now,
    watched,
)
from tests.stacks import PrivateStack

PATIENCE = 10 * INTERVAL
SLACK = 3.0
"""A machine under load wakes processes late."""


@pytest.fixture(scope="module")
def servers(module_private_stack: PrivateStack) -> Stack:
    """For tests that leave the servers as they found them."""
    return module_private_stack(replicas=2)


@contextlib.asynccontextmanager
async def steady(stack: Stack) -> AsyncIterator[Watched]:
    """Watch `stack` once all its nodes are healthy."""
    async with watched(stack) as found:
        nodes = found.topology.nodes()
        await becomes(lambda: all(node.healthy for node in nodes), 10, "a healthy start")
        yield found


@contextlib.asynccontextmanager
async def killed(server: PostgresServer) -> AsyncIterator[None]:
    """The server is dead within the block and has started again after it."""
    await asyncio.to_thread(server.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


async def test_an_idle_replica_stays_fresh(servers: Stack) -> None:
    async with steady(servers) as found:
        await fresh(found.replica, now(), SLACK)
        oldest = 0.0
        for _ in range(40):
            await asyncio.sleep(INTERVAL / 4)
            oldest = max(oldest, now() - found.replica.fresh_until)
        assert oldest < 3 * INTERVAL + 0.2
        assert found.replica.lag_seconds == 0
        assert found.replica.lag_bytes == 0


@pytest.mark.parametrize("statement", ["SELECT pg_switch_wal()", "CHECKPOINT"])
async def test_a_record_that_ends_at_a_page_end_delays_nobody(
    servers: Stack, statement: str
) -> None:
    """Nor does it make the monitor write anything to move replicas on."""
    connection = await connected(servers.primary, servers.database)
    position = "SELECT pg_current_wal_insert_lsn()::text"
    async with steady(servers) as found:
        quiet = 0
        for _ in range(4):
            await connection.execute("SELECT pg_logical_emit_message(true, 'test', 'x')")
            await connection.execute(statement)
            before = await connection.fetchval(position)
            await fresh(found.replica, now() + 5 * INTERVAL, SLACK)
            quiet += before == await connection.fetchval(position)
        assert quiet >= 2  # PostgreSQL itself writes a record now and then
    await connection.close()


async def test_wal_that_waits_in_memory_delays_nobody(servers: Stack) -> None:
    """An open transaction's records are not flushed until somebody commits."""
    connection = await connected(servers.primary, servers.database)
    await connection.execute("CREATE TABLE IF NOT EXISTS tail (id int)")
    async with steady(servers) as found:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO tail SELECT generate_series(1, 100)")
        await fresh(found.replica, now(), SLACK)
        await transaction.rollback()
    await connection.close()


async def test_a_paused_replica_stands_still_and_moves_on(servers: Stack) -> None:
    writer = await connected(servers.primary, servers.database)
    standby = await connected(servers.replicas[0], servers.database)
    async with steady(servers) as found:
        paused, other = found.topology.replicas
        await fresh(paused, now(), SLACK)
        await standby.execute("SELECT pg_wal_replay_pause()")
        async with asyncio.timeout(10):
            while await standby.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
                await standby.execute("SELECT pg_sleep(0.01)")
        await writer.execute("SELECT pg_logical_emit_message(true, 'test', 'written')")
        written = now()
        await fresh(other, written, SLACK)
        await asyncio.sleep(1.0)
        assert paused.fresh_until < written
        assert paused.healthy
        assert paused.lag_bytes is not None
        assert paused.lag_bytes > 0
        assert paused.lag_seconds is not None
        assert 0.9 < paused.lag_seconds < 1.0 + SLACK
        assert other.lag_seconds == 0
        await standby.execute("SELECT pg_wal_replay_resume()")
        await fresh(paused, now(), SLACK)
        assert (paused.lag_bytes, paused.lag_seconds) == (0, 0)
    await standby.close()
    await writer.close()


async def test_a_killed_replica_is_noticed_at_once_and_welcomed_back(servers: Stack) -> None:
    async with steady(servers) as found:
        await fresh(found.replica, now(), SLACK)
        async with killed(servers.replicas[0]):
            assert await becomes(lambda: not found.replica.healthy, SLACK, "notice") < PATIENCE
            assert found.replica.fresh_until == float("-inf")
            assert found.replica.lag_seconds is None
            assert found.replica.error
            await fresh(found.topology.replicas[1], now(), SLACK)
        await fresh(found.replica, now(), 5 + SLACK)
        assert found.replica.healthy
        assert found.replica.error is None

        def changes() -> list[bool]:
            return [up for name, up in found.changes if name == "replica1"]

        await becomes(lambda: changes() == [True, False, True], SLACK, "three changes")


async def test_a_lost_connection_needs_no_round_to_be_noticed(servers: Stack) -> None:
    async with watched(servers, interval=30.0) as found:
        assert found.replica.healthy
        async with killed(servers.replicas[0]):
            await becomes(lambda: not found.replica.healthy, SLACK, "notice")


async def test_a_killed_primary_leaves_replicas_that_admit_their_age(servers: Stack) -> None:
    async with steady(servers) as found:
        primary, replica = found.topology.primary, found.replica
        await fresh(replica, now(), SLACK)
        async with killed(servers.primary):
            died = now()
            await becomes(lambda: not primary.healthy, SLACK, "notice")
            await asyncio.sleep(1.5)
            assert replica.healthy
            assert replica.fresh_until < died
            assert replica.lag_seconds is not None
            assert replica.lag_seconds > 1.0
        await fresh(replica, now(), 10 + SLACK)
        assert primary.healthy
        assert replica.lag_seconds == 0


async def test_a_server_that_hangs_is_noticed(servers: Stack) -> None:
    async with steady(servers) as found:
        servers.replicas[0].freeze()
        try:
            took = await becomes(lambda: not found.replica.healthy, PATIENCE + SLACK, "notice")
            assert took > PATIENCE / 2
            assert found.replica.error == "no answer within 1 s"
            await asyncio.sleep(2 * PATIENCE)
            assert found.replica.error == "no connection within 1 s"
        finally:
            servers.replicas[0].thaw()
        await fresh(found.replica, now(), 5 + SLACK)


async def test_an_address_that_accepts_and_never_answers(servers: Stack) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    hole = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = hole.sockets[0].getsockname()[1]
    async with watched(servers, ports=[port]) as found:
        node = found.topology.replicas[-1]
        assert node.error == "no connection within 1 s"
        assert not node.healthy
        assert found.replica.healthy
    hole.close()
    await hole.wait_closed()


async def test_a_first_round_does_not_wait_for_a_dead_address(servers: Stack) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    hole = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = hole.sockets[0].getsockname()[1]
    async with watched(servers, ports=[port]) as found:
        began = now()
        assert not await found.monitor.first_round(0.2)
        assert now() - began < 0.2 + SLACK
    hole.close()
    await hole.wait_closed()


async def test_nodes_that_are_not_what_they_are_called(private_stack: PrivateStack) -> None:
    stack = await asyncio.to_thread(private_stack, replicas=2)
    promoted, follower = stack.replicas
    async with steady(stack) as found:
        await asyncio.to_thread(promoted.psql, "SELECT pg_promote()")
        await becomes(lambda: not found.replica.healthy, 10, "notice")
        assert found.replica.error == (
            "is no standby, but configured as a replica: was it promoted?"
        )
    async with watched(stack, primary=promoted, replicas=[follower]) as found:
        assert found.topology.primary.healthy
        assert not found.replica.healthy
        assert (found.replica.error or "").startswith("is on timeline 1, the primary on 2")
    async with watched(stack, primary=follower, replicas=[]) as found:
        assert found.topology.primary.error == (
            "is a standby, but configured as primary: promote it or configure it as a replica"
        )


@pytest.mark.parametrize("sees_streams", [True, False])
async def test_a_failover_that_replicas_follow(
    private_stack: PrivateStack, sees_streams: bool
) -> None:
    stack = await asyncio.to_thread(private_stack, replicas=2)
    promoted, follower = stack.replicas
    login = None if sees_streams else (stack.app_user, stack.app_password)
    async with watched(stack, primary=promoted, replicas=[follower], login=login) as found:
        await becomes(lambda: not found.topology.primary.healthy, SLACK, "a standby is no primary")
        await asyncio.to_thread(stack.primary.kill)
        await asyncio.to_thread(promoted.psql, "SELECT pg_promote()")
        await becomes(lambda: found.topology.primary.healthy, 10, "the new primary")
        await asyncio.sleep(5 * INTERVAL)
        assert not found.replica.healthy
        await asyncio.to_thread(follower.stop)
        slot = "SELECT pg_create_physical_replication_slot('replica2')"
        await asyncio.to_thread(promoted.psql, slot)
        follower.point_at(promoted)
        await asyncio.to_thread(follower.start)
        if not sees_streams:
            await asyncio.to_thread(promoted.psql, "CHECKPOINT")
            await asyncio.to_thread(
                follower.wait_until,
                "(SELECT received_tli = 2 AND latest_end_lsn = pg_last_wal_replay_lsn() "
                "FROM pg_stat_wal_receiver)",
                15,
                "following the new primary",
            )
            await asyncio.to_thread(follower.psql, "CHECKPOINT")
        await fresh(found.replica, now(), 15)
        assert found.replica.healthy


async def test_a_stranger_is_no_replica(private_stack: PrivateStack, servers: Stack) -> None:
    stranger = await asyncio.to_thread(private_stack, replicas=1)
    login = (stranger.app_user, stranger.app_password)
    async with watched(servers, replicas=stranger.replicas, login=login) as found:
        await becomes(lambda: found.topology.primary.healthy, SLACK, "the primary")
        await found.monitor.sample_now()
        assert not found.replica.healthy
        assert (found.replica.error or "").startswith("is no replica of this primary")
