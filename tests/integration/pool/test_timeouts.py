"""Time-outs of clients, queries, transactions and server connections: PgBouncer's scenarios."""

import asyncio
import contextlib
import os
import signal
import socket

import pytest

from tests.integration.pool.conftest import Start
from tests.integration.pool.people import Elapsed, Pooled, backend_of
from tests.integration.session.raw import (
    COPY_DONE,
    Gone,
    LoginRefused,
    RawClient,
    copy_data,
    query,
    startup,
)
from tests.proxies import Proxy


async def closing(one: RawClient) -> tuple[str, float]:
    """SQLSTATE of the last words that the client gets unasked, and how long they took."""
    elapsed = Elapsed()
    *_, last = await one.rest()
    assert last.fields["S"] == "FATAL"
    return last.fields["C"], elapsed()


async def test_a_client_idle_for_too_long_is_closed(start: Start) -> None:
    pooled = start('[pool]\nclient_idle_timeout = "2s"\n')
    async with pooled.client() as idle, pooled.client() as used, pooled.holding() as open_one:
        await idle.query("SELECT 1")
        pending = asyncio.ensure_future(closing(idle))
        for _ in range(9):
            await used.query("SELECT 1")
            await asyncio.sleep(0.5)
        code, seconds = await pending
        assert code == "57P05"
        assert 1.9 < seconds < 4.5
        assert (await open_one.query("COMMIT")).status == "I"  # was in a transaction


async def test_who_has_never_asked_anything_is_idle_too(start: Start) -> None:
    pooled = start('[pool]\nclient_idle_timeout = "1s"\n')
    async with pooled.client() as idle:
        assert (await closing(idle))[0] == "57P05"


async def test_a_message_that_is_still_coming_is_not_idleness(start: Start) -> None:
    pooled = start('[pool]\nclient_idle_timeout = "1s"\n')
    async with pooled.client() as slow:
        whole = query(f"SELECT {'1' * 9}")
        for byte in whole:
            slow.send(bytes([byte]))
            await asyncio.sleep(0.2)
        assert (await slow.until("Z")).value == "1" * 9


async def test_idle_in_a_transaction_for_too_long(start: Start) -> None:
    """Also behind an error; a client that goes on is left alone, and one outside of any."""
    pooled = start('[pool]\nidle_in_transaction_timeout = "2s"\n')
    async with pooled.holding() as idle, pooled.holding() as used, pooled.client() as outside:
        failed = await pooled.login()
        await failed.query("BEGIN")
        await failed.query("SELECT 1/0")
        await outside.query("SELECT 1")
        pending = [asyncio.ensure_future(closing(each)) for each in (idle, failed)]
        for _ in range(9):
            await used.query("SELECT 1")
            await asyncio.sleep(0.5)
        for code, seconds in await asyncio.gather(*pending):
            assert code == "25P03"
            assert 1.9 < seconds < 4.5
        assert (await outside.query("SELECT 2")).value == "2"
        await pooled.becomes(lambda: len(pooled.backends("state <> 'idle'")) == 1)
        assert (await used.query("COMMIT")).status == "I"


async def test_a_query_that_runs_too_long(start: Start) -> None:
    """It is cancelled on its server, the client closed; shorter ones add up to nothing."""
    pooled = start('[pool]\nquery_timeout = "2s"\n')
    async with pooled.client() as long, pooled.client() as short:
        await long.query("CREATE TABLE never_written (a int)")
        long.send(query("INSERT INTO never_written SELECT 1 FROM pg_sleep(30)"))
        pending = asyncio.ensure_future(closing(long))
        for _ in range(7):
            assert (await short.query("SELECT pg_sleep(0.5)")).errors == []
        code, seconds = await pending
        assert code == "57014"
        assert 1.9 < seconds < 4.5
        await pooled.becomes(lambda: not pooled.backends("state = 'active'"))
        assert (await short.query("SELECT count(*) FROM never_written")).value == "0"


async def test_waiting_for_a_connection_is_not_running(start: Start) -> None:
    pooled = start('[pool]\nsize = 1\nquery_timeout = "1s"\n')
    async with pooled.client() as waits, pooled.holding() as holder:
        pending = asyncio.ensure_future(waits.query("SELECT 7"))
        await asyncio.sleep(2.5)
        await holder.query("COMMIT")
        assert (await pending).value == "7"


async def test_a_query_on_a_server_that_is_frozen(start: Start) -> None:
    """The pool gets its place back although the server says nothing any more."""
    pooled = start('[pool]\nsize = 1\nquery_timeout = "1s"\n')
    async with pooled.client() as one, pooled.client() as two:
        process = await backend_of(one)
        os.kill(process, signal.SIGSTOP)
        try:
            one.send(query("SELECT 1"))
            assert (await closing(one))[0] == "57014"
            assert (await two.query("SELECT 2")).value == "2"
        finally:
            os.kill(process, signal.SIGCONT)


async def test_a_transaction_that_lasts_too_long(start: Start) -> None:
    """Busy or idle, and a lone statement as well; one that ends and begins anew does not."""
    pooled = start('[pool]\ntransaction_timeout = "2s"\n')
    async with pooled.holding() as busy, pooled.holding() as idle:
        lone, serial = await pooled.login(), await pooled.login()
        lone.send(query("SELECT pg_sleep(30)"))
        pending = [asyncio.ensure_future(closing(each)) for each in (idle, lone)]
        hurried = asyncio.ensure_future(hurry(busy))
        for _ in range(25):
            await serial.query("BEGIN; SELECT 1")
            await serial.query("SELECT pg_sleep(0.1)")
            assert (await serial.query("COMMIT")).status == "I"
        assert await hurried in ("25P04", "gone")
        for code, seconds in await asyncio.gather(*pending):
            assert code == "25P04"
            assert seconds < 4.5
        assert (await serial.query("SELECT 1")).value == "1"
        await pooled.becomes(lambda: not pooled.backends("state <> 'idle'"))


async def hurry(one: RawClient) -> str:
    """Ask until the connection ends; what with."""
    with contextlib.suppress(Gone):
        while not (errors := (await one.query("SELECT pg_sleep(0.1)")).errors):
            pass
        return errors[0]
    return "gone"


async def test_copy_is_bound_by_the_query_timeout(start: Start) -> None:
    pooled = start('[pool]\nquery_timeout = "2s"\n')
    async with pooled.client() as one, pooled.client() as other:
        await one.query("CREATE TABLE copied (a int)")
        one.send(query("COPY copied FROM STDIN"))
        await one.until("G")
        one.send(copy_data(b"1\n"))
        assert (await closing(one))[0] == "57014"
        other.send(query("COPY copied FROM STDIN"))
        await other.until("G")
        other.send(copy_data(b"2\n"), COPY_DONE)
        assert (await other.until("Z")).tags == ["COPY 1"]
        assert (await other.query("SELECT array_agg(a)::text FROM copied")).value == "{2}"


async def test_time_outs_of_a_user_and_of_a_database(start: Start) -> None:
    """The user's own wins over the database's, that over all's."""
    pooled = start(
        '[pool]\nclient_idle_timeout = "1h"\n'
        '[database."DATABASE".pool]\nclient_idle_timeout = "1s"\n',
        {"PENSTOCK_AUTH__USERS__2__POOL__CLIENT_IDLE_TIMEOUT": "0"},
    )
    ann, bob = pooled.roles
    async with pooled.client(ann) as closed, pooled.client(bob) as kept:
        assert (await closing(closed))[0] == "57P05"
        await asyncio.sleep(1.5)
        assert (await kept.query("SELECT 1")).value == "1"


async def test_a_server_connection_is_replaced_at_its_age(start: Start) -> None:
    """Also when it never rests, and never within a transaction."""
    pooled = start('[pool]\nsize = 1\nmax_lifetime = "2s"\n')
    async with pooled.client() as one:
        first = await backend_of(one)
        await one.query("BEGIN")
        await asyncio.sleep(3.5)
        assert await backend_of(one) == first
        await one.query("COMMIT")
        second = await backend_of(one)
        assert second != first
        elapsed = Elapsed()
        while await backend_of(one) == second:
            await one.query("SELECT pg_sleep(0.05)")
        assert elapsed() > 0.5


async def test_a_connection_that_was_idle_is_tried_before_it_is_lent(start: Start) -> None:
    """One that is cut off without a word is replaced; the client notices a wait at most."""
    pooled = start('[pool]\nsize = 2\ncheck_delay = "1s"\nconnect_timeout = "1s"\n')
    async with pooled.client() as one:
        frozen = await backend_of(one)
        os.kill(frozen, signal.SIGSTOP)
        try:
            await asyncio.sleep(2.5)
            elapsed = Elapsed()
            assert await backend_of(one) != frozen
            assert elapsed() < 5
        finally:
            os.kill(frozen, signal.SIGCONT)
        await asyncio.sleep(2.5)
        kept = await pooled_backend(pooled, one)
        await asyncio.sleep(2.5)
        assert await pooled_backend(pooled, one) == kept


async def pooled_backend(pooled: Pooled, one: RawClient) -> int:
    """Who serves it, and that this is one of the pool's."""
    process = await backend_of(one)
    assert process in pooled.backends()
    return process


async def test_every_connection_is_tried_if_asked_for(start: Start) -> None:
    pooled = start('[pool]\nsize = 1\ncheck_delay = 0\ncheck_query = "SELECT 1 / 0"\n')
    async with pooled.client() as one:
        first = await backend_of(one)
        assert await backend_of(one) != first  # it failed the test, a new one needs none


async def test_a_server_that_does_not_answer(start: Start) -> None:
    """Its socket accepts and then nothing comes."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        pooled = start(
            '[pool]\nconnect_timeout = "1s"\n[database.deaf.primary]\n'
            f'host = "127.0.0.1"\nport = {port}\n'
        )
        one = await RawClient.open(pooled.proxy)
        elapsed = Elapsed()
        code, reason = await refused_login(one, pooled.proxy, "deaf")
        assert code == "08006"
        assert "no answer in time" in reason
        assert 0.9 < elapsed() < 4


async def refused_login(one: RawClient, proxy: Proxy, database: str) -> tuple[str, str]:
    """SQLSTATE and message of a login's end."""
    one.send(startup({"user": proxy.database.user, "database": database}))
    with pytest.raises(LoginRefused) as refused:
        await one.authenticate(proxy.database.password)
    return refused.value.fields["C"], refused.value.fields["M"]
