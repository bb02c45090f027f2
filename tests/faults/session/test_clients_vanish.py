"""Clients that end their connection without a word, at every stage."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.session.watching import backends, becomes, bystander, healed
from tests.integration.session.raw import (
    COPY_DONE,
    FLUSH,
    SYNC,
    RawClient,
    bind,
    copy_data,
    execute,
    parse,
    query,
    run,
)
from tests.proxies import Proxy

ROWS = "SELECT repeat('x', 1000) FROM generate_series(1, 200000)"


async def in_a_read(one: RawClient) -> None:
    one.send(query("SELECT pg_sleep(30)"))


async def in_a_write(one: RawClient) -> None:
    one.send(query("INSERT INTO t SELECT 100 FROM pg_sleep(0.5)"))


async def in_an_open_transaction(one: RawClient) -> None:
    await one.query("BEGIN; UPDATE t SET a = a + 1")


async def in_a_failed_transaction(one: RawClient) -> None:
    await one.query("BEGIN")
    await one.query("SELECT 1/0")


async def in_a_transactions_query(one: RawClient) -> None:
    await one.query("BEGIN; UPDATE t SET a = a + 1")
    one.send(query("SELECT pg_sleep(0.5)"))


async def behind_a_flush(one: RawClient) -> None:
    one.send(run("UPDATE t SET a = a + 1"), FLUSH)
    await one.until("C")


async def behind_a_parse(one: RawClient) -> None:
    one.send(parse("SELECT 1", "x"), FLUSH)
    await one.until("1")


async def in_a_suspended_portal(one: RawClient) -> None:
    one.send(parse("SELECT generate_series(1, 9)"), bind(), execute(rows=2), FLUSH)
    await one.until("s")


async def in_the_middle_of_a_message(one: RawClient) -> None:
    one.send(run("SELECT 1")[:-3])


async def in_a_result_that_it_does_not_read(one: RawClient) -> None:
    one.send(query(ROWS))
    await one.receive()


async def in_a_copy_out(one: RawClient) -> None:
    one.send(query(f"COPY ({ROWS}) TO STDOUT"))
    await one.until("H")


async def before_copy_data(one: RawClient) -> None:
    one.send(query("COPY t FROM STDIN"))
    await one.until("G")


async def between_copy_data(one: RawClient) -> None:
    one.send(query("COPY t FROM STDIN"))
    await one.until("G")
    one.send(copy_data(b"7\n"))


async def within_copy_data(one: RawClient) -> None:
    one.send(query("COPY t FROM STDIN"))
    await one.until("G")
    one.send(copy_data(b"7\n" * 1000)[:-1000])


async def in_an_extended_copy(one: RawClient) -> None:
    one.send(run("COPY t FROM STDIN"), SYNC)
    await one.until("G")
    one.send(copy_data(b"7\n")[:-1])


async def right_after_copy_done(one: RawClient) -> None:
    one.send(query("COPY t FROM STDIN"))
    await one.until("G")
    one.send(copy_data(b"7\n"), COPY_DONE)


async def with_a_temporary_table(one: RawClient) -> None:
    await one.query("CREATE TEMP TABLE mine (a int)")


async def after_a_setting(one: RawClient) -> None:
    one.send(query("SET application_name = 'gone'"))


STAGES = [
    in_a_read,
    in_a_write,
    in_an_open_transaction,
    in_a_failed_transaction,
    in_a_transactions_query,
    behind_a_flush,
    behind_a_parse,
    in_a_suspended_portal,
    in_the_middle_of_a_message,
    in_a_result_that_it_does_not_read,
    in_a_copy_out,
    before_copy_data,
    between_copy_data,
    within_copy_data,
    in_an_extended_copy,
    right_after_copy_done,
    with_a_temporary_table,
    after_a_setting,
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
async def test_vanish(small: Proxy, stage: Callable[[RawClient], Awaitable[None]]) -> None:
    first = await RawClient.login(small)
    await first.query("DROP TABLE IF EXISTS t")
    await first.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    async with bystander(small):
        for patience in (0.0, 0.05, 0.1):
            one = await RawClient.login(small)
            await stage(one)
            await asyncio.sleep(patience)
            one.vanish()
        await healed(small)
    rows = (await first.query("SELECT a FROM t")).rows
    assert ("7",) not in rows or stage is right_after_copy_done
    assert rows[0] == ("1",)
    assert (await first.query("UPDATE t SET a = a")).tags[0].startswith("UPDATE")
    await first.leave()


async def test_vanish_while_waiting_for_the_pool(small: Proxy) -> None:
    """Those who wait behind it are served in its place."""
    holders = [await RawClient.login(small) for _ in range(2)]
    for each in holders:
        await each.query("BEGIN")
    waiting = [await RawClient.login(small) for _ in range(6)]
    for number, each in enumerate(waiting):
        each.send(query(f"BEGIN; SELECT {number}"))
    await asyncio.sleep(0.1)
    for each in waiting[::2]:
        each.vanish()
    await asyncio.sleep(0.05)
    for each in holders:
        await each.query("COMMIT")
    for number in (1, 3, 5):
        assert (await waiting[number].until("Z")).value == str(number)
        await waiting[number].query("COMMIT")
    await healed(small)


async def test_a_long_read_is_canceled(small: Proxy) -> None:
    """Nobody waits for its answer, others wait for its connection."""
    one = await RawClient.login(small)
    one.send(query("BEGIN; SELECT pg_sleep(60)"))
    running = "query LIKE '%pg_sleep(60)%' AND state = 'active'"
    await becomes(lambda: bool(backends(small, running)), "the query runs")
    one.vanish()
    await asyncio.sleep(0.1)
    two = await RawClient.login(small)
    two.send(query("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.3)
    two.vanish()
    await becomes(
        lambda: not backends(small, "query = 'SELECT pg_sleep(60)' AND state = 'active'"), ""
    )
