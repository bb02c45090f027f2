"""The console's protocol, message by message, as no single driver uses it."""

import struct

from tests.integration.session.raw import (
    FLUSH,
    SYNC,
    RawClient,
    bind,
    client,
    close,
    close_portal,
    describe,
    describe_portal,
    execute,
    message,
    parse,
    query,
    run,
)
from tests.proxies import Proxy


async def test_what_a_client_is_told_at_login(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        assert one.parameters["server_version"].startswith("14.0 (Penstock ")
        assert one.parameters["client_encoding"] == "UTF8"
        assert one.parameters["standard_conforming_strings"] == "on"
        assert one.parameters["DateStyle"].startswith("ISO")
        assert one.process_id > 0
        assert len(one.secret) == 4


async def test_commands_that_come_with_the_login(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        one.send(*(query("SHOW STATE") for _ in range(20)))
        for _ in range(20):
            assert (await one.until("Z")).kinds == "TDDDCZ"


async def test_extended_messages_in_order(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        reply = await one.ask(
            parse("SHOW STATE", "s"),
            describe("s"),
            bind(name="s", portal="p"),
            describe_portal("p"),
            execute("p"),
            close_portal("p"),
            close("s"),
            SYNC,
        )
        assert reply.kinds == "1tT2TDDDC33Z"
        assert reply.rows[0] == ("active", "yes")
        assert reply.tags == ["SHOW"]


async def test_rows_by_parts(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        reply = await one.ask(
            parse("SHOW STATE"), bind(), *(execute(rows=2) for _ in range(3)), SYNC
        )
        assert "".join(m.kind for m in reply.messages) == "12DDsDCCZ"


async def test_flush_is_answered_before_sync(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        one.send(run("SHOW VERSION"), FLUSH)
        assert (await one.until("C")).kinds == "12DC"
        assert (await one.ask(SYNC)).kinds == "Z"


async def test_after_an_error_messages_are_skipped_until_sync(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        reply = await one.ask(
            parse("SHOW POLS"), bind(), execute(), run("SHOW STATE"), SYNC, run("SHOW STATE"), SYNC
        )
        assert reply.kinds == "EZ"
        assert reply.errors == ["42601"]
        assert (await one.until("Z")).kinds == "12DDDCZ"


async def test_what_can_not_be_done_with_names(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        for parts, sqlstate in (
            ((parse("SHOW STATE", "s"), parse("SHOW STATE", "s")), "42P05"),
            ((bind(name="none"),), "26000"),
            ((execute("none"),), "34000"),
            ((describe_portal("none"),), "34000"),
            ((parse("SHOW STATE; SHOW STATE"),), "42601"),
            ((parse("SHOW STATE"), bind(b"1")), "08P01"),
            ((message("F", b"\0\0\0\1\0\0\0\0\0\0"),), "0A000"),
        ):
            assert (await one.ask(*parts, SYNC)).errors == [sqlstate]


async def test_empty_queries(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        assert (await one.query(" ; ")).kinds == "IZ"
        assert (await one.ask(parse(""), describe(), bind(), execute(), SYNC)).kinds == "1tn2IZ"


async def test_an_error_in_a_string_of_several_commands_runs_none(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        assert (await one.query("SHOW VERSION; SHOW POLS")).kinds == "EZ"


async def test_a_cursor_lives_as_long_as_its_transaction(module_proxy: Proxy) -> None:
    async with client(module_proxy, database="penstock") as one:
        assert (await one.query("BEGIN")).status == "T"
        await one.ask(parse("SHOW STATE"), bind(portal="p"), execute("p", 1), SYNC)
        assert (await one.ask(execute("p", 1), SYNC)).kinds == "DsZ"
        assert (await one.query("COMMIT")).status == "I"
        assert (await one.ask(execute("p", 1), SYNC)).errors == ["34000"]


async def test_garbage_gets_an_error_and_an_end(module_proxy: Proxy) -> None:
    for garbage in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"Q" + struct.pack(">I", 1 << 30),
        b"Q\0\0\0\1",
        message("Q", b"no end"),
        message("Q", b"\xff\xfe\0"),
        message("B", b"\0\0\0\7"),
        message("D", b"Xname\0"),
    ):
        one = await RawClient.login(module_proxy, database="penstock")
        one.send(garbage)
        rest = await one.rest()
        assert [m.kind for m in rest] == ["E"]
        assert (rest[0].fields["S"], rest[0].fields["C"]) == ("FATAL", "08P01")
        await one.leave()


async def test_a_message_in_many_pieces(module_proxy: Proxy) -> None:
    text = "SHOW VERSION" + " " * 300_000
    async with client(module_proxy, database="penstock") as one:
        whole = query(text)
        for start in range(0, len(whole), 50_000):
            one.send(whole[start : start + 50_000])
            await one.writer.drain()
        assert (await one.until("Z")).kinds == "TDCZ"


async def test_a_client_that_vanishes_is_forgotten(module_proxy: Proxy) -> None:
    gone = await RawClient.login(module_proxy, database="penstock")
    gone.send(query("SHOW CACHE"))
    gone.vanish()
    async with client(module_proxy, database="penstock") as one:
        for _ in range(200):
            rows = (await one.query("SHOW CLIENTS")).rows
            if len([row for row in rows if row[2] == "penstock"]) == 1:
                break
        else:
            raise AssertionError(rows)
