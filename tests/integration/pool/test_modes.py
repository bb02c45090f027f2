"""How long a client keeps its server connection, and in what state that goes to the next."""

import asyncio

import pytest

from tests.integration.pool.conftest import Start
from tests.integration.pool.people import backend_of
from tests.integration.session.raw import FLUSH, SYNC, bind, execute, parse, run

STATE = (
    "SET work_mem = '5MB'",
    "SET my.tenant = '7'",
    "CREATE TEMP TABLE mine (a int)",
    "PREPARE three AS SELECT 3",
    "SELECT pg_advisory_lock(4711)",
    "LISTEN news",
    "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
)
TRACES = (
    "SELECT current_setting('work_mem') || coalesce(current_setting('my.tenant', true), '') || "
    "coalesce(to_regclass('pg_temp.mine')::text, '') || (SELECT count(*) FROM pg_cursors) || "
    "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql) || "
    "(SELECT count(*) FROM pg_listening_channels()) || (SELECT count(*) FROM pg_locks "
    "WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
)
CLEAN = "4MB0000"
UNSEEN = "DO $$ BEGIN CREATE TEMP TABLE unseen (a int); END $$"


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_what_a_client_leaves_is_cleaned_away(start: Start, mode: str) -> None:
    """By DISCARD ALL: the connection itself stays."""
    pooled = start(f'[pool]\nmode = "{mode}"\nsize = 1\n')
    async with pooled.client() as one:
        first = await backend_of(one)
        assert (await one.query(TRACES)).value == CLEAN
        for statement in (*STATE, UNSEEN):
            assert (await one.query(statement)).errors == []
        assert (await one.query(TRACES)).value == "5MB7mine11" + "1" + "1"
        assert (await one.ask(parse("SELECT 5", "five"), SYNC)).kinds == "1Z"
    for _ in range(2):
        async with pooled.client() as other:
            assert (await other.query(TRACES)).value == CLEAN
            assert (await other.ask(bind(name="five"), execute(), SYNC)).errors == ["26000"]
            assert (await other.ask(parse("SELECT 5", "five"), SYNC)).kinds == "1Z"
            assert (await other.ask(bind(name="five"), execute(), SYNC)).value == "5"
            assert await backend_of(other) == first


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("statement", ["SELECT setseed(0.5)", "BEGIN"])
async def test_what_can_not_be_cleaned_ends_the_connection(
    start: Start, mode: str, statement: str
) -> None:
    pooled = start(f'[pool]\nmode = "{mode}"\nsize = 1\n')
    async with pooled.client() as one:
        assert (await one.query(statement)).errors == []
        first = await backend_of(one)
    async with pooled.client() as other:
        assert await backend_of(other) != first


@pytest.mark.parametrize(
    ("reset", "same", "traces"),
    [
        ("", False, CLEAN),
        ("RESET work_mem", True, "4MBmine0000"),
        ("DISCARD TEMP; SELECT pg_advisory_unlock_all()", True, CLEAN),
        ("SELECT 1 / 0", False, CLEAN),
    ],
)
async def test_a_reset_of_ones_own(start: Start, reset: str, same: bool, traces: str) -> None:
    """Settings are right whatever it does: Penstock looks what it has left of them."""
    pooled = start(f'[pool]\nmode = "session"\nsize = 1\nreset_query = "{reset}"\n')
    async with pooled.client() as one:
        for statement in STATE[:3]:
            assert (await one.query(statement)).errors == []
        first = await backend_of(one)
    async with pooled.client() as other:
        assert (await other.query(TRACES)).value == traces
        assert (await backend_of(other) == first) is same


async def test_a_client_that_vanishes_in_session_mode(start: Start) -> None:
    pooled = start('[pool]\nmode = "session"\nsize = 1\n')
    one = await pooled.login()
    await one.query("SET work_mem = '5MB'")
    first = await backend_of(one)
    one.vanish()
    async with pooled.client() as other:
        assert (await other.query("SHOW work_mem")).value == "4MB"
        assert await backend_of(other) == first


async def test_statement_mode_refuses_transactions(start: Start) -> None:
    """BEGIN is refused and nothing else happens; a block that opens unseen ends the connection."""
    pooled = start('[pool]\nmode = "statement"\nsize = 2\n')
    async with pooled.client() as one:
        for begin in ("BEGIN", "start transaction read only"):
            reply = await one.query(begin)
            assert reply.errors == ["0A000"]
            assert "statement pooling mode" in reply.messages[0].fields["M"]
            assert reply.status == "I"
        reply = await one.ask(run("BEGIN"), SYNC)
        assert (reply.errors, reply.status) == (["0A000"], "I")
        assert (await one.query("BEGIN; SELECT 1; COMMIT")).status == "I"
        assert (await one.query("SET work_mem = '7MB'")).errors == []
        assert (await one.query("SHOW work_mem")).value == "7MB"
        one.send(run("SELECT 1"), FLUSH, run("BEGIN"), SYNC)
        assert (await one.rest())[-1].fields["C"] == "0A000"
    async with pooled.client() as other:
        reply = await other.query("BEGIN; CREATE TABLE never (a int)")
        assert (await other.rest())[-1].fields["C"] == "0A000"
    await pooled.becomes(lambda: not pooled.backends("state <> 'idle'"))
    async with pooled.client() as other:
        assert (await other.query("SELECT to_regclass('never')")).value is None


async def test_modes_of_users_and_databases(start: Start) -> None:
    """The user's own wins over the database's, that over all's."""
    pooled = start(
        '[pool]\nmode = "statement"\n[database."DATABASE".pool]\nmode = "transaction"\n',
        {"PENSTOCK_AUTH__USERS__2__POOL__MODE": "session"},
    )
    ann, bob = pooled.roles
    async with pooled.client(ann) as one, pooled.client(ann) as two:
        assert (await one.query("BEGIN")).status == "T"
        assert (await one.query("COMMIT")).status == "I"
        assert await backend_of(one) == await backend_of(two)
    async with pooled.client(bob) as one, pooled.client(bob) as two:
        assert await backend_of(one) != await backend_of(two)


async def test_session_mode_serves_many_in_turn(start: Start) -> None:
    """More clients than connections: each comes in when one has left."""
    pooled = start('[pool]\nmode = "session"\nsize = 2\n')

    async def live(number: int) -> None:
        async with pooled.client() as one:
            await one.query(f"SET my.number = '{number}'")
            for _ in range(3):
                assert (await one.query("SHOW my.number")).value == str(number)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(live(number))
    assert len(pooled.backends()) == 2
