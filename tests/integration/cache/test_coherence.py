"""Writers and readers at once, on a real server, with links cut and the server restarted meanwhile.

The database is one number per table: what its last committed write put there. Every hit is held
against the writes that were acknowledged before its lookup began.
"""

import asyncio
import random
from collections.abc import Callable

from proxy.cache.results import Lookup
from tests.integration.cache.caches import Cache
from tests.integration.cache.servers import OwnRedis

TABLES = ("customers", "items", "orders")
SECONDS = 3.0


class History:
    """What is committed and what was acknowledged, per table."""

    def __init__(self) -> None:
        self.committed = dict.fromkeys(TABLES, 0)
        self.acknowledged = dict.fromkeys(TABLES, 0)
        self.hits = 0
        self.stale: list[str] = []
        self.over = False

    def shown(self, tables: tuple[str, ...]) -> bytes:
        return " ".join(str(self.committed[table]) for table in tables).encode()

    def check(self, tables: tuple[str, ...], payload: bytes, required: dict[str, int]) -> None:
        self.hits += 1
        for table, value in zip(tables, payload.split(), strict=True):
            if int(value) < required[table]:
                self.stale.append(f"{table}: {value.decode()} after {required[table]}")


async def _reader(cache: Cache, history: History, dice: random.Random) -> None:
    while not history.over:
        tables = tuple(sorted(dice.sample(TABLES, dice.randint(1, 3))))
        required = dict(history.acknowledged)
        found: Lookup = await cache.lookup("+".join(tables), tables)
        if found.payload is not None:
            history.check(tables, found.payload, required)
            continue
        await asyncio.sleep(dice.random() * 0.002)
        rows = history.shown(tables)
        await asyncio.sleep(dice.random() * 0.004)
        if found.ticket is not None:
            cache.service.results.fill(found.ticket, rows, 30.0)


async def _writer(cache: Cache, history: History, table: str, dice: random.Random) -> None:
    while not history.over:
        await asyncio.sleep(dice.random() * 0.02)
        await cache.move(table)
        await asyncio.sleep(dice.random() * 0.003)
        history.committed[table] += 1
        version = history.committed[table]
        await asyncio.sleep(dice.random() * 0.002)
        await cache.move(table)
        history.acknowledged[table] = max(history.acknowledged[table], version)


async def _run(caches: list[Cache], trouble: Callable[[], None] | None) -> History:
    history = History()
    dice = random.Random(11)
    async with asyncio.TaskGroup() as group:
        for cache in caches:
            for _ in range(8):
                group.create_task(_reader(cache, history, dice))
            for table in TABLES:
                group.create_task(_writer(cache, history, table, dice))
        ends = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.2)
            if trouble is not None:
                trouble()
        history.over = True
    return history


async def test_two_processes(
    cache: Cache, start_caches: Callable[[str], Cache], own_redis: OwnRedis
) -> None:
    other = start_caches(own_redis.url)
    await other.up()
    history = await _run([cache, other], None)
    assert history.stale == []
    assert history.hits > 1000


async def test_two_processes_whose_links_break(
    cache: Cache, start_caches: Callable[[str], Cache], own_redis: OwnRedis
) -> None:
    other = start_caches(own_redis.url)
    await other.up()
    client = own_redis.client()
    history = await _run([cache, other], lambda: client.client_kill_filter(skipme=True))
    assert history.stale == []
    assert history.hits > 200


async def test_one_process_whose_redis_is_restarted_with_old_data(
    cache: Cache, own_redis: OwnRedis
) -> None:
    client = own_redis.client()
    turns = iter(range(1000))

    def trouble() -> None:
        turn = next(turns) % 3
        if turn == 0:
            client.save()
        elif turn == 1:
            own_redis.kill()
        else:
            own_redis.start()

    history = await _run([cache], trouble)
    assert history.stale == []
    assert history.hits > 100
    assert cache.service.results.statistics.owed_moves > 0
