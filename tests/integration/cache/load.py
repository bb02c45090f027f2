"""Writers and readers at once.

The database is one number per table: what its last committed write put there. Every hit is held
against the writes that were acknowledged before its lookup began.
"""

import asyncio
import random
from collections.abc import Coroutine

from proxy.cache.ticket import Lookup
from tests.integration.cache.caches import Cache, eventually

TABLES = ("customers", "items", "orders")
PATIENCE = 40.0
"""Seconds for a failover and what follows from it."""


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


async def under_load(caches: list[Cache], fault: Coroutine[None, None, None]) -> History:
    """Write and read through all caches for as long as `fault` takes."""
    history = History()
    dice = random.Random(11)
    async with asyncio.TaskGroup() as group:
        for cache in caches:
            for _ in range(8):
                group.create_task(_reader(cache, history, dice))
            for table in TABLES:
                group.create_task(_writer(cache, history, table, dice))
        try:
            await fault
        finally:
            history.over = True
    return history


async def through_another_primary(
    caches: list[Cache], old: int, trouble: Coroutine[None, None, None]
) -> History:
    """Under load until, after the trouble, all use another primary than that on port `old`."""

    async def fault() -> None:
        await eventually(lambda: _hits(caches) > 50, PATIENCE)
        await trouble
        await eventually(
            lambda: not {None, old} & {primary_port(cache) for cache in caches}, PATIENCE
        )
        await all_up(caches)
        before = _hits(caches)
        await eventually(lambda: _hits(caches) > before + 50, PATIENCE)

    return await under_load(caches, fault())


async def all_up(caches: list[Cache]) -> None:
    await eventually(lambda: all(cache.service.up for cache in caches), PATIENCE)


def _hits(caches: list[Cache]) -> int:
    return sum(cache.service.results.statistics.hits for cache in caches)


def primary_port(cache: Cache) -> int | None:
    """The port of the primary that it uses."""
    where = cache.service.link.where
    return None if where is None else where.port
