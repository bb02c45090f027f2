"""A monitor on a stack, and waiting for what it finds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from proxy.config.settings import DatabaseSettings, RoutingSettings
from proxy.local.postgres import PostgresServer
from proxy.local.stack import Stack
from proxy.topology.build import build_topology
from proxy.topology.connect import Connection, Login
from proxy.topology.monitor import Monitor
from proxy.topology.node import DatabaseTopology, Node

INTERVAL = 0.1


@dataclass(slots=True)
class Watched:
    """A topology under watch, and the changes of health that were reported."""

    topology: DatabaseTopology
    monitor: Monitor
    changes: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def replica(self) -> Node:
        return self.topology.replicas[0]


@asynccontextmanager
async def watched(
    stack: Stack,
    *,
    primary: PostgresServer | None = None,
    replicas: Sequence[PostgresServer] | None = None,
    ports: Sequence[int] = (),
    login: Login | None = None,
    interval: float = INTERVAL,
) -> AsyncIterator[Watched]:
    """Watch the stack's servers (or those given, and further replicas on `ports`)."""
    standbys = stack.replicas if replicas is None else replicas
    ports = [*(server.port for server in standbys), *ports]
    settings = DatabaseSettings.model_validate(
        {
            "server_database": stack.database,
            "primary": {"port": (primary or stack.primary).port},
            "replicas": {"hosts": [f"127.0.0.1:{port}" for port in ports]},
        }
    )
    topology = build_topology("watched", settings)
    changes: list[tuple[str, bool]] = []
    monitor = Monitor(
        topology,
        login or (stack.superuser, stack.superuser_password),
        RoutingSettings(monitor_interval=interval),
        lambda node: changes.append((node.name, node.healthy)),
    )
    await monitor.start()
    try:
        await monitor.first_round(5.0)
        yield Watched(topology, monitor, changes)
    finally:
        await monitor.stop()


async def connected(server: PostgresServer, database: str) -> Connection:
    """A connection as the superuser."""
    return await asyncpg.connect(server.dsn(database))


async def becomes(condition: Callable[[], bool], within: float, what: str) -> float:
    """Wait until `condition` holds; how many seconds that took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > within:
            raise AssertionError(f"{what}: not within {within:g} s")
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def fresh(node: Node, at: float, within: float) -> float:
    """Wait until the replica is known to hold what was acknowledged before `at`."""
    return await becomes(lambda: node.fresh_until >= at, within, f"freshness of {node.name}")


def now() -> float:
    """The clock of `Node.fresh_until`."""
    return time.monotonic()
