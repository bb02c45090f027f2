"""Situations that poolers are known to get wrong: limits that contradict each other, refused logins
that count for ever, PAUSE within a pipeline, statements that give way in the middle of one."""

import asyncio

import pytest

from tests.integration.pool.conftest import Start
from tests.integration.pool.people import Pooled, refusal
from tests.integration.session.raw import FLUSH, SYNC, RawClient, bind, execute, parse, run


async def figure(pooled: Pooled, command: str, name: str, column: str) -> str | None:
    """A column of the console's row that has `name` in it."""
    async with pooled.client(database="penstock") as console:
        reply = await console.query(command)
    description = next(each.body for each in reply.messages if each.kind == "T")
    (found,) = [row for row in reply.rows if name in row]
    return found[_place(description, column)]


def _place(description: bytes, column: str) -> int:
    """Of a column in a RowDescription."""
    position, place = 2, 0
    while position < len(description):
        end = description.index(b"\0", position)
        if description[position:end].decode() == column:
            return place
        position, place = end + 19, place + 1
    raise LookupError(column)


@pytest.mark.parametrize("limit", ["user_connections", "database_connections", "node_connections"])
async def test_the_minimum_gives_way_to_a_lower_limit(start: Start, limit: str) -> None:
    pooled = start(f"[pool]\nsize = 5\nmin_size = 4\n[limits]\n{limit} = 2\n")
    async with pooled.client() as one:
        assert (await one.query("SELECT 1")).value == "1"
        await pooled.becomes(lambda: len(pooled.backends()) == 2)
        async with pooled.client() as two, asyncio.TaskGroup() as group:
            for each in (one, two):
                group.create_task(each.query("SELECT pg_sleep(1.2)"))  # longer than a sweep
        assert len(pooled.backends()) == 2


async def test_refused_logins_do_not_count(start: Start) -> None:
    """Wrong passwords, databases that are not there, and servers that refuse."""
    pooled = start("[limits]\nuser_clients = 2\ndatabase_clients = 3\n")
    ann = pooled.roles.ann
    for _ in range(3):
        wrong = RawClient.login(pooled.proxy, user=ann, password="wrong")
        assert (await refusal(wrong))["C"] == "28P01"
        assert (await refusal(pooled.login(ann, database="nowhere")))["C"] == "3D000"
        assert (await refusal(pooled.login(ann, nonsense="1")))["C"] == "42704"
    async with pooled.client(ann), pooled.client(ann):
        assert (await refusal(pooled.login(ann)))["C"] == "53300"
        assert (await refusal(pooled.login(ann)))["C"] == "53300"
    async with pooled.client(ann), pooled.client(ann):
        pass


async def test_pause_waits_for_the_sync(start: Start) -> None:
    pooled = start("")
    async with pooled.client() as one, pooled.client(database="penstock") as console:
        one.send(run("SELECT 1"), FLUSH)
        await one.until("C")
        pausing = asyncio.ensure_future(console.query("PAUSE"))
        one.send(run("SELECT 2"), FLUSH)
        await one.until("C")
        assert not pausing.done()
        assert (await one.ask(run("SELECT 3"), SYNC)).value == "3"
        assert (await pausing).tags == ["PAUSE"]
        held = asyncio.ensure_future(one.query("SELECT 4"))
        assert (await console.query("RESUME")).tags == ["RESUME"]
        assert (await held).value == "4"


async def test_statements_that_give_way_in_a_pipeline_that_fails(start: Start) -> None:
    """Of more statements than a connection keeps, in an order that always misses."""
    pooled = start("[pool]\nsize = 1\n")
    count = 520
    async with pooled.client() as one:
        for number in range(count):
            assert not (await one.ask(parse(f"SELECT {number}", f"n{number}"), SYNC)).errors
        for first in (0, 7):
            reply = await one.ask(
                *(bind(name=f"n{first + number}") + execute() for number in range(3)),
                parse("SELECT 1/0", f"bad{first}") + bind(name=f"bad{first}") + execute(),
                *(bind(name=f"n{first + number}") + execute() for number in range(3, 6)),
                SYNC,
            )
            assert reply.errors == ["22012"]
            assert [row[0] for row in reply.rows] == [str(first + number) for number in range(3)]
        for number in (*range(14), count - 1):
            assert (await one.ask(bind(name=f"n{number}"), execute(), SYNC)).value == str(number)


async def test_large_messages_behind_a_change_of_settings(start: Start) -> None:
    """The difference in settings goes first, the message after it in as many pieces as it takes."""
    pooled = start("[pool]\nsize = 1\n")
    async with pooled.client(work_mem="5MB") as one, pooled.client(work_mem="6MB") as two:
        for size in (4_000, 70_000, 3_000_000):
            for each, expected in ((one, "5MB"), (two, "6MB")):
                text = f"SELECT current_setting('work_mem') || length('{'x' * size}') || length($1)"
                reply = await each.ask(run(text, b"y" * size), SYNC)
                assert reply.value == f"{expected}{size}{size}"


async def test_counts_of_clients_of_a_user(start: Start) -> None:
    pooled = start("")
    bob = pooled.roles.bob
    async with pooled.client(bob), pooled.client(bob):
        assert await figure(pooled, "SHOW USERS", bob, "current_client_connections") == "2"
    assert await figure(pooled, "SHOW USERS", bob, "current_client_connections") == "0"
