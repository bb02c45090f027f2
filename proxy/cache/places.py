"""From the settings to the place of Redis."""

from functools import partial

from proxy.cache import cluster, sentinel
from proxy.cache.endpoint import Access
from proxy.cache.members import lease_clock
from proxy.cache.site import FixedSite, Site, WitnessedSite
from proxy.config.cache_settings import CacheSettings


def site_of(settings: CacheSettings) -> Site:
    """Where the settings say that results are kept.

    Raises ValueError for an unusable URL, TlsError where files of TLS can't be used."""
    access = Access(settings)
    if settings.sentinels:
        return WitnessedSite(
            f"the primary {settings.sentinel_master} of Sentinels",
            settings.sentinels,
            sentinel.question(settings.sentinel_master),
            sentinel.judge,
            access.of_sentinel,
            access.of_redis,
            settings.timeout,
            lease_clock,
        )
    if settings.cluster:
        slot = cluster.slot_of(settings.prefix.encode("utf-8", "surrogateescape"))
        return WitnessedSite(
            f"slot {slot} of the Redis Cluster",
            settings.cluster,
            cluster.QUESTION,
            partial(cluster.judge, slot),
            access.of_redis,
            access.of_redis,
            settings.timeout,
            lease_clock,
        )
    return FixedSite(access.of_url)
