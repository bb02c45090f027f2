"""What the console's views are made from: plain values, taken at one moment.

Times are seconds; `…_at` are those of time.time(), everything else is a duration.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.config.pooling import NO_CAPS, Caps
from proxy.config.settings import DatabaseSettings, PoolSettings
from proxy.topology.node import Role
from proxy.topology.statement_tallies import StatementTally


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Both ends of a TCP connection; "" and 0 where it has just gone."""

    address: str = ""
    port: int = 0
    local_address: str = ""
    local_port: int = 0


@dataclass(frozen=True, slots=True)
class ClientState:
    """A client that has logged in."""

    ident: int
    user: str
    database: str
    state: str
    ends: Endpoints
    connected_at: float
    application_name: str = ""
    waiting: float | None = None
    """For a server connection; None: it doesn't wait for one."""
    link: int | None = None
    """`ident` of the server connection that it holds."""
    node: str | None = None
    server_process: int | None = None
    pinned: str | None = None
    """Why it keeps that connection beyond its transaction."""
    in_transaction: bool = False
    prepared: int = 0
    requested_at: float | None = None
    """When its last batch had come; None: there was none."""
    channels: int = 0
    """That it listens on, and hears of by a connection which listens for all."""
    tls: str = ""
    """Version and cipher; "": not encrypted."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """A connection to a server."""

    ident: int
    user: str
    database: str
    node: str
    role: Role
    active: bool
    ends: Endpoints
    connected_at: float
    process: int
    """The server's process that serves it."""
    link: int | None = None
    """`ident` of the client that holds it."""
    application_name: str = ""
    prepared: int = 0
    cancels: int = 0
    """Cancel requests on their way to it."""
    requested_at: float | None = None
    """When the client that holds it sent its last batch."""
    listener: bool = False
    """It listens for all clients of the database and is lent to nobody."""
    close_needed: bool = False
    """It is closed as soon as it is released."""
    tls: str = ""
    """As a client's."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """One user's connections to one node of a database."""

    database: str
    user: str
    node: str
    mode: str
    size: int
    active: int
    idle: int
    connecting: int
    waiting: int
    longest_wait: float
    cancels: int
    """Connections with cancel requests on their way."""
    held: int
    """Connections that could be lent again but for such."""
    used: int = 0
    """Of the idle ones, those that will be tried before they are lent."""
    tested: int = 0
    """Connections that are being tried or cleaned."""


@dataclass(frozen=True, slots=True)
class ClientCount:
    """How many clients of one user a database has, and how many of them wait for a server
    connection. A pool may have more waiting: clients that are still being welcomed."""

    clients: int
    waiting: int


ClientCounts = Mapping[tuple[str, str], ClientCount]
"""By (database, user)."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A server as the monitor sees it."""

    name: str
    role: Role
    host: str
    port: int
    database: str
    """Its name on the server."""
    healthy: bool
    shard: int | None = None
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    fresh_age: float | None = None
    """A replica holds all that was acknowledged longer ago than this; None where unknown."""
    latency: float | None = None
    error: str | None = None
    in_use: int = 0


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """A database that clients can name."""

    name: str
    settings: DatabaseSettings
    pool: PoolSettings
    nodes: tuple[NodeState, ...]
    paused: bool = False
    disabled: bool = False
    caps: Caps = NO_CAPS


@dataclass(frozen=True, slots=True)
class PreparedState:
    """A statement that clients have prepared."""

    database: str
    name: str
    """What servers know it by."""
    text: str
    parameter_types: tuple[int, ...]
    servers: int
    """Server connections that have it."""
    kind: str | None = None
    access: str | None = None
    """None where it has not been planned yet; so is `kind`."""


@dataclass(frozen=True, slots=True)
class MemoryState:
    """What takes memory."""

    resident: int
    """Bytes of the process."""
    clients: "Things"
    servers: "Things"
    prepared: Mapping[str, "Things"]
    """Statements kept, by database."""


@dataclass(frozen=True, slots=True)
class Things:
    """How many there are of a kind, and how many bytes they take together."""

    count: int = 0
    total: int = 0

    def plus(self, other: "Things") -> "Things":
        """Both together."""
        return Things(self.count + other.count, self.total + other.total)

    @property
    def size(self) -> int:
        """Bytes of one, on average."""
        return round(self.total / self.count) if self.count else 0


@dataclass(frozen=True, slots=True)
class StatementRow:
    """What the cache did for one statement; the text is empty for the rest of a rule's."""

    database: str
    rule: str
    text: str
    tally: StatementTally
