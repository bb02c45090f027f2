"""Reads of cached tables are never older than the last write acknowledged before them."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.databases import Database
from tests.faults.cache.history import History
from tests.faults.cache.workload import GUARDED, PRECISE, RULE, SWEEPING, Way, Workload, metric
from tests.proxies import running_proxy

READS = 1200


async def test_over_two_proxies(schema: Database, tmp_path: Path) -> None:
    """Each learns of the other's writes from Redis alone."""
    with ExitStack() as cleanup:
        proxies = [
            cleanup.enter_context(running_proxy(schema, tmp_path, extra=RULE)) for _ in range(2)
        ]
        workload = Workload(proxies, PRECISE, History())
        await workload.warm()
        before = [metric(proxy, "penstock_cache_bypasses_total") for proxy in proxies]
        await workload.run(READS, readers=12)
        assert workload.history.verdict() == ""
        assert workload.failures == 0
        assert [metric(proxy, "penstock_cache_bypasses_total") for proxy in proxies] == before


@pytest.mark.parametrize(("ways", "pause"), [(PRECISE, 1.0), (SWEEPING, 10.0)])
async def test_every_read_of_one_proxy(
    schema: Database, tmp_path: Path, ways: tuple[Way, ...], pause: float
) -> None:
    """Also those that bypass the cache."""
    with running_proxy(schema, tmp_path, extra=RULE) as proxy:
        workload = Workload([proxy], ways, History(), pause=pause)
        await workload.run(READS, readers=12)
        assert workload.history.verdict() == ""
        assert workload.failures == 0


async def test_writers_that_leave_before_the_outcome(schema: Database, tmp_path: Path) -> None:
    with running_proxy(schema, tmp_path, extra=RULE) as proxy:
        ways = [way for way in PRECISE if way.name in GUARDED]
        workload = Workload([proxy], ways, History(), leaves=0.4)
        await workload.run(READS, readers=8)
        assert workload.history.verdict() == ""
