"""A running cache with awaitable methods, for tests."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.cache.entry import entry_digest
from proxy.cache.service import CacheService, start_cache
from proxy.cache.ticket import Lookup
from proxy.config.cache_settings import CacheSettings

DATABASE = "app"
ORDERS = ("orders",)
TIMEOUT = 0.2


def digest(text: str = "select") -> bytes:
    """The digest of a request in some context."""
    return entry_digest(b"context", text.encode())


async def eventually(reached: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until it is so. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        await asyncio.sleep(0.005)


@dataclass
class Cache:
    """One process's cache."""

    service: CacheService

    async def up(self) -> None:
        """Wait until Redis is in use."""
        await eventually(lambda: self.service.up)

    async def down(self) -> None:
        """Wait until the cache has noticed that Redis is gone."""
        await eventually(lambda: not self.service.up)

    async def lookup(
        self,
        text: str = "select",
        reads: tuple[str, ...] = ORDERS,
        rule: str = "",
        stale: float = 0.0,
    ) -> Lookup:
        answer: asyncio.Future[Lookup] = asyncio.get_running_loop().create_future()
        self.service.results.lookup(
            DATABASE, "+".join(reads), digest(text), reads, answer.set_result, rule, stale
        )
        async with asyncio.timeout(5):
            return await answer

    async def move(self, *names: str) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.service.results.move(DATABASE, frozenset(names), lambda: answer.set_result(None))
        async with asyncio.timeout(5):
            await answer

    def fill(self, found: Lookup, payload: bytes, ttl: float = 60.0, stale: float = 0.0) -> None:
        assert found.ticket is not None, found.reason
        self.service.results.fill(found.ticket, payload, ttl, stale=stale)

    async def store(
        self, payload: bytes, text: str = "select", reads: tuple[str, ...] = ORDERS
    ) -> None:
        """Miss and fill until it is served."""
        for _ in range(5):
            found = await self.lookup(text, reads)
            if found.payload == payload:
                return
            if found.ticket is not None:
                self.fill(found, payload)
        raise AssertionError(f"not served: {found}")


def open_cache(url: str | None, **options: Any) -> Cache:
    """A cache that begins to connect, with these settings. Unless they say otherwise, a look-up
    after one that was not filled doesn't wait for that."""
    defaults = {"timeout": TIMEOUT, "reconnect_interval": 0.05, "coalesce": 0.0}
    service = start_cache(CacheSettings(redis=url, **{**defaults, **options}), [DATABASE])
    assert service is not None
    return Cache(service)
