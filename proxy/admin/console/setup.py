"""Views of what is configured and how the servers are: databases, users, nodes, rules, settings.

Values in, rows out; columns as in `traffic`. No view shows a secret.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from proxy.admin.console.rows import Row, columns
from proxy.admin.console.snapshot import DatabaseState, NodeState, PoolState, PreparedState
from proxy.config.assign import BOUNCER_NAMES
from proxy.config.cache_settings import CacheRule
from proxy.config.pooling import user_caps
from proxy.config.schema import Shape, fields_of, shape_of_field, written_default
from proxy.config.section import Section
from proxy.config.settings import PoolSettings, RoutingRule, Settings
from proxy.config.types import write_duration, write_size
from proxy.config.version import version
from proxy.topology.node import Role

VERSION = columns("version")
DATABASES = columns(
    "name host port:int database force_user pool_size:int min_pool_size:int reserve_pool_size:int "
    "server_lifetime:int pool_mode load_balance_hosts max_connections:int current_connections:int "
    "max_client_connections:int current_client_connections:int paused:int disabled:int "
    "replicas:int shards:int healthy:bool"
)
USERS = columns(
    "name pool_size:int reserve_pool_size:int pool_mode max_user_connections:int "
    "current_connections:int max_user_client_connections:int current_client_connections:int "
    "admin:bool"
)
CONFIG = columns("key value default changeable")
REPLICATION = columns(
    "database node role host port:int healthy:bool lag_bytes:int lag_seconds:number "
    "fresh_age:number latency_ms:number in_use:int error"
)
SHARDS = columns(
    "database shard:int node host port:int server_database healthy:bool latency_ms:number "
    "in_use:int tables error"
)
ROUTES = columns("kind position:int name tables statement action enabled:bool")
PREPARED = columns("database name query parameter_types servers:int kind access")

Setting = tuple[str, str | None, str | None]
"""(path, value, default)."""

MASK = "********"
"""Shown instead of a secret that is set."""


def version_rows() -> list[Row]:
    """The version."""
    return [(f"Penstock {version()}",)]


def database_rows(
    databases: Iterable[DatabaseState], connections: Mapping[str, int], clients: Mapping[str, int]
) -> list[Row]:
    """A row for each database, with the address of its primary. The mappings are by database."""
    return [
        _database_row(one, connections.get(one.name, 0), clients.get(one.name, 0))
        for one in databases
    ]


def _database_row(one: DatabaseState, connections: int, clients: int) -> Row:
    primary = next(node for node in one.nodes if node.role is Role.PRIMARY)
    return (
        one.name,
        primary.host,
        primary.port,
        primary.database,
        None,
        one.pool.size,
        one.pool.min_size,
        one.pool.reserve_size,
        int(one.pool.max_lifetime),
        one.pool.mode,
        None,
        one.caps.connections,
        connections,
        one.caps.clients,
        clients,
        int(one.paused),
        int(one.disabled),
        sum(node.role is Role.REPLICA for node in one.nodes),
        sum(node.role is Role.SHARD for node in one.nodes),
        all(node.healthy for node in one.nodes),
    )


def user_rows(
    settings: Settings, pools: Iterable[PoolState], clients: Mapping[str, int]
) -> list[Row]:
    """A row for each user, also those who are not configured but here. `clients` is by user."""
    connections: dict[str, int] = {}
    for pool in pools:
        connections[pool.user] = connections.get(pool.user, 0) + pool.active + pool.idle
    configured = [user.name for user in settings.auth.users]
    others = sorted({*connections, *clients} - set(configured))
    own = {
        user.name: user.pool.model_dump(exclude_unset=True)
        for user in settings.auth.users
        if user.pool is not None
    }
    return [
        (
            name,
            *(own.get(name, {}).get(key) for key in ("size", "reserve_size", "mode")),
            user_caps(settings, name).connections,
            connections.get(name, 0),
            user_caps(settings, name).clients,
            clients.get(name, 0),
            name in settings.auth.admins,
        )
        for name in (*configured, *others)
    ]


def replication_rows(databases: Iterable[DatabaseState]) -> list[Row]:
    """A row for each primary and replica."""
    return [
        (
            database.name,
            node.name,
            node.role.value,
            node.host,
            node.port,
            node.healthy,
            node.lag_bytes,
            _rounded(node.lag_seconds),
            _rounded(node.fresh_age),
            _milliseconds(node.latency),
            node.in_use,
            node.error,
        )
        for database in databases
        for node in database.nodes
        if node.role is not Role.SHARD
    ]


def shard_rows(databases: Iterable[DatabaseState]) -> list[Row]:
    """A row for each shard."""
    return [
        _shard_row(database, node)
        for database in databases
        for node in database.nodes
        if node.role is Role.SHARD
    ]


def _shard_row(database: DatabaseState, node: NodeState) -> Row:
    tables = (
        f"{table.name} ({table.key} {table.type})" for table in database.settings.sharding.tables
    )
    return (
        database.name,
        node.shard,
        node.name,
        node.host,
        node.port,
        node.database,
        node.healthy,
        _milliseconds(node.latency),
        node.in_use,
        ", ".join(tables),
        node.error,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def route_rows(settings: Settings) -> list[Row]:
    """The rules in the order in which they are tried."""
    routing = [
        ("routing", position, rule.name, *_matches(rule), rule.node, True)
        for position, rule in enumerate(settings.routing.rules, 1)
    ]
    caching = [
        ("cache", position, rule.name, *_matches(rule), _cache_action(rule), rule.enabled)
        for position, rule in enumerate(settings.cache.rules, 1)
    ]
    return [*routing, *caching]


def _matches(rule: RoutingRule | CacheRule) -> tuple[str | None, str | None]:
    return ", ".join(rule.tables) or None, rule.statement


def _cache_action(rule: CacheRule) -> str:
    if not rule.enabled:
        return "never cached"
    ttl, size = write_duration(rule.ttl).strip('"'), write_size(rule.max_size).strip('"')
    return f"cached for {ttl}, up to {size}"


def prepared_rows(prepared: Iterable[PreparedState]) -> list[Row]:
    """A row for each statement; types are OIDs, 0 where the client left one open."""
    return [
        (
            one.database,
            one.name,
            one.text,
            ", ".join(map(str, one.parameter_types)),
            one.servers,
            one.kind,
            one.access,
        )
        for one in prepared
    ]


def config_rows(settings: Settings, changeable: Callable[[str], bool]) -> list[Row]:
    """Every setting by its path, then PgBouncer's names for those that tools look for.

    `changeable`: whether a path's setting can change while the process runs.
    """
    rows = [*_section("", settings), *_bouncer_names(settings)]
    return [
        (key, value, default, "yes" if changeable(BOUNCER_NAMES.get(key, key)) else "no")
        for key, value, default in rows
    ]


def _section(path: str, section: Section) -> Iterator[Setting]:
    overrides = isinstance(section, PoolSettings) and path != "pool."
    for key, info in fields_of(type(section)).items():
        if overrides and key not in section.model_fields_set:
            continue  # says nothing: the general value holds
        attribute = next(
            name for name, one in type(section).model_fields.items() if (one.alias or name) == key
        )
        value = getattr(section, attribute)
        shape = shape_of_field(info)
        where = f"{path}{key}"
        if isinstance(value, Section):
            yield from _section(f"{where}.", value)
        elif shape.is_leaf or value is None:
            yield (where, _written(shape, value), written_default(info))
        elif isinstance(value, Mapping):
            for name, one in value.items():
                yield from _section(f"{where}.{name}.", one)
        else:
            yield from _items(where, value)


def _items(where: str, sections: Sequence[Section]) -> Iterator[Setting]:
    for number, one in enumerate(sections):
        yield from _section(f"{where}[{number}].", one)


def _written(shape: Shape, value: object) -> str | None:
    """The value as a file would say it, text without its quotes; a secret as a mask."""
    if value is None:
        return None
    if shape.words.secret:
        return MASK
    if isinstance(value, tuple) and shape.item is not None:
        return f"[{', '.join(map(shape.words.write, value))}]"
    return shape.words.write(value).strip('"')


def _bouncer_names(settings: Settings) -> Iterator[Setting]:
    server, pool = settings.server, settings.pool
    yield ("listen_addr", server.listen.host, None)
    yield ("listen_port", str(server.listen.port), None)
    yield ("max_client_conn", str(server.max_client_connections), None)
    yield ("client_login_timeout", f"{server.login_timeout:g}", None)
    yield ("query_wait_timeout", f"{pool.wait_timeout:g}", None)
    yield ("server_connect_timeout", f"{pool.connect_timeout:g}", None)
    yield ("server_idle_timeout", f"{pool.idle_timeout:g}", None)
    yield ("server_lifetime", f"{pool.max_lifetime:g}", None)
    yield ("default_pool_size", str(pool.size), None)
    yield ("pool_mode", pool.mode, None)
    auth = settings.auth
    yield ("auth_type", auth.method, None)
    for name in ("auth_file", "auth_hba_file", "auth_ident_file", "auth_user", "auth_query"):
        value = getattr(auth, name)
        yield (name, None if value is None else str(value), None)
    yield ("auth_dbname", auth.auth_dbname, None)
    yield ("admin_users", ",".join(settings.auth.admins), None)
