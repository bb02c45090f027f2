"""Much data and slow readers: what waits, waits in the kernel and not in Penstock."""

import asyncio
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.databases import Database
from tests.integration.session.raw import PATIENCE, copy_data, query
from tests.integration.tls.encrypted import encrypting_proxy, log_in, open_tls, trusting

pytestmark = pytest.mark.serial

MOST = 24 << 20
"""Bytes that Penstock may grow by meanwhile."""
ROW = 10_000
ROWS = 10_000


async def test_a_large_result_and_a_slow_reader(
    database: Database, tmp_path: Path, authority: Authority
) -> None:
    with encrypting_proxy(database, tmp_path, "require", authority) as proxy:
        one = await log_in(proxy, await open_tls(proxy, trusting(authority)))
        await one.query("SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
        before, most = proxy.memory(), 0
        one.send(query(f"SELECT repeat('x', {ROW}) FROM generate_series(1, {ROWS})"))
        rows = length = 0
        while (got := await one.receive()).kind != "Z":
            if got.kind == "D":
                rows, length = rows + 1, length + len(got.body)
                if rows % 500 == 0:
                    await asyncio.sleep(0.05)  # slow
                    most = max(most, proxy.memory())
        assert rows == ROWS
        assert length == ROWS * (ROW + 6)
        assert most - before < MOST
        assert (await one.query("SELECT 1")).value == "1"
        await one.leave()


async def test_a_reader_that_has_stopped(
    database: Database, tmp_path: Path, authority: Authority
) -> None:
    """And others are served meanwhile."""
    with encrypting_proxy(database, tmp_path, "require", authority) as proxy:
        stopped = await log_in(proxy, await open_tls(proxy, trusting(authority)))
        other = await log_in(proxy, await open_tls(proxy, trusting(authority)))
        await other.query("SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
        before = proxy.memory()
        stopped.send(query(f"SELECT repeat('x', {ROW}) FROM generate_series(1, {ROWS})"))
        for number in range(200):
            assert (await other.query(f"SELECT {number}")).value == str(number)
        assert proxy.memory() - before < MOST
        reply = await stopped.until("Z")
        assert len(reply.rows) == ROWS
        await stopped.leave()
        await other.leave()


async def test_a_server_that_takes_it_slowly(
    database: Database, tmp_path: Path, authority: Authority
) -> None:
    """COPY of 50 MB into a table with a trigger that naps: the client has to wait."""
    with encrypting_proxy(database, tmp_path, "require", authority) as proxy:
        one = await log_in(proxy, await open_tls(proxy, trusting(authority)))
        await one.query("CREATE TABLE slow (filler text)")
        await one.query(
            "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN PERFORM pg_sleep(0.02); RETURN new; END$$; "
            "CREATE TRIGGER nap BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION nap()"
        )
        one.send(query("COPY slow FROM STDIN"))
        await one.until("G")
        before, sent = proxy.memory(), 0
        line = copy_data(b"y" * 500_000 + b"\n")
        async with asyncio.timeout(PATIENCE):
            for _ in range(100):
                one.send(line)
                await one.writer.drain()
                sent += 1
                assert proxy.memory() - before < MOST
        one.send(b"c\0\0\0\4")
        assert (await one.until("Z")).tags == [f"COPY {sent}"]
        await one.leave()
