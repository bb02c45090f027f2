"""The table of commands: what each is called, what it is for, its columns, how it is answered."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.admin.console import caching, setup, statistics, traffic
from proxy.admin.console.orders import ORDERS
from proxy.admin.console.overview import Overview
from proxy.admin.console.parsing import Call, parse
from proxy.admin.console.rows import Columns, Row, columns
from proxy.cache.statistics import Statistics
from proxy.config.version import version
from proxy.wire import errors
from proxy.wire.errors import PgError

PARAMETERS: Final = {
    "server_version": f"14.0 (Penstock {version()})",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "application_name": "",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "Etc/UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "is_superuser": "off",
    "in_hot_standby": "off",
    "default_transaction_read_only": "off",
}
"""Reported to every client at login. The version tells drivers what syntax and types to expect."""

_BY_FOLDED_NAME: Final = {name.lower(): value for name, value in PARAMETERS.items()}

View = Callable[[Overview], Sequence[Row]]
Action = Callable[[Overview, tuple[str, ...]], Awaitable[Sequence[Row]]]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: a `view` is answered at once, an `action` may wait."""

    syntax: str
    summary: str
    columns: Columns
    view: View | None = None
    action: Action | None = None


def _databases(insight: Overview) -> Sequence[Row]:
    connections: Counter[str] = Counter()
    for pool in insight.pool_states():
        connections[pool.database] += pool.active + pool.idle
    clients: Counter[str] = Counter()
    for (database, _), count in insight.client_counts().items():
        clients[database] += count.clients
    return setup.database_rows(insight.databases(), connections, clients)


def _users(insight: Overview) -> Sequence[Row]:
    clients: Counter[str] = Counter()
    for (_, user), count in insight.client_counts().items():
        clients[user] += count.clients
    return setup.user_rows(insight.settings, insight.pool_states(), clients)


def _lists(insight: Overview) -> Sequence[Row]:
    return traffic.list_rows(
        insight.databases(),
        len(insight.settings.auth.users),
        insight.pool_states(),
        sum(count.clients for count in insight.client_counts().values()),
        insight.logging_in(),
    )


def _names(insight: Overview) -> list[str]:
    return sorted(one.name for one in insight.databases())


async def _cache(insight: Overview, arguments: tuple[str, ...]) -> Sequence[Row]:
    settings = insight.settings.cache
    bypasses, unfilled = insight.cache_passes()
    own = caching.Own(
        insight.cache_statistics() or Statistics(),
        dict(bypasses),
        dict(unfilled),
        insight.cache_up(),
        [rule.name for rule in settings.rules if rule.enabled],
        insight.feed_states(),
        insight.cached_statements(),
        insight.write_back_states(),
    )
    if not settings.has_store:
        return caching.cache_rows(own, caching.Shared(error="no cache is configured"))
    return caching.cache_rows(own, await caching.look_at_shared(settings, _names(insight)))


async def _clear(insight: Overview, arguments: tuple[str, ...]) -> Sequence[Row]:
    pattern, *wanted = arguments
    known = _names(insight)
    for name in wanted:
        if name not in known:
            raise PgError(
                errors.INVALID_CATALOG_NAME,
                f'database "{name}" does not exist',
                f"Penstock knows: {', '.join(known) or 'none'}",
            )
    return await caching.clear(insight.settings.cache, wanted or known, pattern)


HELP: Final = columns("command description")
PEERS: Final = columns("peer_id:int host port:int pool_size:int")
PEER_POOLS: Final = columns(
    "peer_id:int cl_active_cancel_req:int cl_waiting_cancel_req:int sv_active_cancel:int "
    "sv_login:int"
)
HOSTS: Final = columns("hostname ttl:int addrs")
ZONES: Final = columns("zonename serial:int count:int")


def _help(insight: Overview) -> Sequence[Row]:
    return [
        *((command.syntax, command.summary) for command in COMMANDS.values()),
        *((order.syntax, order.summary) for order in ORDERS.values()),
    ]


def _none(insight: Overview) -> Sequence[Row]:
    return ()


def _state(insight: Overview) -> Sequence[Row]:
    control = insight.control
    running = not (control.paused or control.suspended or control.stopping)
    states = (
        ("active", running),
        ("paused", control.paused),
        ("suspended", control.suspended),
    )
    return [(name, "yes" if holds else "no") for name, holds in states]


def _active_sockets(insight: Overview) -> Sequence[Row]:
    servers = [one for one in insight.servers() if one.active]
    return traffic.socket_rows(traffic.active(insight.clients()), servers)


_LIST: Final = (
    Command(
        "SHOW CACHE", "hits, misses, bypasses and entries of the cache", caching.CACHE, None, _cache
    ),
    Command(
        "SHOW CACHE_STATEMENTS",
        "what the cache did for each statement, those first that saved most",
        caching.STATEMENTS,
        lambda insight: caching.statement_rows(insight.cached_statements()),
    ),
    Command(
        "SHOW CLIENTS",
        "clients, the server connection that each holds, and why",
        traffic.CLIENTS,
        lambda insight: traffic.client_rows(insight.clients()),
    ),
    Command(
        "SHOW CONFIG",
        "settings in force and their defaults, secrets masked",
        setup.CONFIG,
        lambda insight: setup.config_rows(insight.settings, insight.control.changeable),
    ),
    Command("SHOW DATABASES", "databases that clients can name", setup.DATABASES, _databases),
    Command("SHOW HELP", "this list", HELP, _help),
    Command("SHOW LISTS", "how many there are of what", traffic.LISTS, _lists),
    Command(
        "SHOW MEM",
        "memory of the process",
        traffic.MEM,
        lambda insight: traffic.memory_rows(insight.memory()),
    ),
    Command(
        "SHOW NODE_POOLS",
        "pools by database, user and node",
        traffic.NODE_POOLS,
        lambda insight: traffic.node_pool_rows(insight.pool_states()),
    ),
    Command(
        "SHOW POOLS",
        "pools by database and user, all nodes together",
        traffic.POOLS,
        lambda insight: traffic.pool_rows(insight.pool_states(), insight.client_counts()),
    ),
    Command(
        "SHOW PREPARED",
        "statements that clients have prepared",
        setup.PREPARED,
        lambda insight: setup.prepared_rows(insight.prepared()),
    ),
    Command(
        "SHOW REPLICATION",
        "primaries and replicas: health, lag, how fresh",
        setup.REPLICATION,
        lambda insight: setup.replication_rows(insight.databases()),
    ),
    Command(
        "SHOW ROUTES",
        "rules of routing and of the cache, in order",
        setup.ROUTES,
        lambda insight: setup.route_rows(insight.settings),
    ),
    Command(
        "SHOW SERVERS",
        "connections to servers",
        traffic.SERVERS,
        lambda insight: traffic.server_rows(insight.servers()),
    ),
    Command(
        "SHOW SHARDS",
        "shards and the tables spread over them",
        setup.SHARDS,
        lambda insight: setup.shard_rows(insight.databases()),
    ),
    Command(
        "SHOW SOCKETS",
        "clients and server connections in one list",
        traffic.SOCKETS,
        lambda insight: traffic.socket_rows(insight.clients(), insight.servers()),
    ),
    Command(
        "SHOW ACTIVE_SOCKETS",
        "the same, of those that are in use",
        traffic.SOCKETS,
        _active_sockets,
    ),
    Command("SHOW STATE", "whether clients are served", traffic.STATE, _state),
    Command(
        "SHOW STATS",
        "what went through each database since the start, and lately",
        statistics.STATS,
        lambda insight: statistics.stats_rows(
            insight.totals(), insight.averages(), insight.queries()
        ),
    ),
    Command(
        "SHOW STATS_AVERAGES",
        "what went through lately, per second",
        statistics.STATS_AVERAGES,
        lambda insight: statistics.stats_averages_rows(insight.averages()),
    ),
    Command(
        "SHOW STATS_TOTALS",
        "what went through since the start",
        statistics.STATS_TOTALS,
        lambda insight: statistics.stats_totals_rows(insight.totals(), insight.queries()),
    ),
    Command(
        "SHOW TOTALS",
        "the same, all databases together, a row for each figure",
        statistics.TOTALS,
        lambda insight: statistics.totals_rows(insight.totals(), insight.all_averages()),
    ),
    Command(
        "SHOW PEERS", "other processes that cancel requests are passed on to: none", PEERS, _none
    ),
    Command("SHOW PEER_POOLS", "connections to them: none", PEER_POOLS, _none),
    Command("SHOW DNS_HOSTS", "host names resolved: the system's resolver does it", HOSTS, _none),
    Command("SHOW DNS_ZONES", "zones watched: none", ZONES, _none),
    Command("SHOW USERS", "users, and who may use the console", setup.USERS, _users),
    Command(
        "SHOW VERSION",
        "the version of Penstock",
        setup.VERSION,
        lambda insight: setup.version_rows(),
    ),
    Command(
        "CLEAR 'TABLES:REST' [DATABASE]",
        "make cached results unusable: CLEAR 'orders:*', or CLEAR '*' for all; also CACHE CLEAR",
        caching.CLEAR,
        None,
        _clear,
    ),
)


def _name(command: Command) -> str:
    """The words that call it, in lower case."""
    return command.syntax.partition(" '")[0].lower()


COMMANDS: Final[Mapping[str, Command]] = {_name(command): command for command in _LIST}
_COLUMNS: Final = {name: command.columns for name, command in COMMANDS.items()}


def calls(text: str) -> list[Call]:
    """The commands in `text`. Raises PgError for the first that can't be run."""
    return parse(text, _COLUMNS, _BY_FOLDED_NAME)


@dataclass(frozen=True, slots=True)
class Reply:
    """What answers a call: its rows, and sentences for the administrator."""

    rows: Sequence[Row] = ()
    notices: Sequence[str] = ()


async def run(call: Call, insight: Overview) -> Reply:
    """Answer a call. Raises PgError."""
    if call.name == "":
        return Reply()
    await insight.look(call.name)
    if call.name == "parameter":
        return Reply([(_BY_FOLDED_NAME[call.arguments[0]],)])
    if call.name == "constant":
        return Reply([call.arguments])
    order = ORDERS.get(call.name)
    if order is not None:
        return Reply((), await order.run(insight.control, call.arguments))
    command = COMMANDS[call.name]
    if command.view is not None:
        return Reply(command.view(insight))
    assert command.action is not None
    return Reply(await command.action(insight, call.arguments))
