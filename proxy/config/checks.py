"""Checks across settings: what is well-formed by itself but makes no sense together.

Each check is a pure function over the settings, listed in `CHECKS` with the keys that it reads, so
that it can be left out where one of those is known to be wrong already.
"""

from collections.abc import Iterable, Iterator

from proxy.config.auth_checks import AUTH_CHECKS
from proxy.config.cache_checks import CACHE_CHECKS
from proxy.config.cache_settings import CacheRule
from proxy.config.findings import Check, Finding, twice
from proxy.config.nodes import node_names
from proxy.config.pooling import DIVIDED_CAPS, DIVIDED_LIMITS
from proxy.config.positions import Path
from proxy.config.problems import nearest
from proxy.config.settings import DatabaseSettings, PoolSettings, RoutingRule, Settings
from proxy.config.transport import SYSTEM_CAS, ServerTlsSettings, TlsSettings
from proxy.config.types import HostPort

ADMIN_DATABASE = "penstock"
"""The database name that opens the admin console instead of a database."""
MOST_SHARDS = 1024


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


def _rule_names(settings: Settings) -> Iterator[Finding]:
    yield from twice([rule.name for rule in settings.cache.rules], ("cache", "rule"))
    yield from twice([rule.name for rule in settings.routing.rules], ("routing", "rule"))


def _cache_rules(settings: Settings) -> Iterator[Finding]:
    yield from _match_something(settings.cache.rules, ("cache", "rule"))


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
        yield from twice([table.name for table in sharding.tables], (*top, "table"))


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
    (_rule_names, ("cache.rule.*.name", "routing.rule.*.name")),
    (_cache_rules, ("cache.rule.*.tables", "cache.rule.*.statement")),
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
    *AUTH_CHECKS,
    *CACHE_CHECKS,
)
"""Every check with the keys that it reads."""
