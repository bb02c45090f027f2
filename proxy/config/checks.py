"""Checks across settings: what is well-formed by itself but makes no sense together.

Each check is a pure function over the settings, listed in `CHECKS` with the keys that it reads, so
that it can be left out where one of those is known to be wrong already.
"""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

from proxy.config.cache_settings import CacheRule, FeedSettings
from proxy.config.findings import Finding
from proxy.config.nodes import node_names
from proxy.config.pooling import DIVIDED_CAPS, DIVIDED_LIMITS
from proxy.config.positions import Path
from proxy.config.problems import nearest
from proxy.config.settings import DatabaseSettings, PoolSettings, RoutingRule, Settings
from proxy.config.store_checks import STORE_KEYS, one_store, some_store
from proxy.config.transport import SYSTEM_CAS, ServerTlsSettings, TlsSettings
from proxy.config.types import HostPort

ADMIN_DATABASE = "penstock"
"""The database name that opens the admin console instead of a database."""
MOST_SHARDS = 1024


Check = Callable[[Settings], Iterator[Finding]]


def find(settings: Settings, damaged: Iterable[Path] = ()) -> list[Finding]:
    """What all checks find, but those that read a damaged path."""
    damaged = list(damaged)
    findings: list[Finding] = []
    for check, reads in CHECKS:
        if not any(_overlap(tuple(key.split(".")), path) for key in reads for path in damaged):
            findings += check(settings)
    return findings


def _overlap(pattern: tuple[str, ...], path: Path) -> bool:
    """Whether one of the two lies within the other; `*` in the pattern stands for any part."""
    return all(want in ("*", str(part)) for want, part in zip(pattern, path, strict=False))


def _listeners_differ(settings: Settings) -> Iterator[Finding]:
    sql, http = settings.server.listen, settings.server.http_listen
    if http is not None and http.port and sql.port == http.port and _same_host(sql, http):
        message = f"overlaps server.listen ({sql}): two listeners can't share a port"
        yield Finding(("server", "http_listen"), message)


def _same_host(one: HostPort, other: HostPort) -> bool:
    everywhere = {"0.0.0.0", "::"}
    return one.host == other.host or bool({one.host, other.host} & everywhere)


def _listens_on_tcp(settings: Settings) -> Iterator[Finding]:
    if settings.server.listen.host.startswith("/"):
        message = "is a TCP address: name a Unix socket's directory in server.unix_socket_dir"
        yield Finding(("server", "listen"), message)


def _client_tls(settings: Settings) -> Iterator[Finding]:
    tls, top = settings.client_tls, ("client_tls",)
    yield from _certificate(tls, top)
    if tls.mode != "disable" and tls.cert_file is None:
        yield Finding((*top, "mode"), "needs a certificate: set client_tls.cert_file")
    if tls.mode.startswith("verify") and tls.ca_file is None:
        message = "needs the authorities of clients' certificates: set client_tls.ca_file"
        yield Finding((*top, "mode"), message)
    if tls.ca_file == SYSTEM_CAS:
        message = "would let in whoever has a certificate of any public authority: name a file"
        yield Finding((*top, "ca_file"), message)


def _server_tls(settings: Settings) -> Iterator[Finding]:
    places: list[tuple[Path, ServerTlsSettings]] = [(("server_tls",), settings.server_tls)]
    for name, database in settings.databases.items():
        top: Path = ("database", name)
        if database.tls is not None:
            places.append(((*top, "tls"), database.tls))
        known = node_names(database)
        for node, tls in database.node_tls.items():
            places.append(((*top, "node_tls", node), tls))
            if node not in known:
                message = "the database has no node of this name"
                path = (*top, "node_tls", node)
                yield Finding(path, message, ", ".join(known), nearest(node, known))
    for path, tls in places:
        yield from _certificate(tls, path)
        if tls.mode.startswith("verify") and tls.ca_file is None:
            message = "needs the authorities of the servers' certificates: set ca_file"
            yield Finding((*path, "mode"), message, '"FILE" or "system"')
        if tls.ca_file is not None and not tls.mode.startswith("verify"):
            message = (
                f'is not looked at with mode "{tls.mode}": choose another mode, or leave it out'
            )
            yield Finding((*path, "ca_file"), message, '"verify-ca" or "verify-full"')


def _certificate(tls: TlsSettings, path: Path) -> Iterator[Finding]:
    if (tls.cert_file is None) != (tls.key_file is None):
        given, missing = ("cert_file", "key_file") if tls.cert_file else ("key_file", "cert_file")
        yield Finding((*path, given), f"is of no use without {missing}")
    if not tls.protocols:
        yield Finding((*path, "protocols"), "is empty: no version of TLS is left to speak")


def _some_database(settings: Settings) -> Iterator[Finding]:
    if not settings.databases:
        yield Finding(("database",), "there is none: add a [database.NAME.primary]")


def _database_names(settings: Settings) -> Iterator[Finding]:
    if ADMIN_DATABASE in settings.databases:
        message = "this name is taken by the admin console: choose another, and say the servers'"
        yield Finding(("database", ADMIN_DATABASE), f'{message} with server_database = "…"')


def _no_loop(settings: Settings) -> Iterator[Finding]:
    for path, address in _nodes(settings):
        if address == settings.server.listen:
            message = "is where Penstock itself listens (server.listen): it would call itself"
            yield Finding(path, message)


def _nodes(settings: Settings) -> Iterator[tuple[Path, HostPort]]:
    for name, database in settings.databases.items():
        top: Path = ("database", name)
        yield (*top, "primary"), HostPort(database.primary.host, database.primary.port)
        for index, replica in enumerate(database.replicas.hosts):
            yield (*top, "replicas", "hosts", index), replica
        for index, shard in enumerate(database.sharding.shards):
            yield (*top, "sharding", "shards", index), HostPort(shard.host, shard.port)


def _replicas(settings: Settings) -> Iterator[Finding]:
    for name, database in settings.databases.items():
        top: Path = ("database", name, "replicas")
        replicas = database.replicas
        primary = HostPort(database.primary.host, database.primary.port)
        for index, replica in enumerate(replicas.hosts):
            if replica == primary:
                yield Finding((*top, "hosts", index), "is the primary of this database")
            if replica in replicas.hosts[:index]:
                yield Finding((*top, "hosts", index), "is listed twice")
        if replicas.read_preference == "replica" and not replicas.hosts:
            message = "needs replicas and replicas.hosts is empty"
            yield Finding((*top, "read_preference"), message, 'hosts = ["host:port", …]')


def _users(settings: Settings) -> Iterator[Finding]:
    users = settings.auth.users
    yield from _twice([user.name for user in users], ("auth", "users"))
    if not users and not _others(settings):
        message = "there is none, so nobody can log in: add [[auth.users]] with name and password"
        yield Finding(("auth", "users"), message)


def _others(settings: Settings) -> bool:
    """Whether there may be users who are not in auth.users."""
    auth = settings.auth
    looked_up = auth.auth_user or any(one.auth_user for one in settings.databases.values())
    return bool(auth.auth_file or looked_up)


def _passwords(settings: Settings) -> Iterator[Finding]:
    auth = settings.auth
    if auth.method in ("trust", "cert", "peer", "hba") or not auth.users or _others(settings):
        return
    if all(user.password is None for user in auth.users):
        message = f"{auth.method} needs passwords and no user has one: nobody can log in"
        yield Finding(("auth", "method"), message)


def _hba(settings: Settings) -> Iterator[Finding]:
    auth = settings.auth
    if auth.method == "hba" and auth.auth_hba_file is None:
        message = "needs the file of the rules, and it is not named"
        yield Finding(("auth", "method"), message, 'auth_hba_file = "pg_hba.conf"')
    if auth.method != "hba" and auth.auth_hba_file is not None:
        message = f'is not used: auth.method is {auth.method}, so set method = "hba"'
        yield Finding(("auth", "auth_hba_file"), message)


def _auth_dbnames(settings: Settings) -> Iterator[Finding]:
    names = list(settings.databases)
    wanted: list[tuple[Path, str | None]] = [(("auth",), settings.auth.auth_dbname)]
    wanted += [(("database", name), one.auth_dbname) for name, one in settings.databases.items()]
    for path, name in wanted:
        if name is not None and name not in names and "*" not in names:
            message = "no [database.NAME] has this name"
            allowed = ", ".join(names) or None
            yield Finding((*path, "auth_dbname"), message, allowed, nearest(name, names))


def _admins(settings: Settings) -> Iterator[Finding]:
    if _others(settings):
        return
    names = [user.name for user in settings.auth.users]
    for index, admin in enumerate(settings.auth.admins):
        if admin not in names:
            yield _no_user(("auth", "admins", index), admin, names)


def _monitor_users(settings: Settings) -> Iterator[Finding]:
    if settings.auth.auth_file is not None:
        return
    names = [user.name for user in settings.auth.users]
    for name, database in settings.databases.items():
        user = database.monitor_user
        if user is not None and user not in names:
            yield _no_user(("database", name, "monitor_user"), user, names)


def _no_user(path: Path, name: str, names: list[str]) -> Finding:
    message = "no [[auth.users]] has this name"
    return Finding(path, message, ", ".join(dict.fromkeys(names)) or None, nearest(name, names))


def _rule_names(settings: Settings) -> Iterator[Finding]:
    yield from _twice([rule.name for rule in settings.cache.rules], ("cache", "rule"))
    yield from _twice([rule.name for rule in settings.routing.rules], ("routing", "rule"))


def _cache_rules(settings: Settings) -> Iterator[Finding]:
    yield from _match_something(settings.cache.rules, ("cache", "rule"))


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
        if not _others(settings) and settings.auth.method != "trust":
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


def _invalidations(settings: Settings) -> Iterator[Finding]:
    rules, databases = settings.cache.invalidations, list(settings.databases)
    yield from _twice([rule.name for rule in rules], ("cache", "invalidation"))
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
            yield _no_user((*path, "user"), feed.user, names)
    fed = any(feed.enabled for _, feed in places)
    least = 2 * settings.routing.monitor_interval
    for index, rule in enumerate(settings.cache.rules):
        where = ("cache", "rule", index, "max_feed_lag")
        if rule.max_feed_lag and not fed:
            yield Finding(where, "needs the change feed: set cache.feed.enabled = true")
        elif 0 < rule.max_feed_lag < least:
            message = "is never reached: the primary is sampled at routing.monitor_interval"
            yield Finding(where, message, f"at least {least:g} s, or a shorter monitor_interval")


def _routing_rules(settings: Settings) -> Iterator[Finding]:
    yield from _match_something(settings.routing.rules, ("routing", "rule"))


def _match_something(rules: Iterable[CacheRule | RoutingRule], path: Path) -> Iterator[Finding]:
    for index, rule in enumerate(rules):
        if not rule.tables and rule.statement is None:
            message = f'the rule "{rule.name}" matches nothing: give it tables or a statement'
            yield Finding((*path, index), message, 'tables = ["name*"] or statement = "select *"')


def _sharding(settings: Settings) -> Iterator[Finding]:
    for name, database in settings.databases.items():
        top: Path = ("database", name, "sharding")
        sharding = database.sharding
        if sharding.enabled and not sharding.shards:
            yield Finding((*top, "enabled"), "needs shards and there are none", "shards = [{…}, …]")
        if sharding.enabled and not sharding.tables:
            message = "needs sharded tables and there are none: add [[sharding.table]]"
            yield Finding((*top, "enabled"), message)
        if len(sharding.shards) > MOST_SHARDS:
            message = f"{len(sharding.shards)} are too many"
            yield Finding((*top, "shards"), message, f"up to {MOST_SHARDS}")
        yield from _shards_differ(name, database)
        yield from _twice([table.name for table in sharding.tables], (*top, "table"))


def _shards_differ(name: str, database: DatabaseSettings) -> Iterator[Finding]:
    seen: dict[tuple[str, int, str | None], int] = {}
    for index, shard in enumerate(database.sharding.shards):
        first = seen.setdefault((shard.host, shard.port, shard.database), index)
        if first != index:
            message = f"is the same server and database as shard {first}"
            yield Finding(("database", name, "sharding", "shards", index), message)


def _pool_sizes(settings: Settings) -> Iterator[Finding]:
    """Overrides count by what they come to, so a size set elsewhere may be the reason."""
    whole = settings.pool
    for path, pool in _pools(settings):
        given = pool.model_fields_set & {"size", "min_size"}
        if not given:
            continue
        least = pool.min_size if "min_size" in given else whole.min_size
        most = pool.size if "size" in given else whole.size
        if least > most:
            key = "min_size" if "min_size" in given else "size"
            message = (
                f"min_size is {least} and size is {most}: more can't be kept than there may be"
            )
            yield Finding((*path, key), message)


def _pools(settings: Settings) -> Iterator[tuple[Path, PoolSettings]]:
    """[pool] and what overrides it."""
    yield ("pool",), settings.pool
    for name, database in settings.databases.items():
        if database.pool is not None:
            yield ("database", name, "pool"), database.pool
    for index, user in enumerate(settings.auth.users):
        if user.pool is not None:
            yield ("auth", "users", index, "pool"), user.pool


def _workers(settings: Settings) -> Iterator[Finding]:
    """What one process alone can promise, and limits that can't be divided."""
    workers = settings.server.workers
    if workers == 1:
        return
    if settings.routing.read_your_writes in ("global", "table"):
        message = f"{settings.routing.read_your_writes!r} needs one process that sees all writes"
        allowed = '"session" or "off" with server.workers above 1, or one worker'
        yield Finding(("routing", "read_your_writes"), message, allowed)
    allowed = f"{workers} or more, or fewer server.workers"
    if settings.server.max_client_connections < workers:
        message = f"fewer clients than the {workers} workers that they are divided among"
        yield Finding(("server", "max_client_connections"), message, f"{workers} or more")
    for path, most in _limits(settings):
        if most and most < workers:
            message = f"a limit of {most} can't be divided among {workers} workers"
            yield Finding(path, message, f"0 or {allowed}")


def _limits(settings: Settings) -> Iterator[tuple[Path, int | None]]:
    """Limits on connections and clients where 0 is none."""
    for key in DIVIDED_LIMITS:
        yield ("limits", key), getattr(settings.limits, key)
    for name, database in settings.databases.items():
        for key in DIVIDED_CAPS:
            yield ("database", name, key), getattr(database, key)
    for index, user in enumerate(settings.auth.users):
        for key in DIVIDED_CAPS:
            yield ("auth", "users", index, key), getattr(user, key)


def _twice(names: list[str], path: Path) -> Iterator[Finding]:
    """Findings for names in a table array that an earlier element has already."""
    for index, name in enumerate(names):
        if name in names[:index]:
            message = f'the name "{name}" is taken by an earlier entry: names must differ'
            yield Finding((*path, index, "name"), message)


CHECKS: tuple[tuple[Check, tuple[str, ...]], ...] = (
    (_listeners_differ, ("server.listen", "server.http_listen")),
    (_listens_on_tcp, ("server.listen",)),
    (_client_tls, ("client_tls",)),
    (
        _server_tls,
        (
            "server_tls",
            "database.*.tls",
            "database.*.node_tls",
            "database.*.replicas.hosts",
            "database.*.sharding.shards",
        ),
    ),
    (_some_database, ("database",)),
    (_database_names, ("database",)),
    (
        _no_loop,
        (
            "server.listen",
            "database.*.primary",
            "database.*.replicas.hosts",
            "database.*.sharding.shards",
        ),
    ),
    (
        _replicas,
        (
            "database.*.primary",
            "database.*.replicas.hosts",
            "database.*.replicas.read_preference",
        ),
    ),
    (
        _pool_sizes,
        (
            "pool.size",
            "pool.min_size",
            "database.*.pool.size",
            "database.*.pool.min_size",
            "auth.users.*.pool.size",
            "auth.users.*.pool.min_size",
        ),
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
    (_users, ("auth.users.*.name", "auth.auth_file", "auth.auth_user")),
    (
        _passwords,
        ("auth.method", "auth.users.*.password", "auth.auth_file", "auth.auth_user"),
    ),
    (_hba, ("auth.method", "auth.auth_hba_file")),
    (_auth_dbnames, ("auth.auth_dbname", "database")),
    (_admins, ("auth.admins", "auth.users.*.name", "auth.auth_file", "auth.auth_user")),
    (_monitor_users, ("database.*.monitor_user", "auth.users.*.name", "auth.auth_file")),
    (_rule_names, ("cache.rule.*.name", "routing.rule.*.name")),
    (_cache_rules, ("cache.rule.*.tables", "cache.rule.*.statement")),
    (some_store, ("cache.redis", "cache.sentinels", "cache.cluster", "cache.rule.*.enabled")),
    (one_store, STORE_KEYS),
    (
        _cache_keys,
        ("cache.rule.*.granularity", "cache.rule.*.key", "cache.rule.*.tables"),
    ),
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
        _invalidations,
        ("cache.invalidation", "cache.redis", "cache.sentinels", "cache.cluster", "database"),
    ),
    (_routing_rules, ("routing.rule.*.tables", "routing.rule.*.statement")),
    (_sharding, ("database.*.sharding",)),
    (
        _workers,
        (
            "server.workers",
            "server.max_client_connections",
            "routing.read_your_writes",
            *(f"limits.{key}" for key in DIVIDED_LIMITS),
            *(f"database.*.{key}" for key in DIVIDED_CAPS),
            *(f"auth.users.*.{key}" for key in DIVIDED_CAPS),
        ),
    ),
)
"""Every check with the keys that it reads."""
