"""Server connections that end, at every stage: their client hears of it, nobody else does."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.local.stack import Stack
from tests.databases import Database
from tests.faults.session.watching import backends, becomes, bystander, healed, terminate
from tests.integration.session.raw import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Gone,
    RawClient,
    Reply,
    bind,
    copy_data,
    describe,
    execute,
    parse,
    query,
    run,
)
from tests.proxies import Proxy, running_proxy

LOST = {"57P01", "08006", "57P02", "57P03"}


@pytest.fixture
async def one(small: Proxy) -> AsyncIterator[RawClient]:
    """A client of a proxy whose database has a table t."""
    client = await RawClient.login(small)
    await client.query("DROP TABLE IF EXISTS t")
    await client.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    yield client
    await client.leave()


async def the_backend(one: RawClient) -> int:
    """The one that serves this client's transaction."""
    return int((await one.query("SELECT pg_backend_pid()")).value or 0)


async def usable(one: RawClient) -> None:
    """The client can go on, with its own answers."""
    for number in range(3):
        assert (await one.query(f"SELECT {number}")).value == str(number)
        assert (await one.ask(run(f"SELECT {number}"), SYNC)).value == str(number)


async def test_idle_in_the_pool(small: Proxy, one: RawClient) -> None:
    async with bystander(small):
        for _ in range(5):
            for process_id in backends(small, "state = 'idle'"):
                await asyncio.to_thread(terminate, small, process_id)
            await one.query("UPDATE t SET a = a")  # may be the one that learns of it
    await usable(one)
    await healed(small)


async def test_idle_in_a_transaction(small: Proxy, one: RawClient) -> None:
    async with bystander(small):
        await one.query("BEGIN")
        await one.query("UPDATE t SET a = 2")
        await asyncio.to_thread(terminate, small, await the_backend(one))
        reply = await one.query("SELECT 1")
        assert reply.errors
        assert set(reply.errors) <= LOST
        assert reply.status == "E"
        assert (await one.query("SELECT 1")).errors == ["25P02"]
        assert (await one.ask(run("SELECT 1"), SYNC)).errors == ["25P02"]
        assert (await one.query("COMMIT")).tags == ["ROLLBACK"]
        assert (await one.query("SELECT a FROM t")).value == "1"
        await usable(one)
        await healed(small)


@pytest.mark.parametrize("extended", [False, True])
async def test_in_a_query(small: Proxy, one: RawClient, extended: bool) -> None:
    async with bystander(small):
        sleep = "UPDATE t SET a = 2 WHERE pg_sleep(30) IS NOT NULL"
        one.send(run(sleep) + SYNC if extended else query(sleep))
        await _kill_active(small)
        reply = await one.until("Z")
        assert len(reply.errors) == 1
        assert set(reply.errors) <= LOST
        assert reply.status == "I"
        assert (await one.query("SELECT a FROM t")).value == "1"
        await usable(one)
        await healed(small)


async def test_in_a_transactions_query(small: Proxy, one: RawClient) -> None:
    async with bystander(small):
        await one.query("BEGIN; UPDATE t SET a = 2")
        one.send(query("SELECT pg_sleep(30)"))
        await _kill_active(small)
        reply = await one.until("Z")
        assert (len(reply.errors), reply.status) == (1, "E")
        assert (await one.query("INSERT INTO t VALUES (3)")).errors == ["25P02"]
        assert (await one.query("ROLLBACK")).status == "I"
        assert (await one.query("SELECT a FROM t")).rows == [("1",)]
        await healed(small)


async def test_behind_a_flush(small: Proxy, one: RawClient) -> None:
    async with bystander(small):
        one.send(run("UPDATE t SET a = 2 WHERE pg_sleep(30) IS NOT NULL"), FLUSH)
        await _kill_active(small)
        assert set((await one.until("E")).errors) <= LOST
        one.send(run("SELECT 1"), FLUSH)
        assert (await one.ask(SYNC)).kinds == "Z"
        assert (await one.query("SELECT a FROM t")).value == "1"
        await healed(small)


async def test_in_a_parse(small: Proxy, one: RawClient) -> None:
    """Another session's lock keeps the server in Parse."""
    async with bystander(small):
        other = await RawClient.login(small)
        await other.query("BEGIN; LOCK TABLE t")
        one.send(parse("UPDATE t SET a = 2", "p"), describe("p"), FLUSH)
        await _kill_active(small, "wait_event_type = 'Lock'")
        reply = await one.until("E")
        assert set(reply.errors) <= LOST
        await other.query("ROLLBACK")
        assert (await one.ask(SYNC)).status == "I"
        reply = await one.ask(parse("SELECT a FROM t", "p"), bind(name="p"), execute(), SYNC)
        assert reply.value == "1"
        await healed(small)


async def test_in_the_middle_of_a_result(small: Proxy, one: RawClient) -> None:
    """Rows of a primary's transaction have been passed on: an error between two messages, or the
    end of the connection."""
    async with bystander(small):
        await one.query("BEGIN")
        process_id = await the_backend(one)
        one.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 10000)"))
        await one.receive()
        await asyncio.to_thread(os.kill, process_id, signal.SIGTERM)
        kinds = ""
        try:
            while (got := await one.receive()).kind != "Z":
                kinds += got.kind
                if got.kind == "D":
                    assert len(got.body) == 100006
        except Gone:
            kinds += "."
        assert kinds.strip("DT") in ("E", ".", "E.")
        await healed(small)


async def test_during_copy_in(small: Proxy, one: RawClient) -> None:
    async with bystander(small):
        for done in (True, False):
            one.send(query("COPY t FROM STDIN"))
            await one.until("G")
            one.send(copy_data(b"5\n"))
            await _kill_active(small, "query LIKE 'COPY%'")
            reply = await one.until("Z")
            assert (len(reply.errors), reply.status) == (1, "I")
            one.send(copy_data(b"6\n"), COPY_DONE if done else copy_data(b""))
            await usable(one)
        assert (await one.query("SELECT a FROM t")).rows == [("1",)]
        await healed(small)


async def test_while_a_client_sends_copy_data(small: Proxy, one: RawClient) -> None:
    """The COPY ends in the middle of one of the client's messages."""
    async with bystander(small):
        one.send(query("COPY t FROM STDIN"))
        await one.until("G")
        data = copy_data(b"5\n" * 5000)
        one.send(data[:3000])
        await _kill_active(small, "query LIKE 'COPY%'")
        reply = await one.until("E")
        assert set(reply.errors) <= LOST
        one.send(data[3000:], COPY_DONE)
        if await one.silent(0.3):  # either it goes on, or it has been closed
            await usable(one)
        await healed(small)


async def test_a_pinned_session(small: Proxy, one: RawClient) -> None:
    """What it had is gone with its server connection: it must not go on without."""
    async with bystander(small):
        await one.query("CREATE TEMP TABLE mine (a int)")
        await asyncio.to_thread(terminate, small, await the_backend(one))
        rest = await one.rest()
        assert {each.fields["C"] for each in rest if each.kind == "E"} <= LOST
        await healed(small)


async def test_statements_are_prepared_anew(small: Proxy, one: RawClient) -> None:
    await one.ask(parse("SELECT a + $1::int FROM t", "s"), SYNC)
    assert (await one.ask(bind(b"1", name="s"), execute(), SYNC)).value == "2"
    for process_id in backends(small):
        await asyncio.to_thread(terminate, small, process_id)
    await becomes(
        lambda: (
            not backends(small, "state = 'idle' AND backend_start < now() - interval '1 minute'")
        ),
        "",
    )
    assert (await one.ask(bind(b"2", name="s"), execute(), SYNC)).value == "3"


async def _kill_active(proxy: Proxy, condition: str = "query LIKE '%pg_sleep%'") -> None:
    active = f"state = 'active' AND {condition}"
    await becomes(lambda: bool(backends(proxy, active)), "the statement runs")
    for process_id in backends(proxy, active):
        await asyncio.to_thread(terminate, proxy, process_id)


async def test_a_crash_of_the_primary(own: Database, small: Proxy, one: RawClient) -> None:
    """One backend is killed: the server drops all connections and recovers."""
    await one.query("BEGIN")
    process_id = await the_backend(one)
    others = [await RawClient.login(small) for _ in range(4)]
    for each in others[:2]:
        each.send(query("UPDATE t SET a = 2 WHERE pg_sleep(20) IS NOT NULL"))
    await asyncio.sleep(0.2)
    os.kill(process_id, signal.SIGKILL)
    for each in others[:1]:
        assert set((await each.until("Z")).errors) <= LOST
    assert set((await one.query("SELECT 1")).errors) <= LOST
    await one.query("ROLLBACK")
    await _answers_again(others[2])
    for each in (one, *others):
        while (await each.query("SELECT a FROM t")).errors:
            pass
        await each.leave()
    await healed_after_restart(small)


async def test_a_restart_of_the_primary(servers: Stack, small: Proxy, one: RawClient) -> None:
    idle = [await RawClient.login(small) for _ in range(5)]
    await asyncio.to_thread(servers.primary.stop)
    try:
        reply = await one.query("UPDATE t SET a = 2")
        assert reply.errors
        assert set(reply.errors) <= LOST
        assert not (await idle[0].query("SELECT 1")).errors  # the replica still serves
        pipelined = await RawClient.login(small)
        pipelined.send(*(query("UPDATE t SET a = 3") for _ in range(500)))
        for _ in range(500):
            assert set((await pipelined.until("Z")).errors) <= LOST
    finally:
        await asyncio.to_thread(servers.primary.start)
    await _answers_again(one)
    for each in (*idle, pipelined, one):
        await usable(each)
    assert (await one.query("UPDATE t SET a = 4")).tags == ["UPDATE 1"]
    await healed_after_restart(small)


async def test_a_replica_that_is_killed(servers: Stack, small: Proxy, one: RawClient) -> None:
    """Reads go on as if nothing had happened, also the one that was running there."""
    await one.query("SELECT 1")
    running = await RawClient.login(small)
    running.send(query("SELECT 'late' FROM pg_sleep(1)"))
    async with bystander(small):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(servers.replicas[0].kill)
        try:
            assert (await running.until("Z")).value == "late"
            await usable(one)
        finally:
            await asyncio.to_thread(servers.replicas[0].start)
    await healed(small)


async def test_a_replica_that_is_shut_down(servers: Stack, small: Proxy) -> None:
    """It says goodbye to each connection, which is no answer to a query."""
    running = await RawClient.login(small)
    running.send(query("SELECT 'late' FROM pg_sleep(1)"))
    async with bystander(small):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(servers.replicas[0].stop)
        try:
            assert (await running.until("Z")).value == "late"
        finally:
            await asyncio.to_thread(servers.replicas[0].start)
    await healed(small)


async def _answers_again(one: RawClient) -> None:
    """An error comes at once or after a short wait for a connection."""
    async with asyncio.timeout(15):
        while (await one.query("CREATE TABLE IF NOT EXISTS again (a int)")).errors:
            pass


async def healed_after_restart(proxy: Proxy) -> None:
    await becomes(lambda: bool(backends(proxy)), "the pool is connected")
    await healed(proxy)


async def test_no_server_at_all(servers: Stack, own: Database, tmp_path: Path) -> None:
    """A client that logs in meanwhile is told why it can't, within the time to wait."""
    with running_proxy(own, tmp_path) as proxy:
        one = await RawClient.login(proxy)
        await asyncio.to_thread(servers.replicas[0].kill)
        await asyncio.to_thread(servers.primary.kill)
        try:
            replies: list[Reply] = [await one.query("SELECT 1") for _ in range(3)]
            assert all(set(reply.errors) <= LOST for reply in replies)
            assert all(reply.errors for reply in replies)
        finally:
            await asyncio.to_thread(servers.primary.start)
            await asyncio.to_thread(servers.replicas[0].start)
        await _answers_again(one)
