"""What is much larger than the proxy's memory may become."""

import asyncio

import pytest

from tests.integration.session.raw import (
    COPY_DONE,
    SYNC,
    RawClient,
    client,
    copy_data,
    message,
    query,
    run,
)
from tests.proxies import Proxy

pytestmark = pytest.mark.serial

MOST_GROWTH = 16 << 20
RESULT = 1 << 30


class Watch:
    """The proxy's memory at its highest while somebody looks now and then."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._before = self._highest = proxy.memory()

    def look(self) -> None:
        self._highest = max(self._highest, self._proxy.memory())

    @property
    def growth(self) -> int:
        return self._highest - self._before


@pytest.fixture(scope="module")
def warm(module_proxy: Proxy) -> Proxy:
    """Its first buffers and plans are there, so that what grows is what a test sends."""

    async def ask() -> None:
        async with client(module_proxy) as one:
            for _ in range(3):
                await one.query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
                await one.ask(run("SELECT $1::text", b"x" * 100), SYNC)

    asyncio.run(ask())
    return module_proxy


async def _read_slowly(one: RawClient, watch: Watch, expected: int) -> bytes:
    """Read the answer in large blocks through a small socket buffer; gives its last bytes."""
    got, last = 0, b""
    while not last.endswith(b"Z\0\0\0\5I"):
        block = await asyncio.wait_for(one.reader.read(1 << 20), 30)
        assert block, "the connection ended early"
        got += len(block)
        last = (last + block)[-6:]
        watch.look()
        if got < 64 << 20:
            await asyncio.sleep(0.002)  # at first too slow for the server
    assert got > expected
    return last


ROWS = "SELECT repeat('x', 8000) FROM generate_series(1, {})"


@pytest.mark.parametrize(
    ("sql", "size"),
    [
        (ROWS.format(RESULT // 8000), RESULT),
        ("SELECT repeat('x', 120000000) FROM generate_series(1, 2)", 240_000_000),
    ],
    ids=["many rows", "huge rows"],
)
async def test_a_result(warm: Proxy, sql: str, size: int) -> None:
    async with client(warm) as one:
        watch = Watch(warm)
        one.send(query(sql))
        assert await _read_slowly(one, watch, size)
        assert watch.growth < MOST_GROWTH
        assert (await one.query("SELECT 1")).value == "1"


async def test_a_result_that_nobody_reads(warm: Proxy) -> None:
    """The server is stopped from sending instead of what it sends being kept."""
    async with client(warm) as one, client(warm) as other:
        watch = Watch(warm)
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        one.send(query(ROWS.format(RESULT // 8000)))
        for _ in range(30):
            await asyncio.sleep(0.05)
            watch.look()
            assert (await other.query("SELECT 1")).value == "1"
        assert watch.growth < MOST_GROWTH
        one.vanish()


async def test_copy_in_with_a_slow_server(warm: Proxy) -> None:
    """The client is stopped from sending while the server is busy with each row."""
    async with client(warm) as one:
        await one.query(
            "CREATE TABLE slow (a text CHECK (pg_sleep(CASE WHEN a LIKE 'wait%' THEN 0.3 ELSE 0 "
            "END) IS NOT NULL))"
        )
        watch = Watch(warm)
        one.send(query("COPY slow FROM STDIN"))
        await one.until("G")
        for number in range(100):
            one.send(copy_data((b"wait" if number < 3 else b"go") + b"x" * 2_000_000 + b"\n"))
            await asyncio.wait_for(one.writer.drain(), 30)
            watch.look()
        reply = await one.ask(COPY_DONE)
        assert reply.tags == ["COPY 100"]
        assert watch.growth < MOST_GROWTH


async def test_a_hundred_megabytes_in_one_parameter(warm: Proxy) -> None:
    async with client(warm) as one:
        reply = await one.ask(run("SELECT length($1::text)", b"x" * 100_000_000), SYNC)
        assert reply.value == "100000000"
        assert (await one.query("SELECT 1")).value == "1"


async def test_a_hundred_megabytes_there_and_back(warm: Proxy) -> None:
    async with client(warm) as one:
        one.send(run("SELECT $1::text", b"y" * 100_000_000), SYNC)
        reply = await one.until("Z")
        assert len(reply.messages[2].body) == 100_000_006
        assert reply.messages[2].body[6:].count(b"y") == 100_000_000


async def test_more_than_may_be_is_refused_before_it_comes(warm: Proxy) -> None:
    async with client(warm) as one:
        one.send(message("Q")[:1] + (1 << 31).to_bytes(4))
        assert (await one.until("E")).errors == ["08P01"]
