"""The cache of one process, started and stopped as a whole."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.cache.breaker import Breaker
from proxy.cache.codec import codec_for
from proxy.cache.link import RedisLink
from proxy.cache.lookups import Clocks
from proxy.cache.members import lease_clock
from proxy.cache.places import site_of
from proxy.cache.results import ResultCache
from proxy.config.cache_settings import CacheSettings
from proxy.tasks import spawn

_PUBLISH_SECONDS = 1.0
_REUNION_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class CacheService:
    """A running cache: `results` is what sessions use."""

    results: ResultCache
    link: RedisLink
    publisher: asyncio.Task[None]

    @property
    def up(self) -> bool:
        """Redis answers, nothing is owed to it, and it is asked."""
        return self.results.usable

    async def close(self) -> None:
        """Stop. Whoever waits for an invalidation is told that it is done with."""
        self.publisher.cancel()
        self.results.publish()
        self.results.leave()
        await asyncio.sleep(0)  # what was just published leaves with the end of this turn
        await self.link.close()
        self.results.away()


def start_cache(settings: CacheSettings, databases: Iterable[str]) -> CacheService | None:
    """Begin to connect; None where no Redis is configured. Needs a running event loop.

    Until Redis answers every lookup is bypassed. Raises ValueError for an unusable URL, TlsError
    where files of TLS can't be used."""
    if not settings.has_store:
        return None
    site = site_of(settings)
    breaker = Breaker(settings.breaker_timeouts, settings.breaker_pause, time.monotonic)
    link = RedisLink(site, settings.timeout, settings.reconnect_interval, breaker)
    later = asyncio.get_running_loop().call_later
    results = ResultCache(
        link,
        settings.key_prefix,
        databases,
        Clocks(time.monotonic, lease_clock, later),
        settings.memory,
        settings.coalesce,
        max(_REUNION_SECONDS, 2 * (settings.reconnect_interval + 2 * settings.timeout)),
        codec_for(settings),
        cautious=site.changes,
    )
    link.start(results)
    results.start()
    return CacheService(results, link, spawn(_publish(results), "cache statistics"))


async def _publish(results: ResultCache) -> None:
    while True:
        await asyncio.sleep(_PUBLISH_SECONDS)
        results.publish()
