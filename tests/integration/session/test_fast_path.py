"""Queries that are relayed in C alone: seen from outside there is no difference.

Each test begins with clients on the fast path, where it is compiled, and makes them leave.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import Database, superuser_connection
from tests.integration.admin.operating import operator, rows
from tests.integration.cache.feed.feeds import eventually, metric
from tests.integration.session.raw import (
    SYNC,
    RawClient,
    bind,
    describe_portal,
    execute,
    parse,
    query,
)
from tests.integration.session.test_cancel import cancel
from tests.nursery import TREE
from tests.proxies import Proxy, running_proxy

COMPILED = TREE in os.environ
SIZE = 4
SCHEMA = """
CREATE TABLE f_rows (id int PRIMARY KEY, v text);
INSERT INTO f_rows SELECT n, 'v' || n FROM generate_series(1, 1000) n;
"""


def text_of(number: int) -> str:
    return f"SELECT v FROM f_rows WHERE id = {number}"


def extended(number: int, describes: bool = True) -> bytes:
    return b"".join(
        (
            parse("SELECT v FROM f_rows WHERE id = $1::int"),
            bind(str(number).encode()),
            describe_portal() if describes else b"",
            execute(),
            SYNC,
        )
    )


def fast(proxy: Proxy) -> float:
    return metric(proxy, "penstock_fast_path_queries_total")


def queries(proxy: Proxy) -> float:
    return metric(proxy, "penstock_queries_total")


@contextmanager
def serving(database: Database, directory: Path, times: str = "") -> Iterator[Proxy]:
    extra = f"[pool]\nsize = {SIZE}\n{times}[routing]\nenabled = false\n"
    with running_proxy(database, directory, extra=extra) as proxy:
        yield proxy


@pytest.fixture
def filled(database: Database) -> Database:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    return database


@pytest.fixture
def plain(filled: Database, tmp_path: Path) -> Iterator[Proxy]:
    with serving(filled, tmp_path) as proxy:
        yield proxy


async def warm(proxy: Proxy, count: int = 1) -> list[RawClient]:
    """Clients whose next queries go fast, where that is compiled."""
    clients = [await RawClient.login(proxy) for _ in range(count)]
    deadline = time.monotonic() + 20
    for client in clients:
        before = await asyncio.to_thread(fast, proxy)
        while True:
            for number in range(1, 6):
                assert (await client.query(text_of(number))).value == f"v{number}"
                client.send(extended(number))
                assert (await client.until("Z")).value == f"v{number}"
            if not COMPILED or await asyncio.to_thread(fast, proxy) > before:
                break
            assert time.monotonic() < deadline, "nothing goes fast"
        assert (await client.query(text_of(1))).value == "v1"  # the look has made it leave
    return clients


@pytest.fixture
async def client(plain: Proxy) -> AsyncIterator[RawClient]:
    (client,) = await warm(plain)
    yield client
    client.vanish()


async def test_each_gets_its_own_rows(plain: Proxy) -> None:
    """Three times as many clients as servers, ten thousand queries."""
    clients = await warm(plain, 3 * SIZE)
    before, all_before = fast(plain), queries(plain)

    async def ask(client: RawClient, first: int) -> None:
        for number in range(first, first + 400):
            wanted = 1 + number * 7919 % 1000
            if number % 2:
                client.send(query(text_of(wanted)))
            else:
                client.send(extended(wanted, describes=number % 4 == 0))
            assert (await client.until("Z")).value == f"v{wanted}"

    await asyncio.gather(*(ask(one, 1000 * place) for place, one in enumerate(clients)))
    assert queries(plain) - all_before == 400 * len(clients)
    assert (fast(plain) - before > 300 * len(clients)) == COMPILED
    for client in clients:
        client.vanish()


async def test_a_pipeline_of_queries(client: RawClient) -> None:
    """The second comes before the first has been answered, or with it."""
    for _ in range(20):
        client.send(query(text_of(1)) + query(text_of(2)))
        client.send(extended(3))
        for number in (1, 2, 3):
            assert (await client.until("Z")).value == f"v{number}"


async def test_in_pieces(client: RawClient) -> None:
    whole = query(text_of(7))
    for cut in (1, 4, 5, 20, len(whole) - 1):
        client.send(whole[:cut])
        await asyncio.sleep(0.01)
        client.send(whole[cut:])
        assert (await client.until("Z")).value == "v7"


async def test_errors_and_what_follows(client: RawClient) -> None:
    for _ in range(3):
        assert (await client.query("SELECT v FROM f_rows WHERE id = 1/0")).kinds == "EZ"
        assert (await client.query(text_of(5))).value == "v5"
        client.send(extended(99999999999))
        assert "E" in (await client.until("Z")).kinds
        client.send(extended(6))
        assert (await client.until("Z")).value == "v6"


async def test_transactions_and_settings_between(plain: Proxy, client: RawClient) -> None:
    (other,) = await warm(plain)
    for number in range(1, 8):
        assert (await client.query("BEGIN")).kinds == "CZ"
        assert (await client.query(text_of(number))).value == f"v{number}"
        await client.query(f"UPDATE f_rows SET v = 'w{number}' WHERE id = {number}")
        assert (await client.query(text_of(number))).value == f"w{number}"
        assert (await other.query(text_of(number))).value == f"v{number}"
        await client.query("COMMIT")
        assert (await other.query(text_of(number))).value == f"w{number}"
    await client.query("SET statement_timeout = 54321")
    for number in range(10, 15):
        assert (await client.query(text_of(number))).value == f"v{number}"
        assert (await other.query(text_of(number))).value == f"v{number}"
        assert (await client.query("SHOW statement_timeout")).value == "54321ms"
        assert (await other.query("SHOW statement_timeout")).value == "0"
    other.vanish()


async def test_the_unnamed_statement_is_the_last_that_was_parsed(client: RawClient) -> None:
    for _ in range(5):
        client.send(extended(3))
        assert (await client.until("Z")).value == "v3"
    client.send(bind(b"4") + execute() + SYNC)
    assert (await client.until("Z")).value == "v4"
    assert (await client.query(text_of(5))).value == "v5"  # which ends the unnamed one
    client.send(bind(b"4") + execute() + SYNC)
    reply = await client.until("Z")
    assert reply.kinds == "EZ"
    assert reply.messages[0].fields["C"] == "26000"


async def test_large_rows(client: RawClient) -> None:
    """Longer than what is read at once."""
    for size in (1, 8000, 16000, 16384, 20000, 1_000_000):
        text = f"SELECT repeat('x', {size}) FROM f_rows WHERE id = 1"
        for _ in range(3):
            assert (await client.query(text)).value == "x" * size


async def test_a_client_that_reads_late(client: RawClient) -> None:
    """Its socket takes no more, in the midst of an answer."""
    count = 600
    for number in range(count):
        client.send(query(f"SELECT repeat('x', 8000), {number} FROM f_rows WHERE id = 1"))
        await asyncio.sleep(0.002)
    for number in range(count):
        reply = await client.until("Z")
        assert reply.rows == [("x" * 8000, str(number))]
    assert (await client.query(text_of(2))).value == "v2"


async def test_a_table_that_changes(plain: Proxy, client: RawClient) -> None:
    with psycopg.connect(plain.dsn(), autocommit=True) as other:
        other.execute("ALTER TABLE f_rows ALTER v TYPE int USING substr(v, 2)::int")
        assert (await client.query(text_of(5))).value == "5"
        client.send(extended(6))
        assert (await client.until("Z")).value == "6"
        other.execute("ALTER TABLE f_rows RENAME TO f_others")
        assert (await client.query(text_of(5))).kinds == "EZ"
        other.execute("CREATE SEQUENCE f_seq")
        other.execute("CREATE VIEW f_rows AS SELECT id, nextval('f_seq') AS v FROM f_others")
        first = (await client.query(text_of(5))).value
        assert (await client.query(text_of(5))).value != first


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Whoever reads the table waits for the end of the block."""
    with superuser_connection(database.stack.primary, database.name) as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE f_rows")
        yield
        holder.execute("ROLLBACK")


def waiting_for_locks(database: Database) -> int:
    with superuser_connection(database.stack.primary, database.name) as watcher:
        found = watcher.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            [database.name],
        ).fetchone()
    assert found is not None
    return int(found[0])


async def hold_up(client: RawClient, database: Database, number: int) -> None:
    """Send a query, on the fast path, that waits for the lock."""
    client.send(query(text_of(number)))
    await asyncio.to_thread(eventually, lambda: waiting_for_locks(database) > 0, "it waits")


async def test_cancel(plain: Proxy, client: RawClient) -> None:
    with locked(plain.database):
        await hold_up(client, plain.database, 1)
        await cancel(plain, client.process_id, client.secret)
        assert (await client.until("Z")).errors == ["57014"]
    assert (await client.query(text_of(2))).value == "v2"


async def test_a_server_process_that_ends(plain: Proxy, client: RawClient) -> None:
    with locked(plain.database):
        await hold_up(client, plain.database, 1)
        await asyncio.to_thread(end_servers, plain.database)
        assert (await client.until("Z")).errors[0] in ("57P01", "08006")
    assert (await client.query(text_of(2))).value == "v2"
    await asyncio.to_thread(end_servers, plain.database)  # idle ones
    deadline = time.monotonic() + 20
    while (await client.query(text_of(3))).kinds != "TDCZ":
        assert time.monotonic() < deadline


def end_servers(database: Database) -> None:
    with superuser_connection(database.stack.primary, database.name) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            " AND usename = %s",
            [database.name, database.user],
        )


async def test_a_client_that_vanishes(plain: Proxy, client: RawClient) -> None:
    with locked(plain.database):
        await hold_up(client, plain.database, 1)
        client.vanish()
        await asyncio.to_thread(
            eventually, lambda: waiting_for_locks(plain.database) == 0, "the server stops"
        )
    for other in await warm(plain, 2):
        other.vanish()


async def test_who_waits_for_a_server(filled: Database, tmp_path: Path) -> None:
    """All servers are held up: the others wait, are told so in time, or get theirs then."""
    with serving(filled, tmp_path) as proxy:
        clients = await warm(proxy, 3 * SIZE)
        with locked(filled):
            for number, one in enumerate(clients, 1):
                one.send(query(text_of(number)))
            await asyncio.to_thread(
                eventually, lambda: waiting_for_locks(filled) == SIZE, "all servers are held up"
            )
            pools = await asyncio.to_thread(pools_of, proxy)
            assert pools == [(SIZE, 2 * SIZE)]
            clients[-1].vanish()
            await cancel(proxy, clients[-2].process_id, clients[-2].secret)
            assert (await clients[-2].until("Z")).errors == ["57014"]
        for number, one in enumerate(clients[:-2], 1):
            assert (await one.until("Z")).value == f"v{number}"
        for number, one in enumerate(clients[:-1], 1):
            assert (await one.query(text_of(number))).value == f"v{number}"
            one.vanish()


async def test_nobody_waits_while_a_server_is_to_be_had(filled: Database, tmp_path: Path) -> None:
    """One is held up: the others get another, one that is idle or one that is opened for them."""
    with serving(filled, tmp_path) as proxy:
        one, other, third = await warm(proxy, 3)
        with locked(filled):
            await hold_up(one, filled, 1)
            for _ in range(3):
                for client in (other, third):
                    began = time.monotonic()
                    assert (await client.query("SELECT 1")).value == "1"
                    assert time.monotonic() - began < 10  # never for the lock
                await asyncio.to_thread(metric, proxy, "penstock_queries_total")
        assert (await one.until("Z")).value == "v1"


def pools_of(proxy: Proxy) -> list[tuple[int, int]]:
    """(clients that have a server, clients that wait for one) of the database's pools in use."""
    own = of_database(proxy, "SHOW POOLS")
    return [(row["cl_active"], row["cl_waiting"]) for row in own if row["cl_waiting"]]


def of_database(proxy: Proxy, command: str) -> list[dict[str, Any]]:
    """What the console says of the test's database."""
    with operator(proxy) as console:
        return [one for one in rows(console, command) if one["database"] == proxy.database.name]


async def test_the_console_sees_all(plain: Proxy, client: RawClient) -> None:
    with locked(plain.database):
        await hold_up(client, plain.database, 1)
        own = await asyncio.to_thread(of_database, plain, "SHOW CLIENTS")
        assert [row["state"] for row in own] == ["active"]
    assert (await client.until("Z")).value == "v1"


async def test_pause_and_resume(plain: Proxy) -> None:
    clients = await warm(plain, 3)
    with operator(plain) as admin:
        admin.execute(f'PAUSE "{plain.database.name}"'.encode())
        clients[0].send(query(text_of(8)))
        assert await clients[0].silent(0.3)
        admin.execute(f'RESUME "{plain.database.name}"'.encode())
        assert (await clients[0].until("Z")).value == "v8"
        admin.execute(f'RECONNECT "{plain.database.name}"'.encode())
        for client in clients:
            assert (await client.query(text_of(9))).value == "v9"
            client.vanish()


async def test_time_outs(filled: Database, tmp_path: Path) -> None:
    times = 'query_timeout = "1s"\nclient_idle_timeout = "3s"\n'
    with serving(filled, tmp_path, times=times) as proxy:
        (one,) = await warm(proxy)
        with locked(filled):
            await hold_up(one, filled, 1)
            assert (await one.until("E")).errors == ["57014"]
        (idle,) = await warm(proxy)
        for _ in range(8):  # whoever asks is not idle, by whichever path
            await asyncio.sleep(0.5)
            assert (await idle.query(text_of(3))).value == "v3"
        assert (await idle.until("E")).errors == ["57P05"]


async def test_an_orderly_end_waits_for_what_is_under_way(filled: Database, tmp_path: Path) -> None:
    with serving(filled, tmp_path) as proxy:
        (one,) = await warm(proxy)
        with locked(filled):
            await hold_up(one, filled, 4)
            proxy.process.send_signal(signal.SIGTERM)
            assert await one.silent(0.5)
        assert (await one.until("Z")).value == "v4"
        one.vanish()
        await asyncio.to_thread(proxy.process.wait)


def test_pgbench_through_reloads(filled: Database, plain: Proxy) -> None:
    """Nothing fails while the console looks, plans are made anew and connections replaced."""
    stack = filled.stack
    script = plain.config_file.parent / "select.sql"
    script.write_text("\\set n random(1, 1000)\nSELECT v FROM f_rows WHERE id = :n;\n")
    pgbench = subprocess.Popen(
        [stack.pgbench, "-n", "-c", "12", "-j", "2", "-T", "6", "-f", script],
        env=plain.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with operator(plain) as admin, psycopg.connect(plain.dsn(), autocommit=True) as other:
        while pgbench.poll() is None:
            admin.execute("SHOW CLIENTS").fetchall()
            admin.execute("SHOW STATS").fetchall()
            admin.execute("RELOAD")
            other.execute("CREATE OR REPLACE VIEW f_view AS SELECT 1 AS one")
            admin.execute(f'RECONNECT "{filled.name}"'.encode())
            time.sleep(0.1)
    output = pgbench.communicate()[0]
    assert pgbench.returncode == 0, output
    assert "number of failed transactions: 0 (" in output
    assert (fast(plain) > 0) == COMPILED
