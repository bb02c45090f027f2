"""Reads relayed in C alone go to the replicas in turn, while those fail, lag and come back.

Without the compiled form the same holds by the long way.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database
from tests.integration.admin.operating import operator
from tests.integration.cache.feed.feeds import eventually, samples
from tests.integration.session.raw import RawClient, query
from tests.nursery import TREE
from tests.proxies import Proxy, running_proxy
from tests.stacks import PrivateStack

COMPILED = TREE in os.environ
CLIENTS = 12
REPLICAS = ("replica1", "replica2")
ROUTING = '[pool]\nsize = 4\n[routing]\nmonitor_interval = "50ms"\nmax_lag = "1s"\n'


@pytest.fixture(scope="module")
def servers(module_private_stack: PrivateStack) -> Stack:
    return module_private_stack(replicas=2)


@pytest.fixture
def rows(servers: Stack) -> Iterator[Database]:
    with fresh_database(servers, "fast_replicas") as database:
        with psycopg.connect(database.dsn(), autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE r (id int PRIMARY KEY, v text);"
                "INSERT INTO r SELECT n, 'v' || n FROM generate_series(1, 100) n;"
                "CREATE TABLE w (id int PRIMARY KEY, v int); INSERT INTO w VALUES (1, 0)"
            )
        yield database


@pytest.fixture
def proxy(rows: Database, tmp_path: Path) -> Iterator[Proxy]:
    with running_proxy(rows, tmp_path, extra=ROUTING) as proxy:
        eventually(lambda: all(replicas_up(proxy)), "both replicas are healthy")
        yield proxy


def replicas_up(proxy: Proxy) -> list[bool]:
    up = samples(proxy, "penstock_node_up")
    return [value == 1 for labels, value in up.items() if "replica" in labels]


def reads_of(proxy: Proxy) -> dict[str, float]:
    """Queries so far, by node."""
    found = {"primary": 0.0, "replica1": 0.0, "replica2": 0.0}
    for labels, value in samples(proxy, "penstock_queries_total").items():
        for node in found:
            if f'node="{node}"' in labels:
                found[node] += value
    return found


async def reads_since(proxy: Proxy, before: dict[str, float]) -> dict[str, float]:
    after = await asyncio.to_thread(reads_of, proxy)
    return {node: after[node] - before[node] for node in after}


async def ask(client: RawClient, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        wanted = 1 + number % 100
        client.send(query(f"SELECT v FROM r WHERE id = {wanted}"))
        assert (await client.until("Z")).value == f"v{wanted}"


async def logins(proxy: Proxy) -> list[RawClient]:
    clients = [await RawClient.login(proxy) for _ in range(CLIENTS)]
    for client in clients:
        await ask(client, 5)
    return clients


def leave(clients: list[RawClient]) -> None:
    for client in clients:
        client.vanish()


async def test_all_replicas_take_their_share(proxy: Proxy) -> None:
    clients = await logins(proxy)
    before = await asyncio.to_thread(reads_of, proxy)
    fast_before = samples(proxy, "penstock_fast_path_queries_total")
    await asyncio.gather(*(ask(one, 200, 7 * place) for place, one in enumerate(clients)))
    reads = await reads_since(proxy, before)
    assert reads["primary"] == 0
    assert sum(reads.values()) == 200 * CLIENTS
    assert all(reads[node] > 0.4 * 200 * CLIENTS for node in REPLICAS)
    after = samples(proxy, "penstock_fast_path_queries_total")
    assert (sum(after.values()) - sum(fast_before.values()) > 100 * CLIENTS) == COMPILED
    leave(clients)


async def test_one_that_fails_and_comes_back(proxy: Proxy, servers: Stack) -> None:
    clients = await logins(proxy)
    over = asyncio.Event()

    async def go_on(client: RawClient) -> None:
        while not over.is_set():
            await ask(client, 20)

    async with asyncio.TaskGroup() as group:
        for one in clients:
            group.create_task(go_on(one))
        for _ in range(2):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(servers.replicas[0].kill)
            await asyncio.sleep(0.5)
            before = await asyncio.to_thread(reads_of, proxy)
            await asyncio.sleep(0.3)
            reads = await reads_since(proxy, before)
            assert reads["replica1"] == 0 < reads["replica2"]
            before = await asyncio.to_thread(reads_of, proxy)
            await asyncio.to_thread(servers.replicas[0].start)
            await asyncio.sleep(4)  # nobody looks: that would make all leave
            reads = await reads_since(proxy, before)
            assert min(reads[node] for node in REPLICAS) > 0
        over.set()
    leave(clients)


async def test_one_that_lags_is_not_read(proxy: Proxy, servers: Stack) -> None:
    """By more than max_lag; nobody's queries tell the fast path, only the monitor does."""
    clients = await logins(proxy)
    stays, read = servers.replicas[1], "SELECT v FROM w WHERE id = 1"
    with psycopg.connect(proxy.database.dsn(), autocommit=True) as writer:

        async def keep_on(seconds: float, least: int = 0) -> int:
            """Write and read; the least that was read."""
            began = time.monotonic()
            seen: list[int] = []
            while time.monotonic() - began < seconds:
                await asyncio.to_thread(writer.execute, "UPDATE w SET v = v + 1")
                for one in clients:
                    seen.append(int((await one.query(read)).value or "-1"))
            assert min(seen) > least
            return max(seen)

        await keep_on(0.5, -1)
        await asyncio.to_thread(stays.psql, "SELECT pg_wal_replay_pause()")
        try:
            last = await keep_on(0.2)
            await keep_on(2.5)
            await keep_on(1, last)
        finally:
            await asyncio.to_thread(stays.psql, "SELECT pg_wal_replay_resume()")
    leave(clients)


async def test_own_writes_between(proxy: Proxy, servers: Stack) -> None:
    """A client that has just written reads its own row, though it read fast before and after."""
    client, *others = await logins(proxy)
    stays = servers.replicas[0]
    for number in range(1, 13):
        if number % 4 == 1:
            await asyncio.to_thread(stays.psql, "SELECT pg_wal_replay_pause()")
        if number % 4 == 3:
            await asyncio.to_thread(stays.psql, "SELECT pg_wal_replay_resume()")
        await asyncio.gather(*(ask(one, 5) for one in others))
        assert (await client.query(f"UPDATE w SET v = {number}")).kinds == "CZ"
        for _ in range(30):
            assert (await client.query("SELECT v FROM w WHERE id = 1")).value == str(number)
            await asyncio.sleep(0.005)
    leave([client, *others])


async def test_a_reload_that_sends_reads_to_the_primary(proxy: Proxy) -> None:
    clients = await logins(proxy)
    text = proxy.config_file.read_text()
    hosts = next(line for line in text.splitlines() if line.startswith("hosts = "))
    proxy.config_file.write_text(text.replace(hosts, f'{hosts}\nread_preference = "primary"'))
    with operator(proxy) as admin:
        admin.execute("RELOAD")
    before = await asyncio.to_thread(reads_of, proxy)
    await asyncio.gather(*(ask(one, 20) for one in clients))
    reads = await reads_since(proxy, before)
    assert reads == {"primary": 20.0 * CLIENTS, "replica1": 0, "replica2": 0}
    leave(clients)
