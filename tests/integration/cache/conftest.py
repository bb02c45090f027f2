"""Redis servers that a test may break, and caches on them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from tests.integration.cache.caches import Cache, open_cache
from tests.integration.cache.groups import cluster as cluster
from tests.integration.cache.groups import start_redis as start_redis
from tests.integration.cache.groups import watched as watched
from tests.integration.cache.servers import OwnRedis


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the proxy runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def own_redis(start_redis: Callable[..., OwnRedis]) -> OwnRedis:
    """A server with its defaults."""
    return start_redis()


@pytest.fixture
async def start_caches() -> AsyncIterator[Callable[..., Cache]]:
    """Starts caches with further settings; they are closed after the test."""
    async with AsyncExitStack() as cleanup:

        def start(url: str | None, **options: Any) -> Cache:
            cache = open_cache(url, **options)
            cleanup.push_async_callback(cache.service.close)
            return cache

        yield start


@pytest.fixture
async def cache(own_redis: OwnRedis, start_caches: Callable[[str], Cache]) -> Cache:
    """A cache that is up, on `own_redis`."""
    cache = start_caches(own_redis.url)
    await cache.up()
    return cache
