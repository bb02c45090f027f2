"""Views of what goes on: clients, servers, pools, statistics. Values in, rows out.

Columns carry PgBouncer's names and order as far as it has them, then come Penstock's own. NULL
stands for what is not counted; nothing is made up.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby

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
    Things,
)

_SOCKETS = (
    "type user database replication state addr port:int local_addr local_port:int connect_time "
    "request_time wait:int wait_us:int close_needed:int ptr link remote_pid:int tls "
    "application_name prepared_statements:int id:int "
)
CLIENTS = columns(_SOCKETS + "node pinned in_transaction:bool server_pid:int channels:int")
SERVERS = columns(_SOCKETS + "node role")
SOCKETS = columns(
    _SOCKETS + "recv_pos:int pkt_pos:int pkt_remain:int send_pos:int send_remain:int "
    "pkt_avail:int send_avail:int"
)

POOLS = columns(
    "database user cl_active:int cl_waiting:int cl_active_cancel_req:int cl_waiting_cancel_req:int "
    "sv_active:int sv_active_cancel:int sv_being_canceled:int sv_idle:int sv_used:int "
    "sv_tested:int sv_login:int maxwait:int maxwait_us:int pool_mode load_balance_hosts nodes:int"
)
NODE_POOLS = columns(
    "database user node pool_mode pool_size:int active:int idle:int login:int being_canceled:int "
    "waiting:int maxwait:number"
)

LISTS = columns("list items:int")
MEM = columns("name size:int used:int free:int memtotal:int")
STATE = columns("key value")


def client_rows(clients: Iterable[ClientState]) -> list[Row]:
    """A row for each client, oldest first."""
    return [
        (
            *_client_start(one),
            one.node,
            one.pinned,
            one.in_transaction,
            one.server_process,
            one.channels,
        )
        for one in sorted(clients, key=lambda client: client.connected_at)
    ]


def server_rows(servers: Iterable[ServerState]) -> list[Row]:
    """A row for each server connection, by database, node and age."""
    return [
        (
            *_server_start(one),
            one.node,
            one.role.value,
        )
        for one in sorted(servers, key=lambda server: (server.database, server.node, server.ident))
    ]


def socket_rows(clients: Iterable[ClientState], servers: Iterable[ServerState]) -> list[Row]:
    """A row for each client and each server connection. The positions in PgBouncer's buffers have
    no equal here."""
    positions = (None,) * 7
    return [
        *((*_client_start(one), *positions) for one in clients),
        *((*_server_start(one), *positions) for one in servers),
    ]


def active(clients: Iterable[ClientState]) -> list[ClientState]:
    """Clients that something is done for."""
    return [one for one in clients if one.link is not None or one.waiting is not None]


def _client_start(one: ClientState) -> Row:
    """PgBouncer's columns."""
    return (
        *_socket_start("C", one.user, one.database, one.state, one.ends, one.connected_at),
        _moment(one.requested_at),
        *_seconds(one.waiting or 0.0),
        0,
        _pointer(one.ident),
        _pointer(one.link),
        0,
        one.tls,
        one.application_name,
        one.prepared,
        one.ident,
    )


def _server_start(one: ServerState) -> Row:
    """PgBouncer's columns."""
    return (
        *_socket_start("S", one.user, one.database, _server_state(one), one.ends, one.connected_at),
        _moment(one.requested_at),
        0,
        0,
        int(one.close_needed),
        _pointer(one.ident),
        _pointer(one.link),
        one.process,
        one.tls,
        one.application_name,
        one.prepared,
        one.ident,
    )


def _moment(at: float | None) -> str | None:
    if at is None:
        return None
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _server_state(server: ServerState) -> str:
    if server.listener:
        return "listener"
    if server.active:
        return "active_cancel" if server.cancels else "active"
    return "being_canceled" if server.cancels else "idle"


def _socket_start(
    kind: str, user: str, database: str, state: str, ends: Endpoints, connected_at: float
) -> Row:
    """The columns up to connect_time."""
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
        _moment(connected_at),
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
        sum(pool.idle - pool.used for pool in pools),
        sum(pool.used for pool in pools),
        sum(pool.tested for pool in pools),
        sum(pool.connecting for pool in pools),
        *_seconds(max((pool.longest_wait for pool in pools), default=0.0)),
        pools[0].mode if pools else None,
        None,
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
        ("peers", 0),
        ("pools", len({(pool.database, pool.user) for pool in pools})),
        ("peer_pools", 0),
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
    """The process's resident memory, then kinds of things with what they take by themselves, from a
    sample; what they share, such as plans, is in none. There are no free lists."""
    return [
        ("process", memory.resident, 1, 0, memory.resident),
        _memory_row("clients", memory.clients),
        _memory_row("servers", memory.servers),
        *(
            _memory_row(f"prepared_statements {database}", things)
            for database, things in sorted(memory.prepared.items())
        ),
    ]


def _memory_row(name: str, things: Things) -> Row:
    return (name, things.size, things.count, 0, things.total)
