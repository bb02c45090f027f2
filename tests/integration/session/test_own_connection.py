"""Session pooling: what a client sees of a server connection that is its own from login on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import Database
from tests.integration.session.raw import SYNC, bind, client, close, execute, parse, query
from tests.integration.session.test_cancel import cancel
from tests.proxies import Proxy, running_proxy


@pytest.fixture
def own(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    """Penstock in session mode."""
    extra = '[pool]\nmode = "session"\nsize = 4\n'
    with running_proxy(database, tmp_path, extra=extra) as proxy:
        yield proxy


async def test_the_process_id_told_at_login_is_the_servers(own: Proxy) -> None:
    async with client(own) as one, client(own) as two:
        assert (await one.query("SELECT pg_backend_pid()")).value == str(one.process_id)
        await one.query("LISTEN news")
        await two.query("NOTIFY news")
        note = await one.receive()
        assert note.kind == "A"
        assert int.from_bytes(note.body[:4]) == two.process_id != one.process_id


async def test_its_key_cancels_what_it_runs(own: Proxy) -> None:
    async with client(own) as one, client(own) as two:
        one.send(query("SELECT pg_sleep(20)"))
        two.send(query("SELECT 'done' FROM pg_sleep(0.5)"))
        await asyncio.sleep(0.2)
        await cancel(own, one.process_id, two.secret)
        await cancel(own, one.process_id, one.secret)
        assert (await one.until("Z")).errors == ["57014"]
        assert (await two.until("Z")).value == "done"


async def test_prepared_statements_keep_their_names(own: Proxy) -> None:
    async with client(own) as one:
        await one.ask(parse("SELECT 7", "seven"), SYNC)
        assert (await one.query("EXECUTE seven")).value == "7"
        names = "SELECT string_agg(name, ',') FROM pg_prepared_statements"
        assert (await one.query(names)).value == "seven"
        assert (await one.ask(parse("SELECT 8", "seven"), SYNC)).errors == ["42P05"]
        assert (await one.ask(bind(name="seven"), execute(), SYNC)).value == "7"
        assert (await one.query("DEALLOCATE seven")).tags == ["DEALLOCATE"]
        assert (await one.ask(bind(name="seven"), execute(), SYNC)).errors == ["26000"]
        await one.ask(parse("SELECT 9", "seven"), SYNC)
        await one.ask(close("seven"), SYNC)
        assert (await one.query("EXECUTE seven")).errors == ["26000"]


async def test_a_failed_parse_leaves_the_name_with_what_it_stood_for(own: Proxy) -> None:
    async with client(own) as one:
        await one.query("CREATE TABLE written (id int)")
        await one.query("PREPARE mine AS INSERT INTO written VALUES (1)")
        reply = await one.ask(parse("SELECT 1", "mine"), bind(name="mine"), execute(), SYNC)
        assert reply.errors == ["42P05"]
        assert (await one.ask(bind(name="mine"), execute(), SYNC)).tags == ["INSERT 0 1"]


@pytest.mark.parametrize("busy", [True, False])
async def test_the_servers_last_words_are_passed_on_once(own: Proxy, busy: bool) -> None:
    async with client(own) as one, client(own) as two:
        if busy:
            one.send(query("SELECT pg_sleep(20)"))
            await asyncio.sleep(0.2)
        await two.query(f"SELECT pg_terminate_backend({one.process_id})")
        rest = [each for each in await one.rest() if each.kind == "E"]
        assert [(each.fields["V"], each.fields["C"]) for each in rest] == [("FATAL", "57P01")]
        assert "administrator command" in rest[0].fields["M"]


async def test_a_lost_client_frees_its_connection(own: Proxy) -> None:
    for _ in range(6):  # of four connections
        async with client(own) as one:
            one.vanish()
    async with client(own) as one:
        assert (await one.query("SELECT 1")).value == "1"
