"""Views of what goes on: clients, servers, pools, statistics. Values in, rows out.

Columns carry PgBouncer's names and order as far as it has them, then come Penstock's own. NULL
stands for what is not counted; nothing is made up.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from proxy.admin.console.averages import Averages, Totals
from proxy.admin.console.rows import Row, columns
from proxy.admin.console.snapshot import (
    ClientCount,
    ClientCounts,
    ClientState,
    DatabaseState,
    Endpoints,
    MemoryState,
    PoolState,
    ServerState,
)
from proxy.topology.counters import Tally

_SOCKETS = (
    "type user database replication state addr port:int local_addr local_port:int connect_time "
    "request_time wait:int wait_us:int close_needed:int ptr link remote_pid:int tls "
    "application_name prepared_statements:int id:int "
)
CLIENTS = columns(_SOCKETS + "node pinned in_transaction:bool server_pid:int")
SERVERS = columns(_SOCKETS + "node role")

POOLS = columns(
    "database user cl_active:int cl_waiting:int cl_active_cancel_req:int cl_waiting_cancel_req:int "
    "sv_active:int sv_active_cancel:int sv_being_canceled:int sv_idle:int sv_used:int "
    "sv_tested:int sv_login:int maxwait:int maxwait_us:int pool_mode nodes:int"
)
NODE_POOLS = columns(
    "database user node pool_mode pool_size:int active:int idle:int login:int being_canceled:int "
    "waiting:int maxwait:number"
)

_TOTALS = "xact_count query_count received sent xact_time query_time wait_time"
_TOTAL_COLUMNS = " ".join(f"total_{name}:int" for name in _TOTALS.split())
_AVERAGE_COLUMNS = (
    "avg_xact_count:int avg_query_count:int avg_recv:int avg_sent:int avg_xact_time:int "
    "avg_query_time:int avg_wait_time:int"
)
_ROUTES = ("primary", "replica", "shard", "cache", "local")
_ROUTE_COLUMNS = " ".join(f"{route}_count:int" for route in _ROUTES)
STATS = columns(f"database {_TOTAL_COLUMNS} {_AVERAGE_COLUMNS} {_ROUTE_COLUMNS}")
STATS_TOTALS = columns(f"database {_TOTAL_COLUMNS} {_ROUTE_COLUMNS}")
STATS_AVERAGES = columns(f"database {_AVERAGE_COLUMNS}")

LISTS = columns("list items:int")
MEM = columns("name size:int used:int free:int memtotal:int")
STATE = columns("key value")


def client_rows(clients: Iterable[ClientState]) -> list[Row]:
    """A row for each client, oldest first."""
    return [
        (
            *_socket_start("C", one.user, one.database, one.state, one.ends, one.connected_at),
            *_seconds(one.waiting or 0.0),
            0,
            _pointer(one.ident),
            _pointer(one.link),
            0,
            "",
            one.application_name,
            one.prepared,
            one.ident,
            one.node,
            one.pinned,
            one.in_transaction,
            one.server_process,
        )
        for one in sorted(clients, key=lambda client: client.connected_at)
    ]


def server_rows(servers: Iterable[ServerState]) -> list[Row]:
    """A row for each server connection, by database, node and age."""
    return [
        (
            *_socket_start(
                "S", one.user, one.database, _server_state(one), one.ends, one.connected_at
            ),
            0,
            0,
            0,
            _pointer(one.ident),
            _pointer(one.link),
            one.process,
            "",
            one.application_name,
            one.prepared,
            one.ident,
            one.node,
            one.role.value,
        )
        for one in sorted(servers, key=lambda server: (server.database, server.node, server.ident))
    ]


def _server_state(server: ServerState) -> str:
    if server.active:
        return "active_cancel" if server.cancels else "active"
    return "being_canceled" if server.cancels else "idle"


def _socket_start(
    kind: str, user: str, database: str, state: str, ends: Endpoints, connected_at: float
) -> Row:
    """The columns up to request_time, of which only the moment is not known."""
    return (
        kind,
        user,
        database,
        "none",
        state,
        ends.address,
        ends.port,
        ends.local_address,
        ends.local_port,
        time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(connected_at)),
        None,
    )


def _seconds(seconds: float) -> tuple[int, int]:
    """Whole seconds, and the microseconds beyond them."""
    whole = int(seconds)
    return whole, int((seconds - whole) * 1e6)


def _pointer(ident: int | None) -> str:
    return "" if ident is None else f"0x{ident:x}"


def pool_rows(pools: Iterable[PoolState], clients: ClientCounts) -> list[Row]:
    """A row for each database and user: what its pools on all nodes come to together."""
    by_pair: defaultdict[tuple[str, str], list[PoolState]] = defaultdict(list)
    for pool in pools:
        by_pair[pool.database, pool.user].append(pool)
    for pair in clients:
        by_pair.setdefault(pair, [])
    nobody = ClientCount(0, 0)
    return [
        _pool_row(pair, own, clients.get(pair, nobody)) for pair, own in sorted(by_pair.items())
    ]


def _pool_row(pair: tuple[str, str], pools: Sequence[PoolState], clients: ClientCount) -> Row:
    cancels = sum(pool.cancels for pool in pools)
    held = sum(pool.held for pool in pools)
    return (
        *pair,
        clients.clients - clients.waiting,
        sum(pool.waiting for pool in pools),
        cancels,
        0,
        sum(pool.active for pool in pools),
        cancels - held,
        held,
        sum(pool.idle for pool in pools),
        0,
        0,
        sum(pool.connecting for pool in pools),
        *_seconds(max((pool.longest_wait for pool in pools), default=0.0)),
        pools[0].mode if pools else None,
        len(pools),
    )


def node_pool_rows(pools: Iterable[PoolState]) -> list[Row]:
    """A row for each pool."""
    return [
        (
            pool.database,
            pool.user,
            pool.node,
            pool.mode,
            pool.size,
            pool.active,
            pool.idle,
            pool.connecting,
            pool.held,
            pool.waiting,
            round(pool.longest_wait, 6),
        )
        for pool in sorted(pools, key=lambda one: (one.database, one.user, one.node))
    ]


Queries = Mapping[tuple[str, str, str], Tally]
"""By (route, node, kind), as `Counters` keeps them."""


def stats_rows(
    databases: Sequence[str], totals: Totals, averages: Averages, queries: Queries
) -> list[Row]:
    """One row: counting is by process, not by database."""
    return [
        (_counted(databases), *_total(totals), *_average(averages), *_routes(queries)),
    ]


def stats_totals_rows(databases: Sequence[str], totals: Totals, queries: Queries) -> list[Row]:
    """As `stats_rows`, without averages."""
    return [(_counted(databases), *_total(totals), *_routes(queries))]


def stats_averages_rows(databases: Sequence[str], averages: Averages) -> list[Row]:
    """As `stats_rows`, averages alone."""
    return [(_counted(databases), *_average(averages))]


def _counted(databases: Sequence[str]) -> str:
    """The database that the statistics are of; "*" where they are of several together."""
    return databases[0] if len(databases) == 1 else "*"


def _total(totals: Totals) -> Row:
    query_time = round(totals.query_seconds * 1e6)
    return (None, totals.queries, totals.received, totals.sent, None, query_time, None)


def _average(averages: Averages) -> Row:
    return (
        None,
        round(averages.queries),
        round(averages.received),
        round(averages.sent),
        None,
        round(averages.query_seconds * 1e6),
        None,
    )


def _routes(queries: Queries) -> Row:
    counts = dict.fromkeys(_ROUTES, 0)
    for (route, _, _), tally in queries.items():
        counts[route] = counts.get(route, 0) + tally.count
    return tuple(counts[route] for route in _ROUTES)


def list_rows(
    databases: Sequence[DatabaseState],
    users: int,
    pools: Sequence[PoolState],
    clients: int,
    logging_in: int,
) -> list[Row]:
    """PgBouncer's lists and their lengths, then Penstock's own."""
    roles = sorted(node.role.value for database in databases for node in database.nodes)
    nodes = {role: len(list(group)) for role, group in groupby(roles)}
    return [
        ("databases", len(databases)),
        ("users", users),
        ("pools", len({(pool.database, pool.user) for pool in pools})),
        ("free_clients", 0),
        ("used_clients", clients),
        ("login_clients", logging_in),
        ("free_servers", sum(pool.idle for pool in pools)),
        ("used_servers", sum(pool.active for pool in pools)),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
        ("primaries", nodes.get("primary", 0)),
        ("replicas", nodes.get("replica", 0)),
        ("shards", nodes.get("shard", 0)),
        ("node_pools", len(pools)),
    ]


def memory_rows(memory: MemoryState) -> list[Row]:
    """The process's memory in bytes, then numbers of things, whose sizes are not measured."""
    return [
        ("process", None, 1, None, memory.resident),
        ("clients", None, memory.clients, None, None),
        ("servers", None, memory.servers, None, None),
        *(
            (f"prepared_statements {database}", None, count, None, None)
            for database, count in sorted(memory.prepared.items())
        ),
    ]
