"""Batches one after the other and in pieces, as no single driver sends them all."""

import asyncio

import pytest

from tests.integration.session.raw import (
    FLUSH,
    SYNC,
    RawClient,
    bind,
    client,
    close,
    describe,
    execute,
    message,
    parse,
    query,
    run,
)
from tests.proxies import Proxy


async def test_several_syncs_in_one_packet(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(*(run(f"SELECT {number}") + SYNC for number in range(50)))
        for number in range(50):
            reply = await one.until("Z")
            assert reply.kinds == "12DCZ"
            assert reply.value == str(number)


async def test_several_queries_in_one_packet(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(*(query(f"SELECT {number}") for number in range(50)))
        for number in range(50):
            assert (await one.until("Z")).value == str(number)


async def test_query_and_extended_mixed(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(query("SELECT 1"), run("SELECT 2"), SYNC, query("SELECT 3"), SYNC)
        assert [(await one.until("Z")).rows for _ in range(4)] == [[("1",)], [("2",)], [("3",)], []]


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_flush_then_sync(module_proxy: Proxy, pause: float) -> None:
    """The messages after a Flush, in the same packet or later, belong to the same batch."""
    async with client(module_proxy) as one:
        one.send(parse("SELECT 7"), bind(), execute(), FLUSH)
        if pause:
            await asyncio.sleep(pause)
        one.send(bind(), execute(), SYNC)
        reply = await one.until("Z")
        assert reply.kinds == "12DC2DCZ"


async def test_flush_and_sync_of_a_new_client_in_one_packet(proxy: Proxy) -> None:
    """No server connection is there yet: the batch waits for one with its Sync already here."""
    async with client(proxy) as one:
        one.send(parse("CREATE TABLE t (a int)"), bind(), execute(), FLUSH, SYNC)
        assert (await one.until("Z")).kinds == "12CZ"


async def test_parse_describe_flush_then_bind_execute_sync(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(parse("SELECT $1::int + 1", "plus"), describe("plus"), FLUSH)
        assert (await one.until("T")).kinds == "1tT"
        reply = await one.ask(bind(b"41", name="plus"), execute(), SYNC)
        assert reply.kinds == "2DCZ"
        assert reply.value == "42"


async def test_flushes_in_a_transaction(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.query("BEGIN")
        one.send(parse("SELECT 1", "in_one"), describe("in_one"), FLUSH)
        assert (await one.until("T")).kinds == "1tT"
        one.send(parse("SELECT 2"), bind(), execute(), FLUSH)
        assert (await one.until("C")).kinds == "12DC"
        one.send(close("in_one"), parse("SELECT 3", "in_two"), FLUSH)
        assert (await one.until("1")).kinds == "31"
        reply = await one.ask(bind(name="in_two"), execute(), SYNC)
        assert reply.kinds == "2DCZ"
        assert reply.value == "3"
        assert reply.status == "T"


async def test_parses_with_and_without_names_before_their_answers(module_proxy: Proxy) -> None:
    """Acks of the second part must not be taken for those of the first."""
    async with client(module_proxy) as other:
        await other.ask(parse("SELECT 'shared'", "x"), SYNC)
    async with client(module_proxy) as one:
        await one.query("BEGIN")
        for _ in range(20):
            one.send(parse("SELECT pg_sleep(0.002)"), bind(), execute(), FLUSH)
            one.send(parse("SELECT 'shared'", "s"), bind(name="s"), execute(), close("s"), SYNC)
            assert (await one.until("Z")).kinds == "12DC12DC3Z"


async def test_an_error_ends_the_pipeline_until_sync(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(run("SELECT 1"), run("SELECT 1/0"), run("SELECT 2"), SYNC, run("SELECT 3"), SYNC)
        first, second = await one.until("Z"), await one.until("Z")
        assert first.kinds == "12DC1EZ"
        assert first.errors == ["22012"]
        assert second.value == "3"


async def test_an_error_before_a_flush(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(run("SELECT 1/0"), FLUSH)
        assert (await one.until("E")).errors == ["22012"]
        one.send(run("SELECT 2"), FLUSH)
        assert await one.silent()
        assert (await one.ask(SYNC)).kinds == "Z"
        assert (await one.query("SELECT 3")).value == "3"


@pytest.mark.parametrize("wait", [True, False])
async def test_a_query_after_an_error_and_before_sync_is_skipped(
    module_proxy: Proxy, wait: bool
) -> None:
    async with client(module_proxy) as one:
        one.send(run("SELECT 1/0"), FLUSH)
        if wait:
            await one.until("E")
        one.send(query("SELECT 2"), run("SELECT 3"), query("SELECT 4"), SYNC, query("SELECT 5"))
        assert (await one.until("Z")).kinds == ("Z" if wait else "1EZ")
        assert (await one.until("Z")).value == "5"


async def test_a_query_without_a_sync_before_it(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        for flush in (FLUSH, b""):
            one.send(parse("SELECT 1", "kept"), run("SELECT 1"), flush, query("SELECT 2"))
            assert (await one.until("Z")).kinds == "112DCTDCZ"
            one.send(bind(name="kept"), execute(), query("SELECT 1/0"), close("kept"), SYNC)
            assert (await one.until("Z")).kinds == "2DCEZ"
            assert (await one.until("Z")).kinds == "3Z"


async def test_an_error_in_a_describe_before_a_flush(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(parse("SELECT * FROM nothing_like_it", "lost"), describe("lost"), FLUSH)
        assert (await one.until("E")).errors == ["42P01"]
        one.send(bind(name="lost"), execute(), FLUSH)
        assert await one.silent()
        assert (await one.ask(SYNC)).kinds == "Z"
        reply = await one.ask(parse("SELECT 5", "lost"), bind(name="lost"), execute(), SYNC)
        assert reply.value == "5"


async def test_names_in_messages_that_an_error_skipped_are_free(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        one.send(run("SELECT 1/0"), FLUSH)
        await one.until("E")
        one.send(parse("SELECT 6", "skipped"), SYNC)
        assert (await one.until("Z")).kinds == "Z"
        reply = await one.ask(parse("SELECT 6", "skipped"), bind(name="skipped"), execute(), SYNC)
        assert reply.kinds == "12DCZ"


async def test_a_close_that_an_error_skipped_closed_nothing(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.ask(parse("SELECT 8", "kept"), SYNC)
        reply = await one.ask(run("SELECT 1/0"), close("kept"), SYNC)
        assert reply.kinds == "1EZ"
        assert (await one.ask(bind(name="kept"), execute(), SYNC)).kinds == "2DCZ"


async def test_a_query_that_is_long_behind_one_that_runs(module_proxy: Proxy) -> None:
    """Reading pauses while a query runs; what had come of the next message must not stay stuck."""
    async with client(module_proxy) as one:
        one.send(query("SELECT pg_sleep(0.2)"))
        one.send(run("SELECT length($1)", b"x" * 5_000_000), SYNC)
        await one.until("Z")
        assert (await one.until("Z")).value == "5000000"


async def test_a_pipeline_larger_than_any_buffer(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.query("BEGIN")
        for _ in range(60):
            one.send(run("SELECT length($1)", b"x" * 300_000))
        reply = await one.ask(SYNC)
        assert reply.kinds == "12DC" * 60 + "Z"
        assert set(reply.rows) == {("300000",)}


async def test_empty_query_and_nothing(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        assert (await one.query("")).kinds == "IZ"
        assert (await one.query(" ; ")).kinds == "IZ"
        assert (await one.ask(run(""), SYNC)).kinds == "12IZ"
        one.send(FLUSH)
        assert (await one.ask(SYNC)).kinds == "Z"


async def test_several_statements_in_one_query(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        reply = await one.query("SELECT 1; SELECT 2; SELECT 3")
        assert reply.kinds == "TDC" * 3 + "Z"
        reply = await one.query("SELECT 1; SELECT 1/0; SELECT 3")
        assert reply.kinds == "TDCTEZ" or reply.kinds == "TDCEZ"
        reply = await one.query("BEGIN; SELECT 1")
        assert reply.status == "T"
        assert (await one.query("COMMIT")).status == "I"


async def test_function_call(module_proxy: Proxy) -> None:
    """The fast path: the OID of abs(integer), one binary argument."""
    async with client(module_proxy) as one:
        oid = int((await one.query("SELECT 'abs(int4)'::regprocedure::oid")).value or 0)
        body = oid.to_bytes(4) + b"\0\1\0\1" + b"\0\1" + b"\0\0\0\4" + (-5).to_bytes(4, signed=True)
        reply = await one.ask(message("F", body + b"\0\1"))
        assert reply.kinds == "VZ"
        assert reply.messages[0].body == b"\0\0\0\4\0\0\0\5"


async def test_many_parameters(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        count = 65_535
        oids = [23] * count
        sql = "SELECT " + "+".join(f"${n}" for n in (1, count))
        reply = await one.ask(parse(sql, oids=oids), bind(*[b"21"] * count), execute(), SYNC)
        assert reply.value == "42"


async def test_a_thousand_batches_while_no_server_answers(
    module_proxy: Proxy,
) -> None:
    """Each is refused; none may run inside the refusal of the one before."""
    other = module_proxy.database.name
    one = await RawClient.login(module_proxy)
    assert other
    one.send(*(query("EXPLAIN (PENSTOCK) SELECT 1") for _ in range(2000)))
    for _ in range(2000):
        assert (await one.until("Z")).status == "I"
    await one.leave()


async def test_a_parse_of_a_known_text_that_an_error_skipped(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.ask(parse("SELECT 'known'", "a"), SYNC)
        assert (await one.ask(run("SELECT 1/0"), parse("SELECT 'known'", "b"), SYNC)).errors
        reply = await one.ask(parse("SELECT 'known'", "b"), bind(name="b"), execute(), SYNC)
        assert reply.kinds == "12DCZ"


async def test_names_in_batches_that_are_skipped_after_a_flush(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        await one.ask(parse("SELECT 'kept'", "kept"), SYNC)
        one.send(parse("SELECT * FROM nothing_like_it", "lost"), describe("lost"), FLUSH)
        await one.until("E")
        one.send(parse("SELECT 4", "skipped"), close("kept"), describe("skipped"), FLUSH)
        assert (await one.ask(SYNC)).kinds == "Z"
        reply = await one.ask(
            parse("SELECT 4", "skipped"),
            *(part for name in ("skipped", "kept") for part in (bind(name=name), execute())),
            SYNC,
        )
        assert reply.rows == [("4",), ("kept",)]


async def test_parsing_a_name_twice_is_an_error(module_proxy: Proxy) -> None:
    async with client(module_proxy) as one:
        reply = await one.ask(parse("SELECT 1", "twice"), parse("SELECT 2", "twice"), SYNC)
        assert (reply.kinds, reply.errors) == ("1EZ", ["42P05"])
        reply = await one.ask(close("twice"), parse("SELECT 2", "twice"), SYNC)
        assert reply.kinds == "31Z"
        assert (await one.ask(bind(name="twice"), execute(), SYNC)).value == "2"


async def test_what_comes_without_a_sync_is_run_all_the_same(module_proxy: Proxy) -> None:
    """A server doesn't wait for a Sync to run what it has, and sends an error at once."""
    async with client(module_proxy) as one:
        await one.query("CREATE TABLE unended (id int PRIMARY KEY)")
        insert = run("INSERT INTO unended VALUES (1)")
        one.send(insert, insert, run("SELECT 3"))
        reply = await one.until("E")
        assert reply.errors == ["23505"]
        one.send(run("SELECT 4"), SYNC)
        assert (await one.until("Z")).kinds == "Z"
        assert (await one.query("SELECT count(*) FROM unended")).value == "0"
