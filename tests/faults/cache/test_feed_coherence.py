"""With the change feed, reads are no older than promised, also where others write.

The promise: a hit misses no write that was acknowledged longer than the rule's max_feed_lag before
the query. Reads go to the primary alone, as those that pass the cache by promise nothing else.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.faults.cache.history import History
from tests.faults.cache.test_coherence_faults import redis_dies, redis_freezes
from tests.faults.cache.workload import PRECISE, RULE, SWEEPING, Workload, metric
from tests.integration.cache.feed.feeds import (
    FEED,
    consumed,
    eventually,
    fed_proxy,
    feed_command,
    trusted,
)
from tests.proxies import Proxy, running_proxy

READS = 1500
LAG = 0.5
EAGER = FEED + "[routing]\nenabled = false\nmonitor_interval = '20ms'\n"
FED_RULE = RULE + f'max_feed_lag = "{LAG}s"\n'
SECONDS = 5.0


def directly(proxy: Proxy) -> Proxy:
    """The primary itself, as a place to write."""
    primary = proxy.database.stack.primary
    return replace(proxy, host=primary.host, port=primary.port)


def set_up(schema: Database, directory: Path) -> None:
    done = feed_command(schema, directory, "setup", user="postgres", extra=FEED + RULE)
    assert done.returncode == 0, done.stdout + done.stderr


async def nothing(servers: Stack, workload: Workload) -> None:
    await asyncio.sleep(SECONDS)


async def walsenders_die(servers: Stack, workload: Workload) -> None:
    """The stream breaks time and again."""
    for _ in range(8):
        await asyncio.sleep(SECONDS / 8)
        with superuser_connection(servers.primary) as primary:
            await asyncio.to_thread(
                primary.execute,
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE database = %s",
                [workload.proxies[0].database.name],
            )


async def slot_goes(servers: Stack, workload: Workload) -> None:
    """Somebody drops the slot, with all that it would have told."""
    for _ in range(3):
        await asyncio.sleep(SECONDS / 3)
        with superuser_connection(servers.primary) as primary:
            for sql in (
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "
                "WHERE database = %s",
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE database = %s AND NOT active",
            ):
                await asyncio.to_thread(primary.execute, sql, [workload.proxies[0].database.name])


async def redis_comes_and_goes(servers: Stack, workload: Workload) -> None:
    await redis_dies(servers, workload)
    await redis_freezes(servers, workload)


Fault = Callable[[Stack, Workload], Coroutine[None, None, None]]


@pytest.mark.parametrize(
    "fault",
    [
        nothing,
        walsenders_die,
        pytest.param(slot_goes, marks=pytest.mark.nightly),
        pytest.param(redis_comes_and_goes, marks=pytest.mark.nightly),
    ],
)
async def test_no_read_older_than_promised(
    schema: Database, servers: Stack, tmp_path: Path, fault: Fault
) -> None:
    """Two proxies: one reads the slot, the other follows. Half of the writers pass both by."""
    set_up(schema, tmp_path)
    with ExitStack() as cleanup:
        proxies = [
            cleanup.enter_context(fed_proxy(schema, tmp_path, feed=EAGER, rule=FED_RULE))
            for _ in range(2)
        ]
        workload = Workload(
            proxies, PRECISE, History(LAG), around=[directly(proxies[0])], pause=3.0
        )
        await workload.warm()
        await workload.run(READS, readers=10, fault=fault(servers, workload))
        assert workload.history.verdict() == ""
        assert workload.failures == 0
        assert sum(consumed(proxy) for proxy in proxies) >= 1
        for proxy in proxies:
            await asyncio.to_thread(eventually, partial(trusted, proxy), "trusted again")


async def test_functions_and_blocks_around(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    set_up(schema, tmp_path)
    with fed_proxy(schema, tmp_path, feed=EAGER, rule=FED_RULE) as proxy:
        workload = Workload([proxy], SWEEPING, History(LAG), around=[directly(proxy)], pause=10.0)
        await workload.run(READS, readers=8, fault=nothing(servers, workload))
        assert workload.history.verdict() == ""


async def test_replicas_fill_only_with_what_they_have_replayed(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    set_up(schema, tmp_path)
    with fed_proxy(schema, tmp_path) as proxy:
        before = metric(proxy, "penstock_cache_bypasses_total")
        history = History(allowed=10.0)  # cache.feed.max_lag
        workload = Workload([proxy], PRECISE, history, around=[directly(proxy)], pause=3.0)
        await workload.warm()
        await workload.run(READS, readers=8, fault=nothing(servers, workload))
        if metric(proxy, "penstock_cache_bypasses_total") == before:
            assert workload.history.verdict() == ""


async def test_without_a_feed_reads_are_older(
    schema: Database, servers: Stack, tmp_path: Path
) -> None:
    """Or the tests above show nothing."""
    with running_proxy(schema, tmp_path, extra="[routing]\nenabled = false\n" + RULE) as proxy:
        workload = Workload([proxy], PRECISE, History(LAG), around=[directly(proxy)], pause=3.0)
        await workload.warm()
        await workload.run(READS, readers=8, fault=nothing(servers, workload))
        assert workload.history.verdict() != ""


async def test_the_consumer_is_killed(schema: Database, servers: Stack, tmp_path: Path) -> None:
    """Another takes over, and nothing that happened between is missed."""
    set_up(schema, tmp_path)
    with ExitStack() as cleanup:
        first = running_proxy(schema, tmp_path, extra=EAGER + FED_RULE)
        doomed = first.__enter__()
        try:
            await asyncio.to_thread(eventually, lambda: consumed(doomed), "the first one reads")
            other = cleanup.enter_context(fed_proxy(schema, tmp_path, feed=EAGER, rule=FED_RULE))
            assert not consumed(other)
            workload = Workload([other], PRECISE, History(LAG), around=[directly(other)], pause=3.0)
            await workload.warm()

            async def kill() -> None:
                await asyncio.sleep(1.0)
                doomed.process.kill()
                await asyncio.to_thread(
                    eventually, lambda: consumed(other) and trusted(other), "it takes over"
                )
                await asyncio.sleep(1.0)

            await workload.run(READS, readers=8, fault=kill())
            assert workload.history.verdict() == ""
            assert metric(other, "penstock_cache_feed_restarts_total") == 0
        finally:
            doomed.process.kill()
            doomed.process.wait()
