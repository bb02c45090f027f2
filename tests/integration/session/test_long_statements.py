"""Statements whose analysis takes long: nobody else waits for it, whatever becomes of it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.integration.session.raw import SYNC, RawClient, client, query, run
from tests.integration.session.test_cancel import cancel
from tests.integration.session.test_session_state import crowded
from tests.proxies import Proxy

__all__ = ["crowded"]

_numbers = count()


def long_statement() -> str:
    """A text of a new shape each time, that gives one row with 7."""
    number = next(_numbers)
    columns = " + ".join(f"n{number}.x{each} * 0" for each in range(100))
    values = ", ".join(f"1 AS x{each}" for each in range(100))
    return f"SELECT 7 + {columns} FROM (SELECT {values}) n{number}"


def analysts(pid: int) -> list[int]:
    """The processes beside a proxy of one worker."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def standing_still(proxy: Proxy) -> Iterator[None]:
    """No text is analysed beside the proxy."""
    (pid,) = analysts(proxy.process.pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_others_are_served_meanwhile(crowded: Proxy) -> None:
    async with client(crowded) as one, client(crowded) as other:
        await asyncio.sleep(1.0)  # until it has time again for a text that is new
        with standing_still(crowded):
            one.send(query(long_statement()))
            assert (await other.query("SELECT 'new', 2")).rows == [("new", "2")]
        assert (await one.until("Z")).value == "7"


@pytest.mark.parametrize("extended", [False, True])
async def test_what_comes_behind_comes_behind(crowded: Proxy, extended: bool) -> None:
    """Also a text of the same shape, which is then known."""
    text = long_statement()
    ask = (lambda sql: run(sql) + SYNC) if extended else query
    async with client(crowded) as one:
        one.send(ask(text) + ask("SELECT 1") + ask(text))
        values = [(await one.until("Z")).value for _ in range(3)]
    assert values == ["7", "1", "7"]


async def test_many_wait_for_the_same(crowded: Proxy) -> None:
    text = long_statement()
    clients = [await RawClient.login(crowded) for _ in range(5)]
    with standing_still(crowded):
        for one in clients:
            one.send(query(text))
    for one in clients:
        assert (await one.until("Z")).value == "7"
        await one.leave()


async def test_several_long_statements_of_one_batch(crowded: Proxy) -> None:
    async with client(crowded) as one:
        one.send(run(long_statement()) + run(long_statement()) + SYNC)
        assert (await one.until("Z")).rows == [("7",), ("7",)]


async def test_a_write_is_one(crowded: Proxy) -> None:
    async with client(crowded) as one:
        await one.query("CREATE TABLE long_written (n int)")
        text = long_statement()
        assert (await one.query(f"INSERT INTO long_written {text}")).errors == []
        assert (await one.query("SELECT n FROM long_written")).value == "7"
        await one.query("DROP TABLE long_written")


async def test_cancelled(crowded: Proxy) -> None:
    async with client(crowded) as one:
        with standing_still(crowded):
            one.send(query(long_statement()))
            await cancel(crowded, one.process_id, one.secret)
            assert (await one.until("Z")).errors == ["57014"]
            assert (await one.query("SELECT 1")).value == "1"
        assert (await one.query(long_statement())).value == "7"


async def test_the_client_leaves(crowded: Proxy) -> None:
    one = await RawClient.login(crowded)
    with standing_still(crowded):
        one.send(query(long_statement()))
        one.vanish()
    async with client(crowded) as other:
        assert (await other.query(long_statement())).value == "7"


async def test_in_a_transaction(crowded: Proxy) -> None:
    async with client(crowded) as one:
        await one.query("BEGIN")
        reply = await one.query(long_statement())
        assert (reply.value, reply.status) == ("7", "T")
        assert (await one.query("COMMIT")).status == "I"


async def test_behind_what_has_no_sync_yet(crowded: Proxy) -> None:
    async with client(crowded) as one:
        one.send(run("SELECT 1") + b"H\0\0\0\4")
        assert (await one.until("C")).value == "1"
        one.send(run(long_statement()) + SYNC)
        assert (await one.until("Z")).value == "7"


async def test_without_the_process_beside(proxy: Proxy) -> None:
    (pid,) = analysts(proxy.process.pid)
    async with client(proxy) as one:
        with standing_still(proxy):
            one.send(query(long_statement()))
            async with client(proxy) as other:
                await other.query("SELECT 1")
            os.kill(pid, signal.SIGKILL)
        assert (await one.until("Z")).value == "7"
        assert (await one.query(long_statement())).value == "7"
