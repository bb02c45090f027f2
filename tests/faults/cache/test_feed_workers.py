"""Two proxies of two workers each: one process reads the slot, three follow, and any may die."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.faults.cache.history import History
from tests.faults.cache.test_feed_coherence import EAGER, FED_RULE, LAG, directly, set_up
from tests.faults.cache.workload import GUARDED, PRECISE, Workload
from tests.integration.cache.feed.feeds import eventually, fed_proxy, metric
from tests.proxies import Proxy

WORKERS = 2
WAYS = [way for way in PRECISE if way.name in GUARDED]


@pytest.fixture
def pair(schema: Database, tmp_path: Path) -> Iterator[list[Proxy]]:
    set_up(schema, tmp_path)
    with ExitStack() as cleanup:
        yield [
            cleanup.enter_context(
                fed_proxy(
                    schema,
                    tmp_path,
                    feed=EAGER,
                    rule=FED_RULE,
                    environment={"PENSTOCK_SERVER__WORKERS": str(WORKERS)},
                )
            )
            for _ in range(2)
        ]


def reader_of_the_slot(schema: Database, pair: list[Proxy]) -> int | None:
    """The worker's process id; None while nobody reads."""
    with superuser_connection(schema.stack.primary) as primary:
        found = primary.execute(
            "SELECT client_port FROM pg_stat_replication JOIN pg_replication_slots "
            "ON active_pid = pid WHERE database = %s",
            [schema.name],
        ).fetchone()
    if found is None:
        return None
    for proxy in pair:
        for worker in psutil.Process(proxy.process.pid).children():
            with suppress(psutil.Error, FileNotFoundError):  # it may have ended meanwhile
                ports = [one.laddr.port for one in worker.net_connections() if one.laddr]
                if found[0] in ports:
                    return int(worker.pid)
    return None


def takeovers(pair: list[Proxy]) -> float:
    return sum(metric(proxy, "penstock_cache_feed_takeovers_total") for proxy in pair)


@pytest.mark.timeout(300)
async def test_one_consumes_and_the_others_follow(
    schema: Database, servers: Stack, pair: list[Proxy]
) -> None:
    """Whoever it is may be killed, worker by worker; no read is older than promised meanwhile."""
    assert takeovers(pair) == 1
    workload = Workload(pair, WAYS, History(LAG), around=[directly(pair[0])], pause=3.0)
    await workload.warm()

    async def kill_consumers() -> None:
        for _ in range(3):
            await asyncio.sleep(1.0)
            doomed = await asyncio.to_thread(reader_of_the_slot, schema, pair)
            assert doomed is not None
            os.kill(doomed, signal.SIGKILL)

            def taken_over(gone: int = doomed) -> bool:
                return reader_of_the_slot(schema, pair) not in (None, gone)

            await asyncio.to_thread(eventually, taken_over, "another reads the slot")

    await workload.run_beside(kill_consumers(), readers=8)
    assert workload.history.verdict() == ""
    assert workload.history.reads > 200
    assert sum(metric(proxy, "penstock_cache_hits_total") for proxy in pair) > 20
    restarts = sum(metric(proxy, "penstock_cache_feed_restarts_total") for proxy in pair)
    assert restarts <= 1  # the first of all; who takes over goes on where the slot stands
