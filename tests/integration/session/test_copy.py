"""COPY both ways, to its end, to its failure, and in odd pieces."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.session.raw import (
    COPY_DONE,
    FLUSH,
    SYNC,
    RawClient,
    bind,
    copy_data,
    copy_fail,
    execute,
    message,
    parse,
    query,
    run,
)
from tests.proxies import Proxy

COPY = "COPY t FROM STDIN"


@pytest.fixture
async def one(module_proxy: Proxy) -> AsyncIterator[RawClient]:
    """A client, and an empty table t."""
    client = await RawClient.login(module_proxy)
    await client.query("DROP TABLE IF EXISTS t; CREATE TABLE t (a int)")
    yield client
    await client.leave()


async def total(one: RawClient) -> str | None:
    return (await one.query("SELECT sum(a) FROM t")).value


async def test_out(one: RawClient) -> None:
    reply = await one.query("COPY (SELECT generate_series(1, 1000)) TO STDOUT")
    assert reply.kinds == "H" + "d" * 1000 + "cCZ"
    reply = await one.ask(run("COPY (SELECT 1) TO STDOUT"), SYNC)
    assert reply.kinds == "12HdcCZ"


async def test_in_by_simple_query(one: RawClient) -> None:
    one.send(query(COPY))
    await one.until("G")
    reply = await one.ask(copy_data(b"1\n2\n"), copy_data(b"3"), copy_data(b"\n"), COPY_DONE)
    assert reply.tags == ["COPY 3"]
    assert await total(one) == "6"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11])
async def test_in_by_pieces_of_any_size(one: RawClient, size: int) -> None:
    """The pieces of the stream have nothing to do with its messages."""
    one.send(query(COPY))
    await one.until("G")
    stream = b"".join(copy_data(b"%d\n" % n) for n in range(30)) + COPY_DONE + query("SELECT 'on'")
    for start in range(0, len(stream), size):
        one.send(stream[start : start + size])
        await one.writer.drain()
        if start % 20 == 0:
            await asyncio.sleep(0.001)
    assert (await one.until("Z")).tags == ["COPY 30"]
    assert (await one.until("Z")).value == "on"
    assert await total(one) == str(sum(range(30)))


async def test_in_all_at_once(one: RawClient) -> None:
    """Not waiting for the server: data and the next query are in the first packet."""
    one.send(query(COPY), copy_data(b"4\n"), COPY_DONE, query("SELECT 'next'"))
    assert (await one.until("Z")).tags == ["COPY 1"]
    assert (await one.until("Z")).value == "next"
    assert await total(one) == "4"


async def test_in_by_extended_protocol(one: RawClient) -> None:
    """As libpq does it: the first Sync comes before the data and means nothing."""
    one.send(run(COPY), SYNC)
    assert (await one.until("G")).kinds == "12G"
    reply = await one.ask(copy_data(b"5\n"), COPY_DONE, SYNC)
    assert reply.kinds == "CZ"
    assert await total(one) == "5"


async def test_in_by_extended_protocol_with_a_flush(one: RawClient) -> None:
    one.send(parse(COPY), bind(), execute(), FLUSH)
    await one.until("G")
    one.send(copy_data(b"6\n"), COPY_DONE, FLUSH)
    await one.until("C")
    assert (await one.ask(SYNC)).kinds == "Z"
    assert await total(one) == "6"


@pytest.mark.parametrize("flush", [FLUSH, b""])
@pytest.mark.parametrize("before", [b"", run("SELECT 1"), run("SELECT 1") + FLUSH])
async def test_in_all_at_once_by_extended_protocol(
    one: RawClient, flush: bytes, before: bytes
) -> None:
    """The data comes before the server has said that it is ready for it."""
    one.send(before, run(COPY), flush, copy_data(b"6\n"), copy_data(b"7\n"), COPY_DONE)
    await one.until("G")
    assert (await one.ask(SYNC)).tags == ["COPY 2"]
    assert await total(one) == "13"


@pytest.mark.parametrize("ending", [FLUSH + SYNC, FLUSH, b""])
async def test_data_behind_what_is_no_copy(one: RawClient, ending: bytes) -> None:
    """A server ignores it; so does it after an error."""
    for sql, answer in ((COPY.replace(" t ", " missing "), "E"), ("SELECT 5", "C")):
        one.send(run(sql), ending, copy_data(b"6\n"), COPY_DONE, SYNC)
        if ending:
            await one.until(answer)
        for _ in range(ending.count(SYNC) + 1):
            await one.until("Z")
        assert (await one.query("SELECT 'on'")).value == "on"


async def test_flush_and_sync_within_copy_mean_nothing(one: RawClient) -> None:
    one.send(query(COPY))
    await one.until("G")
    reply = await one.ask(copy_data(b"7\n"), FLUSH, SYNC, copy_data(b"8\n"), COPY_DONE)
    assert reply.kinds == "CZ"
    assert await total(one) == "15"


async def test_fail_by_the_client(one: RawClient) -> None:
    for begin, end in ((query(COPY), b""), (run(COPY) + SYNC, SYNC)):
        one.send(begin)
        await one.until("G")
        reply = await one.ask(copy_data(b"1\n"), copy_fail("changed my mind"), end)
        assert reply.errors == ["57014"]
    assert await total(one) is None


@pytest.mark.parametrize("extended", [False, True])
async def test_fail_by_the_server(one: RawClient, extended: bool) -> None:
    """It says so at once; what the client still sends is ignored."""
    one.send(run(COPY) + SYNC if extended else query(COPY))
    await one.until("G")
    one.send(copy_data(b"no number\n"))
    await one.until("E")
    reply = await one.ask(copy_data(b"2\n"), COPY_DONE, SYNC if extended else b"")
    assert reply.kinds == "Z"
    assert (await one.query("SELECT 1")).value == "1"
    assert await total(one) is None


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 500, 30_000])
async def test_fail_while_a_message_is_sent(module_proxy: Proxy, one: RawClient, cut: int) -> None:
    """The rest of it must not be taken for something else, by this client's server connection nor
    by its next user."""
    count = "SELECT count(*) FROM t /* penstock: primary */"  # a replica may be behind
    data = copy_data(b"2\n" * 20_000)
    one.send(query(COPY))
    await one.until("G")
    one.send(copy_data(b"no number\n"), data[:cut])
    reply = await one.until("Z")
    assert reply.errors == ["22P02"]
    others = [await RawClient.login(module_proxy) for _ in range(4)]
    for each in others:
        assert (await each.query(count)).value == "0"
    one.send(data[cut:], COPY_DONE)
    for each in (one, *others):
        assert (await each.query(count)).value == "0"
        assert (await each.query("SELECT 'x'")).value == "x"
    for each in others:
        await each.leave()


async def test_fail_while_a_message_is_sent_in_a_transaction(one: RawClient) -> None:
    await one.query("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a")
    data = copy_data(b"2\n" * 1000)
    one.send(query(COPY))
    await one.until("G")
    one.send(copy_data(b"no number\n"), data[:300])
    assert (await one.until("Z")).status == "E"
    one.send(data[300:])
    assert (await one.query("ROLLBACK TO a")).status == "T"
    assert (await one.query("COMMIT")).tags == ["COMMIT"]
    assert await total(one) == "1"


async def test_several_copies_in_one_query(one: RawClient) -> None:
    one.send(query(f"{COPY}; SELECT 'between'; {COPY}; COPY (SELECT 1) TO STDOUT"))
    await one.until("G")
    one.send(copy_data(b"1\n"), COPY_DONE)
    assert (await one.until("G")).rows == [("between",)]
    reply = await one.ask(copy_data(b"2\n"), COPY_DONE)
    assert reply.kinds == "CHdcCZ"
    assert await total(one) == "3"


async def test_in_a_pipeline(one: RawClient) -> None:
    """A COPY among other statements before one Sync."""
    one.send(run("INSERT INTO t VALUES (1)"), run(COPY), FLUSH)
    await one.until("G")
    reply = await one.ask(copy_data(b"2\n"), COPY_DONE, run("INSERT INTO t VALUES (4)"), SYNC)
    assert reply.tags == ["COPY 1", "INSERT 0 1"]
    assert await total(one) == "7"


async def test_leaving_politely_in_the_middle(module_proxy: Proxy, one: RawClient) -> None:
    other = await RawClient.login(module_proxy)
    other.send(query(COPY))
    await other.until("G")
    other.send(copy_data(b"1\n"), message("X"))
    await other.rest()
    assert await total(one) is None
