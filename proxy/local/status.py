"""How the servers of a stack are, for `penstock local status`."""

import time
from dataclasses import dataclass
from typing import Literal

import psutil

from proxy.local.errors import LocalStackError
from proxy.local.postgres import PostgresServer
from proxy.local.redis import RedisServer
from proxy.local.stack import Stack

_LAG = """\
SELECT state || ', ' || pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))
       || ' behind'
FROM pg_stat_replication WHERE application_name = '{name}'
"""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One line of the table. `uptime` is in seconds."""

    name: str
    role: str
    address: str
    state: Literal["up", "down", "not answering"]
    pid: int | None
    uptime: float | None
    detail: str


def stack_status(stack: Stack) -> list[ServerStatus]:
    """The state of every server, the primary first."""
    return [_server_status(server, stack) for server in stack.servers()]


def _server_status(server: PostgresServer | RedisServer, stack: Stack) -> ServerStatus:
    role = server.role if isinstance(server, PostgresServer) else "cache"
    address = f"{server.host}:{server.port}"
    pid = server.pid
    if pid is None:
        return ServerStatus(server.name, role, address, "down", None, None, "")
    try:
        uptime = time.time() - psutil.Process(pid).create_time()
        detail = _detail(server, stack)
    except (LocalStackError, psutil.NoSuchProcess) as error:
        why = str(error).strip().splitlines()[-1]
        return ServerStatus(server.name, role, address, "not answering", pid, None, why)
    return ServerStatus(server.name, role, address, "up", pid, uptime, detail)


def _detail(server: PostgresServer | RedisServer, stack: Stack) -> str:
    if isinstance(server, RedisServer):
        if not server.accepts():
            raise LocalStackError("redis does not answer PING")
        return ""
    if server.role != "replica":
        server.psql("SELECT 1")
        return stack.programs.label
    if server.psql("SELECT pg_is_in_recovery()") != "t":
        return "promoted: takes writes, follows nobody"
    return stack.primary.psql(_LAG.format(name=server.name)) or "not streaming"
