"""Without a cache: a session's reads never miss its own writes, however old the replicas are."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest

from proxy.local.stack import Stack
from tests.databases import Database
from tests.integration.session.raw import SYNC, RawClient, query, run
from tests.proxies import Proxy, running_proxy

SESSIONS = 16


@pytest.fixture
def rows(own: Database) -> Iterator[Database]:
    """A table with a row for each session."""
    with psycopg.connect(own.dsn(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS r; CREATE TABLE r (id int PRIMARY KEY, v int)")
        connection.execute(
            f"INSERT INTO r SELECT n, 0 FROM generate_series(1, {SESSIONS}) n".encode()
        )
        yield own


async def test_reads_see_the_sessions_own_writes(
    rows: Database, servers: Stack, tmp_path: Path
) -> None:
    with running_proxy(rows, tmp_path) as proxy:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            sessions = [
                group.create_task(_session(proxy, number, over))
                for number in range(1, SESSIONS + 1)
            ]
            for _ in range(5):
                await asyncio.to_thread(servers.replicas[0].psql, "SELECT pg_wal_replay_pause()")
                await asyncio.sleep(0.4)
                await asyncio.to_thread(servers.replicas[0].psql, "SELECT pg_wal_replay_resume()")
                await asyncio.sleep(0.4)
            over.set()
        assert min(task.result() for task in sessions) >= 5
        assert _reads_on_the_replica(proxy) > SESSIONS


def _reads_on_the_replica(proxy: Proxy) -> int:
    with urlopen(f"{proxy.url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    of_replica = [line for line in lines if 'node="replica1"' in line and "queries_total" in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in of_replica)


async def _session(proxy: Proxy, number: int, over: asyncio.Event) -> int:
    """Write and read the row; gives how many times."""
    chance = random.Random(number)
    client = await RawClient.login(proxy)
    version = 0
    while not over.is_set():
        version += 1
        for sql in chance.choice(WAYS):
            assert not (await client.query(sql.format(number, version))).errors
        for _ in range(chance.choice((1, 3, 8))):
            read = f"SELECT v FROM r WHERE id = {number}"
            by_query = chance.random() < 0.5
            reply = await client.ask(query(read) if by_query else run(read) + SYNC)
            assert reply.value == str(version)
            await asyncio.sleep(chance.choice((0.0, 0.01, 0.1)))
    await client.leave()
    return version


WAYS = (
    ("UPDATE r SET v = {1} WHERE id = {0}",),
    ("BEGIN", "UPDATE r SET v = {1} WHERE id = {0}", "COMMIT"),
    ("BEGIN; UPDATE r SET v = {1} WHERE id = {0}; COMMIT",),
    ("DELETE FROM r WHERE id = {0}; INSERT INTO r VALUES ({0}, {1})",),
    ("DO $$ BEGIN UPDATE r SET v = {1} WHERE id = {0}; END $$",),
    ("WITH w AS (UPDATE r SET v = {1} WHERE id = {0} RETURNING v) SELECT v FROM w",),
    (
        "BEGIN",
        "UPDATE r SET v = -1 WHERE id = {0}",
        "ROLLBACK",
        "UPDATE r SET v = {1} WHERE id = {0}",
    ),
)
