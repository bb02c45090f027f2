"""A server and what is known of it at the moment: shared, mutable, written by the monitor alone."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.net.dialing import Dialing
from proxy.net.listener import socket_path


class Role(enum.StrEnum):
    """A node's part in its database."""

    PRIMARY = "primary"
    REPLICA = "replica"
    SHARD = "shard"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a PostgreSQL server listens, its database's name there, and how it is reached."""

    host: str
    """A name or an IP address, or the directory of a Unix socket."""
    port: int
    database: str
    dialing: Dialing = field(default_factory=Dialing, compare=False, repr=False)

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return str(socket_path(self.host, self.port))
        return f"{self.host}:{self.port}"


@dataclass(slots=True)
class Node:
    """One server of one database.

    Times are seconds of time.monotonic(): the loop's clock stands still within a turn, which could
    order a write and a sample wrongly.
    """

    name: str  # "primary", "replica1", "shard0", …
    role: Role
    address: Address
    healthy: bool = True
    """False: the monitor could not reach it, or it is not what its role says."""
    fresh_until: float = float("-inf")
    """A replica has replayed every write that was acknowledged before this moment."""
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    latency: float | None = None
    """Seconds that a health check took lately (smoothed); None before the first."""
    error: str | None = None
    shard: int | None = None
    routes: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    """Routes to this node made before, by their reason; routing's."""
    in_use: int = 0
    """Backend connections of this node that run something now; kept by the pools."""


@dataclass(slots=True)
class DatabaseTopology:
    """The nodes behind one database that clients can name."""

    database: str
    primary: Node
    replicas: list[Node] = field(default_factory=list)
    shards: list[Node] = field(default_factory=list)
    observers: list[Callable[[], None]] = field(default_factory=list, compare=False, repr=False)
    """Called whenever something may have become known of a node."""

    def tell(self) -> None:
        """Call the observers."""
        for observer in list(self.observers):
            observer()

    def nodes(self) -> list[Node]:
        return [self.primary, *self.replicas, *self.shards]
