"""Many clients ask for the same at once: a server is asked once, whatever processes they are at."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database
from tests.integration.cache.feed.feeds import metric
from tests.integration.session.raw import RawClient, query
from tests.proxies import Proxy, running_proxy

CLIENTS = 500
CONFIG = """
[routing]
enabled = false
[[cache.rule]]
name = "hot"
tables = ["c_hot"]
ttl = "300s"
"""
SCHEMA = """
CREATE TABLE c_hot (id int PRIMARY KEY, version int); INSERT INTO c_hot VALUES (1, 1), (2, 2);
CREATE SEQUENCE executions;
CREATE FUNCTION f_slow(v int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM nextval('executions'), pg_sleep(1); RETURN v; END $$;
"""
SLOW = "SELECT f_slow(version) FROM c_hot WHERE id = 1"
SHORT_LIVED = f"/* penstock: ttl=8 */ {SLOW}"


@pytest.fixture
def hot(database: Database) -> Database:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    return database


async def _connected(proxies: list[Proxy]) -> AsyncIterator[RawClient]:
    for each in range(0, CLIENTS, 20):
        for client in await asyncio.gather(
            *(RawClient.login(proxies[(each + n) % len(proxies)]) for n in range(20))
        ):
            yield client


def _executions(database: Database) -> int:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        found = connection.execute("SELECT last_value, is_called FROM executions").fetchone()
    assert found is not None
    return int(found[0]) if found[1] else 0


async def _all_ask(clients: list[RawClient], sql: str) -> set[str | None]:
    return {reply.value for reply in await asyncio.gather(*(one.query(sql) for one in clients))}


async def _hits(client: RawClient, proxy: Proxy) -> None:
    """Ask until the cache answers: then the process knows tables and schema."""
    deadline = time.monotonic() + 20
    while True:
        before = await asyncio.to_thread(metric, proxy, "penstock_cache_hits_total")
        await client.query("SELECT version FROM c_hot WHERE id = 2")
        if await asyncio.to_thread(metric, proxy, "penstock_cache_hits_total") > before:
            return
        assert time.monotonic() < deadline, "no hit"


@pytest.mark.parametrize(
    ("proxies", "workers"), [(1, 2), pytest.param(2, 1, marks=pytest.mark.nightly)]
)
async def test_one_read_for_all(hot: Database, tmp_path: Path, proxies: int, workers: int) -> None:
    with ExitStack() as cleanup:
        running = [
            cleanup.enter_context(
                running_proxy(
                    hot,
                    tmp_path,
                    extra=CONFIG,
                    environment={"PENSTOCK_SERVER__WORKERS": str(workers)},
                )
            )
            for _ in range(proxies)
        ]
        clients = [client async for client in _connected(running)]
        for _ in range(3):  # until the tables are known everywhere
            assert await _all_ask(clients, "SELECT version FROM c_hot WHERE id = 2") == {"2"}
        assert await _all_ask(clients, SLOW) == {"1"}
        assert _executions(hot) == 1
        await clients[0].query("UPDATE c_hot SET version = 3 WHERE id = 1")
        assert await _all_ask(clients, SLOW) == {"3"}
        assert _executions(hot) == 2
        assert await _all_ask(clients, SHORT_LIVED) == {"3"}
        assert _executions(hot) == 3
        await asyncio.sleep(8.0)  # its life
        assert await _all_ask(clients, SHORT_LIVED) == {"3"}
        assert _executions(hot) == 4
        for client in clients:
            client.vanish()


async def test_who_waits_goes_on_when_the_other_dies(hot: Database, tmp_path: Path) -> None:
    """Its lease outlives it, but not for longer than `coalesce`."""
    patient = {"PENSTOCK_CACHE__COALESCE": "4s"}
    with ExitStack() as cleanup:
        other = cleanup.enter_context(
            running_proxy(hot, tmp_path, extra=CONFIG, environment=patient)
        )
        doomed_context = running_proxy(hot, tmp_path, extra=CONFIG, environment=patient)
        doomed = doomed_context.__enter__()
        leading, waiting = await RawClient.login(doomed), await RawClient.login(other)
        # Acknowledged once the other has heard of it: from then on they know of each other.
        await leading.query("UPDATE c_hot SET version = version")
        await _hits(leading, doomed)
        await _hits(waiting, other)
        leading.send(query(SLOW))
        while await asyncio.to_thread(_executions, hot) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        waiting.send(query(SLOW))
        assert await waiting.silent(0.3)
        assert await asyncio.to_thread(_executions, hot) == 1
        doomed.process.kill()
        with pytest.raises(AssertionError, match="ended with"):
            doomed_context.__exit__(None, None, None)
        assert (await waiting.until("Z")).value == "1"
        assert _executions(hot) == 2
