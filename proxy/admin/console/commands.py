"""The table of commands: what each is called, what it is for, its columns, how it is answered."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.admin.console import caching, setup, traffic
from proxy.admin.console.gather import Insight
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

View = Callable[[Insight], Sequence[Row]]
Action = Callable[[Insight, tuple[str, ...]], Awaitable[Sequence[Row]]]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: a `view` is answered at once, an `action` may wait."""

    syntax: str
    summary: str
    columns: Columns
    view: View | None = None
    action: Action | None = None


def _databases(insight: Insight) -> Sequence[Row]:
    connections: Counter[str] = Counter()
    for pool in insight.pool_states():
        connections[pool.database] += pool.active + pool.idle
    clients: Counter[str] = Counter()
    for (database, _), count in insight.client_counts().items():
        clients[database] += count.clients
    return setup.database_rows(insight.databases(), connections, clients)


def _users(insight: Insight) -> Sequence[Row]:
    clients: Counter[str] = Counter()
    for (_, user), count in insight.client_counts().items():
        clients[user] += count.clients
    return setup.user_rows(insight.settings, insight.pool_states(), clients)


def _lists(insight: Insight) -> Sequence[Row]:
    clients = len(insight.registry)
    return traffic.list_rows(
        insight.databases(),
        len(insight.settings.auth.users),
        insight.pool_states(),
        clients,
        max(0, insight.counters.clients - clients),
    )


def _names(insight: Insight) -> list[str]:
    return sorted(context.name for context in insight.contexts())


async def _cache(insight: Insight, arguments: tuple[str, ...]) -> Sequence[Row]:
    service, counters, settings = insight.cache, insight.counters, insight.settings.cache
    own = caching.Own(
        service.results.statistics if service is not None else Statistics(),
        dict(counters.cache_bypasses),
        dict(counters.cache_unfilled),
        service is not None and service.up,
        [rule.name for rule in settings.rules if rule.enabled],
    )
    if settings.redis is None:
        return caching.cache_rows(own, caching.Shared(error="no cache is configured"))
    return caching.cache_rows(own, await caching.look_at_shared(settings, _names(insight)))


async def _clear(insight: Insight, arguments: tuple[str, ...]) -> Sequence[Row]:
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


def _help(insight: Insight) -> Sequence[Row]:
    return [(command.syntax, command.summary) for command in COMMANDS.values()]


_LIST: Final = (
    Command(
        "SHOW CACHE", "hits, misses, bypasses and entries of the cache", caching.CACHE, None, _cache
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
        lambda insight: setup.config_rows(insight.settings),
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
        "SHOW STATE",
        "whether clients are served",
        traffic.STATE,
        lambda insight: [("active", "yes"), ("paused", "no"), ("suspended", "no")],
    ),
    Command(
        "SHOW STATS",
        "what went through since the start, and lately",
        traffic.STATS,
        lambda insight: traffic.stats_rows(
            _names(insight), insight.totals(), insight.averages(), insight.counters.queries
        ),
    ),
    Command(
        "SHOW STATS_AVERAGES",
        "what went through lately, per second",
        traffic.STATS_AVERAGES,
        lambda insight: traffic.stats_averages_rows(_names(insight), insight.averages()),
    ),
    Command(
        "SHOW STATS_TOTALS",
        "what went through since the start",
        traffic.STATS_TOTALS,
        lambda insight: traffic.stats_totals_rows(
            _names(insight), insight.totals(), insight.counters.queries
        ),
    ),
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


async def run(call: Call, insight: Insight) -> Sequence[Row]:
    """The rows that answer a call. Raises PgError."""
    if call.name == "":
        return ()
    if call.name == "parameter":
        return [(_BY_FOLDED_NAME[call.arguments[0]],)]
    command = COMMANDS[call.name]
    if command.view is not None:
        return command.view(insight)
    assert command.action is not None
    return await command.action(insight, call.arguments)
