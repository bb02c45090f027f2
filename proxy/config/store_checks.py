"""Checks of where results are kept: one Redis, behind Sentinels, or a cluster."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from proxy.config.cache_settings import CacheSettings
from proxy.config.findings import Finding
from proxy.config.positions import Path
from proxy.config.settings import Settings

_KINDS = ("redis", "sentinels", "cluster")

STORE_KEYS = tuple(
    f"cache.{key}"
    for key in (
        *_KINDS,
        "sentinel_master",
        "sentinel_user",
        "sentinel_password",
        "db",
        "user",
        "password",
        "tls",
        "prefix",
    )
)


def some_store(settings: Settings) -> Iterator[Finding]:
    """Rules need a Redis."""
    if not settings.cache.has_store and any(rule.enabled for rule in settings.cache.rules):
        message = "is not set and there are [[cache.rule]]s: nowhere to keep results"
        yield Finding(("cache", "redis"), message, '"redis://host:port/db"')


def one_store(settings: Settings) -> Iterator[Finding]:
    """One kind of Redis, and nothing that only another kind has."""
    cache = settings.cache
    kinds = [kind for kind in _KINDS if getattr(cache, kind)]
    if len(kinds) > 1:
        message = f"can't stand beside cache.{kinds[0]}: results are kept in one place"
        yield Finding(("cache", kinds[1]), message, "one of redis, sentinels, cluster")
        return
    yield from _of_sentinels(cache)
    yield from _of_databases(cache)
    yield from _of_logins(cache)
    yield from _of_tls(cache)


def _of_sentinels(cache: CacheSettings) -> Iterator[Finding]:
    for key in ("sentinel_master", "sentinel_user", "sentinel_password"):
        if key in cache.model_fields_set and not cache.sentinels:
            yield Finding(("cache", key), "is of no use without cache.sentinels")
    if cache.sentinel_user is not None and cache.sentinel_password is None:
        yield Finding(("cache", "sentinel_user"), "needs cache.sentinel_password")
    for key in ("sentinels", "cluster"):
        addresses = getattr(cache, key)
        for index, address in enumerate(addresses):
            if address in addresses[:index]:
                yield Finding(("cache", key, index), f"{address} is named twice")


def _of_databases(cache: CacheSettings) -> Iterator[Finding]:
    path: Path = ("cache", "db")
    if cache.db and cache.redis:
        yield Finding(path, "is of no use with cache.redis: its URL names the database")
    if cache.db and cache.cluster:
        yield Finding(path, "is of no use with cache.cluster: a cluster has database 0 alone", "0")
    if cache.cluster and {"{", "}"} & set(cache.prefix):
        message = "can't hold a brace in a cluster: it becomes the hash tag of all keys"
        yield Finding(("cache", "prefix"), message)


def _of_logins(cache: CacheSettings) -> Iterator[Finding]:
    if cache.user is not None and cache.password is None:
        yield Finding(("cache", "user"), "needs cache.password")
    if cache.redis is not None and cache.password is not None:
        parts = urlsplit(cache.redis)
        if parts.password is not None or parts.username is not None:
            message = "is said twice: the URL in cache.redis has a user or password too"
            yield Finding(("cache", "password"), message)
    for key in ("user", "password"):
        if key in cache.model_fields_set and not cache.has_store:
            yield Finding(("cache", key), "is of no use: no Redis is named", "cache.redis = …")


def _of_tls(cache: CacheSettings) -> Iterator[Finding]:
    tls, top = cache.tls, ("cache", "tls")
    if (tls.cert_file is None) != (tls.key_file is None):
        given, missing = ("cert_file", "key_file") if tls.cert_file else ("key_file", "cert_file")
        yield Finding((*top, given), f"is of no use without {missing}")
    if not tls.protocols:
        yield Finding((*top, "protocols"), "is empty: no version of TLS is left to speak")
    if tls.mode != "require" and tls.ca_file is None:
        yield Finding((*top, "mode"), "needs authorities: set ca_file", '"FILE" or "system"')
    scheme = urlsplit(cache.redis).scheme if cache.redis is not None else None
    if scheme not in (None, "rediss") and tls.enabled:
        message = f"is not said by {scheme}:// in cache.redis: write rediss://"
        yield Finding((*top, "enabled"), message)
    elif scheme != "rediss" and not tls.enabled and tls.model_fields_set - {"enabled"}:
        key = min(tls.model_fields_set - {"enabled"})
        message = "is of no use: TLS is not in use"
        yield Finding(
            (*top, key), message, 'cache.redis = "rediss://…" or cache.tls.enabled = true'
        )
