"""Cancel requests: they hit the query that they are for, or nothing."""

import asyncio
import os
import random
import signal
import struct
from pathlib import Path

from tests.databases import Database
from tests.integration.session.raw import SYNC, RawClient, client, query, run
from tests.integration.session.test_session_state import crowded
from tests.proxies import Proxy, running_proxy

__all__ = ["crowded"]


async def cancel(proxy: Proxy, process_id: int, secret: bytes) -> None:
    """Send a cancel request, and wait until it has been taken."""
    one = await RawClient.open(proxy)
    one.send(struct.pack(">III", 12 + len(secret), 80877102, process_id) + secret)
    assert await one.rest() == []
    one.vanish()


async def test_a_running_query(crowded: Proxy) -> None:
    async with client(crowded) as one:
        for sql in (query("SELECT pg_sleep(20)"), run("SELECT pg_sleep(20)") + SYNC):
            one.send(sql)
            await asyncio.sleep(0.2)
            await cancel(crowded, one.process_id, one.secret)
            assert (await one.until("Z")).errors == ["57014"]
            assert (await one.query("SELECT 1")).value == "1"


async def test_in_a_transaction(crowded: Proxy) -> None:
    async with client(crowded) as one:
        await one.query("BEGIN")
        one.send(query("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.2)
        await cancel(crowded, one.process_id, one.secret)
        reply = await one.until("Z")
        assert (reply.errors, reply.status) == (["57014"], "E")
        assert (await one.query("ROLLBACK")).status == "I"


async def test_while_waiting_for_a_connection(crowded: Proxy) -> None:
    holders = [await RawClient.login(crowded) for _ in range(4)]
    for each in holders:
        await each.query("BEGIN; SELECT 1")
    async with client(crowded) as one:
        one.send(query("BEGIN"))
        await asyncio.sleep(0.1)
        await cancel(crowded, one.process_id, one.secret)
        assert (await one.until("Z")).errors == ["57014"]
        for each in holders:
            await each.query("COMMIT")
            await each.leave()
        assert (await one.query("SELECT 1")).value == "1"


async def test_while_the_connection_is_made_ready(database: Database, tmp_path: Path) -> None:
    """The query is not on the server yet: it must not be sent any more."""
    with running_proxy(database, tmp_path, extra="[pool]\nsize = 1\n") as proxy:
        async with client(proxy, work_mem="7MB") as one, client(proxy) as two:
            pid = int((await two.query("SELECT pg_backend_pid() FROM pg_sleep(0)")).value or "")
            await two.query("CREATE TABLE taken (id int)")
            os.kill(pid, signal.SIGSTOP)
            try:
                one.send(query("INSERT INTO taken VALUES (1)"))
                await asyncio.sleep(0.1)
                await cancel(proxy, one.process_id, one.secret)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert (await one.until("Z")).errors == ["57014"]
            assert (await one.query("SELECT count(*) FROM taken")).value == "0"


async def test_is_over_when_its_connection_ends(crowded: Proxy) -> None:
    """What is run from then on is not hit."""
    async with client(crowded) as one:
        await one.query("BEGIN")  # the server connection stays
        for _ in range(30):
            await one.query("SAVEPOINT here")
            one.send(query("SELECT pg_sleep(20)"))
            await asyncio.sleep(0.01)
            await cancel(crowded, one.process_id, one.secret)
            assert (await one.until("Z")).errors == ["57014"]
            one.send(query("ROLLBACK TO here"))
            assert not (await one.until("Z")).errors
            one.send(query("SELECT 1 FROM pg_sleep(0.001)"))
            await cancel(crowded, one.process_id, one.secret)
            await one.until("Z")
            assert not (await one.query("ROLLBACK TO here")).errors


async def test_wrong_keys_cancel_nothing(crowded: Proxy) -> None:
    async with client(crowded) as one:
        one.send(query("SELECT 'done' FROM pg_sleep(0.5)"))
        await asyncio.sleep(0.1)
        wrong = bytes(b ^ 1 for b in one.secret)
        for process_id, secret in (
            (one.process_id, wrong),
            (one.process_id ^ 1, one.secret),
            (one.process_id, one.secret[:-1]),
            (one.process_id, one.secret + b"\0"),
        ):
            await cancel(crowded, process_id, secret)
        assert (await one.until("Z")).value == "done"


async def test_nobody_elses_query_is_ever_canceled(crowded: Proxy) -> None:
    """Clients cancel at random moments, often too late; others only run short queries."""
    over = False

    async def impatient(seed: int) -> int:
        chance, hit = random.Random(seed), 0
        one = await RawClient.login(crowded)
        for _ in range(25):
            one.send(query(f"SELECT pg_sleep({chance.choice((0.0, 0.001, 0.005, 0.05))})"))
            await asyncio.sleep(chance.choice((0.0, 0.001, 0.004, 0.01)))
            canceling = asyncio.ensure_future(cancel(crowded, one.process_id, one.secret))
            reply = await one.until("Z")
            assert reply.errors in ([], ["57014"])
            hit += bool(reply.errors)
            if chance.random() < 0.5:
                await canceling
            else:  # its own next query may be hit, as with PostgreSQL
                assert (await one.query("SELECT 1")).errors in ([], ["57014"])
                await canceling
        await one.leave()
        return hit

    async def quiet(number: int) -> int:
        one, count = await RawClient.login(crowded), 0
        while not over:
            count += 1
            reply = await one.ask(run(f"SELECT {number} FROM pg_sleep(0.001)"), SYNC)
            assert (reply.errors, reply.value) == ([], str(number))
        await one.leave()
        return count

    quiet_ones = [asyncio.ensure_future(quiet(number)) for number in range(10)]
    hits = await asyncio.gather(*(impatient(seed) for seed in range(10)))
    over = True
    assert min(await asyncio.gather(*quiet_ones)) > 3
    assert sum(hits) > 3
