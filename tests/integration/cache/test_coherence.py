"""Writers and readers at once on a real server; links are cut, the server restarted meanwhile."""

import asyncio
from collections.abc import Callable

from tests.integration.cache.caches import Cache
from tests.integration.cache.load import History, under_load
from tests.integration.cache.servers import OwnRedis

SECONDS = 3.0


async def _run(caches: list[Cache], trouble: Callable[[], None] | None) -> History:
    async def troubles() -> None:
        ends = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.2)
            if trouble is not None:
                trouble()

    return await under_load(caches, troubles())


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
