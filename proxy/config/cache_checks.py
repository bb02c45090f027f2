"""Checks of the rules of the cache and of its change feed."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from proxy.config.auth_checks import no_user, others
from proxy.config.cache_settings import WRITE_BACK, WRITE_THROUGH, FeedSettings
from proxy.config.findings import Check, Finding, twice
from proxy.config.positions import Path
from proxy.config.problems import nearest
from proxy.config.settings import Settings
from proxy.config.store_checks import STORE_KEYS, one_store, some_store


def _cache_lives(settings: Settings) -> Iterator[Finding]:
    for index, rule in enumerate(settings.cache.rules):
        path: Path = ("cache", "rule", index)
        if rule.jitter and rule.jitter >= rule.ttl:
            message = f"leaves nothing of the ttl of {rule.ttl:g} s"
            yield Finding((*path, "jitter"), message, f"less than {rule.ttl:g} s")
        if rule.empty_ttl is not None and rule.empty_ttl > rule.ttl:
            message = f"is longer than the ttl of {rule.ttl:g} s, which is the longest life"
            yield Finding((*path, "empty_ttl"), message, f"at most {rule.ttl:g} s")


def _cache_selectors(settings: Settings) -> Iterator[Finding]:
    databases = list(settings.databases)
    users = [user.name for user in settings.auth.users]
    for index, rule in enumerate(settings.cache.rules):
        path: Path = ("cache", "rule", index)
        if "*" not in databases:
            yield from _matched(rule.databases, databases, (*path, "databases"), "[database.NAME]")
        if not others(settings) and settings.auth.method != "trust":
            yield from _matched(rule.users, users, (*path, "users"), "[[auth.users]]")


def _matched(globs: Iterable[str], names: list[str], path: Path, section: str) -> Iterator[Finding]:
    """Findings for globs that match none of the names."""
    for place, glob in enumerate(globs):
        if not any(fnmatchcase(name, glob) for name in names):
            message = f"matches no {section}"
            yield Finding((*path, place), message, ", ".join(names) or None, nearest(glob, names))


def _cache_keys(settings: Settings) -> Iterator[Finding]:
    for index, rule in enumerate(settings.cache.rules):
        path: Path = ("cache", "rule", index)
        if rule.granularity == "key" and rule.key is None:
            yield Finding((*path, "granularity"), '"key" needs the column', 'key = "COLUMN"')
        if rule.granularity == "key" and not rule.tables:
            yield Finding((*path, "granularity"), '"key" needs tables', 'tables = ["NAME"]')
        if rule.granularity != "key" and rule.key is not None:
            yield Finding((*path, "key"), "is not used", 'with granularity = "key"')


def _strategies(settings: Settings) -> Iterator[Finding]:
    fed = [
        name
        for name, database in settings.databases.items()
        if (settings.cache.feed if database.feed is None else database.feed).enabled
    ]
    for index, rule in enumerate(settings.cache.rules):
        if rule.strategy == WRITE_BACK:
            yield from _write_back(settings, index)
            continue
        if rule.strategy == WRITE_THROUGH:
            for name in fed:
                if not rule.databases or any(fnmatchcase(name, glob) for glob in rule.databases):
                    message = (
                        f'gains nothing in the database "{name}": its change feed tells of each '
                        "write once more, and what was refreshed is gone again"
                    )
                    wanted = "databases without a feed"
                    yield Finding(("cache", "rule", index, "strategy"), message, wanted)
            continue
        for name in ("refresh_within", "refresh_entries"):
            if name in rule.model_fields_set:
                path: Path = ("cache", "rule", index, name)
                yield Finding(path, "is not used", f'with strategy = "{WRITE_THROUGH}"')


def _write_back(settings: Settings, index: int) -> Iterator[Finding]:
    """Who reads must wait for what was written, whoever it is, and whatever it reads."""
    rule, path = settings.cache.rules[index], ("cache", "rule", index)
    for name in ("users", "statement"):
        if getattr(rule, name):
            message = f'can\'t limit strategy = "{WRITE_BACK}": it holds for tables as a whole'
            yield Finding((*path, name), message, "no such limit")
    for name, database in settings.databases.items():
        covered = not rule.databases or any(fnmatchcase(name, glob) for glob in rule.databases)
        if covered and database.sharding.enabled:
            message = f'"{WRITE_BACK}" does not go with the sharded database "{name}"'
            yield Finding((*path, "strategy"), message, "databases without sharding")


def _durability(settings: Settings) -> Iterator[Finding]:
    own = settings.cache.write_back
    if not own.disk and not own.replicas:
        message = "nothing would keep acknowledged writes but Redis's memory"
        yield Finding(("cache", "write_back", "disk"), message, "true, or replicas = 1 or more")


def _invalidations(settings: Settings) -> Iterator[Finding]:
    rules, databases = settings.cache.invalidations, list(settings.databases)
    yield from twice([rule.name for rule in rules], ("cache", "invalidation"))
    for index, rule in enumerate(rules):
        path: Path = ("cache", "invalidation", index)
        if not settings.cache.has_store:
            yield Finding(path, "has nothing to invalidate: no Redis is named")
        if not rule.writes:
            yield Finding((*path, "writes"), "is empty: no write makes it invalidate anything")
        if not rule.tables and not rule.keys:
            message = f'the rule "{rule.name}" invalidates nothing: give it tables or keys'
            yield Finding(path, message, 'tables = ["name*"] or keys = ["name:*"]')
        if not rule.at_once and not rule.delay:
            yield Finding((*path, "at_once"), "false needs a delay", 'delay = "500ms"')
        if "*" not in databases:
            yield from _matched(rule.databases, databases, (*path, "databases"), "[database.NAME]")


def _feeds(settings: Settings) -> Iterator[Finding]:
    places: list[tuple[Path, FeedSettings]] = [(("cache", "feed"), settings.cache.feed)]
    for name, database in settings.databases.items():
        if database.feed is not None:
            places.append((("database", name, "feed"), database.feed))
    names = [user.name for user in settings.auth.users]
    for path, feed in places:
        if feed.enabled and not settings.cache.has_store:
            message = "has nothing to invalidate: cache.redis is not set"
            yield Finding((*path, "enabled"), message)
        if feed.user is not None and feed.user not in names and settings.auth.auth_file is None:
            yield no_user((*path, "user"), feed.user, names)
    fed = any(feed.enabled for _, feed in places)
    least = 2 * settings.routing.monitor_interval
    for index, rule in enumerate(settings.cache.rules):
        where = ("cache", "rule", index, "max_feed_lag")
        if rule.max_feed_lag and not fed:
            yield Finding(where, "needs the change feed: set cache.feed.enabled = true")
        elif 0 < rule.max_feed_lag < least:
            message = "is never reached: the primary is sampled at routing.monitor_interval"
            yield Finding(where, message, f"at least {least:g} s, or a shorter monitor_interval")


CACHE_CHECKS: tuple[tuple[Check, tuple[str, ...]], ...] = (
    (
        _cache_lives,
        ("cache.rule.*.ttl", "cache.rule.*.jitter", "cache.rule.*.empty_ttl"),
    ),
    (
        _cache_selectors,
        (
            "cache.rule.*.databases",
            "cache.rule.*.users",
            "database",
            "auth.users.*.name",
            "auth.method",
            "auth.auth_file",
            "auth.auth_user",
        ),
    ),
    (
        _cache_keys,
        ("cache.rule.*.granularity", "cache.rule.*.key", "cache.rule.*.tables"),
    ),
    (
        _strategies,
        (
            "cache.rule.*.strategy",
            "cache.rule.*.refresh_within",
            "cache.rule.*.refresh_entries",
            "cache.rule.*.databases",
            "cache.rule.*.tables",
            "cache.rule.*.users",
            "cache.rule.*.statement",
            "cache.feed",
            "database",
        ),
    ),
    (_durability, ("cache.write_back.disk", "cache.write_back.replicas")),
    (
        _invalidations,
        ("cache.invalidation", "cache.redis", "cache.sentinels", "cache.cluster", "database"),
    ),
    (
        _feeds,
        (
            "cache.redis",
            "cache.sentinels",
            "cache.cluster",
            "cache.feed",
            "cache.rule",
            "database.*.feed",
            "auth.users.*.name",
            "auth.auth_file",
            "routing.monitor_interval",
        ),
    ),
    (some_store, ("cache.redis", "cache.sentinels", "cache.cluster", "cache.rule.*.enabled")),
    (one_store, STORE_KEYS),
)
"""See `checks.CHECKS`."""
