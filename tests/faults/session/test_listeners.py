"""The connection that listens for all clients is lost, or a client doesn't read what it hears."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.faults.session.watching import becomes
from tests.integration.session.hearing import heard_in, hears
from tests.integration.session.raw import RawClient, client
from tests.proxies import Proxy, running_proxy


def end_listener(proxy: Proxy) -> None:
    """As an administrator would; there must be one."""
    with superuser_connection(proxy.database.stack.primary) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = %s AND application_name = 'penstock listener'",
            [proxy.database.name],
        ).fetchall()
    assert (True,) in ended


@pytest.fixture(scope="module")
def warning(own: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Listens again by itself."""
    extra = '[pool]\nsize = 2\nlistener_loss = "warn"\n'
    with running_proxy(own, tmp_path_factory.mktemp("proxy"), extra=extra) as proxy:
        yield proxy


async def test_clients_that_listen_are_told_and_closed(small: Proxy) -> None:
    idle, busy, deaf = [await RawClient.login(small) for _ in range(3)]
    await idle.query("LISTEN news")
    await busy.query("LISTEN news")
    await busy.query("BEGIN")
    await asyncio.to_thread(end_listener, small)
    (last,) = await idle.rest()
    assert (last.fields["C"], last.fields["S"]) == ("57P01", "FATAL")
    assert "notifications may have been lost" in last.fields["M"]
    assert (await busy.query("SELECT 1")).value == "1"
    assert (await busy.query("COMMIT")).tags == ["COMMIT"]
    assert [each.fields["C"] for each in await busy.rest()] == ["57P01"]
    assert (await deaf.query("SELECT 1")).value == "1"
    await deaf.query("LISTEN news")
    assert heard_in(await deaf.query("NOTIFY news")) == [("news", "")]
    await deaf.leave()


async def test_clients_are_warned_where_that_is_wanted(warning: Proxy) -> None:
    people = [await RawClient.login(warning) for _ in range(3)]
    for each in people:
        await each.query("LISTEN news")
    for _ in range(2):
        await asyncio.to_thread(end_listener, warning)
        for each in people:
            told = await each.receive()
            assert (told.kind, told.fields["S"], told.fields["C"]) == ("N", "WARNING", "01000")
        async with client(warning) as speaker:
            await speaker.query("NOTIFY news, 'again'")
        for each in people:
            assert await hears(each, 1) == [("news", "again")]
    for each in people:
        await each.leave()


async def test_the_server_restarts(small: Proxy, servers: Stack) -> None:
    one = await RawClient.login(small)
    await one.query("LISTEN news")
    await asyncio.to_thread(servers.primary.stop)
    await asyncio.to_thread(servers.primary.start)
    assert [each.fields["C"] for each in await one.rest()] == ["57P01"]

    def back() -> bool:
        try:
            with psycopg.connect(small.dsn(), autocommit=True) as connection:
                connection.execute("LISTEN news")
                connection.execute("NOTIFY news, 'back'")
                return [n.payload for n in connection.notifies(timeout=5, stop_after=1)] == ["back"]
        except psycopg.OperationalError:
            return False

    await becomes(back, "nobody listens after the restart", 30)


async def test_a_client_that_does_not_read_is_closed(own: Database, tmp_path: Path) -> None:
    limit = {"PENSTOCK_LIMITS__NOTIFICATION_BACKLOG": "1MB"}
    with running_proxy(own, tmp_path, environment=limit) as proxy:
        slow = await RawClient.open(proxy, limit=1 << 12)
        slow.writer.close()
        slow = await RawClient.login(proxy)
        within = await RawClient.login(proxy)
        for each in (slow, within):
            await each.query("LISTEN flood")
        await within.query("BEGIN")
        async with client(proxy) as speaker:
            before = proxy.memory()
            for _ in range(60):
                await speaker.query(
                    "SELECT count(pg_notify('flood', n || repeat('x', 7000))) "
                    "FROM generate_series(1, 100) n"
                )
            assert proxy.memory() - before < 30 << 20
        last = (await within.rest())[-1]
        assert (last.kind, last.fields["C"]) == ("E", "54000")
        slow.vanish()


async def test_no_connection_for_all_means_one_of_its_own(own: Database, tmp_path: Path) -> None:
    """Where the role may have no further connection the client keeps the one that it has."""
    with superuser_connection(own.stack.primary) as connection:
        connection.execute("DROP ROLE IF EXISTS narrow")
        connection.execute("CREATE ROLE narrow LOGIN PASSWORD 'narrow' CONNECTION LIMIT 1")
    extra = '[[auth.users]]\nname = "narrow"\npassword = "narrow"\n[pool]\nsize = 1\n'
    with running_proxy(own, tmp_path, extra=extra) as proxy:
        one = await RawClient.login(proxy, user="narrow", password="narrow")
        await one.query("LISTEN news")
        with psycopg.connect(
            proxy.dsn("penstock"), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as console:
            pinned = [row["pinned"] for row in console.execute("SHOW CLIENTS")]
        reasons = [reason for reason in pinned if reason]
        assert len(reasons) == 1
        assert reasons[0].startswith("LISTEN: no connection listens for all (too many connections")
        assert heard_in(await one.query("NOTIFY news")) == [("news", "")]
        await one.query("UNLISTEN *")
        await one.query("LISTEN other")
        assert heard_in(await one.query("NOTIFY other")) == [("other", "")]
        await one.leave()
