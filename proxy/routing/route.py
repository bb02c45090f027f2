"""Where one execution goes, and why."""

import enum
from dataclasses import dataclass, field

from proxy.topology.counters import Tally
from proxy.topology.node import Node


class Target(enum.Enum):
    """The kind of place that answers."""

    PRIMARY = "primary"
    REPLICA = "replica"
    SHARD = "shard"
    CACHE = "cache"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Route:
    """The decision. `node` is the server for PRIMARY, REPLICA and SHARD."""

    target: Target
    node: Node | None
    reason: str
    on_replica: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict, compare=False, repr=False)
    """What has gone this way, by kind of statement."""


@dataclass(slots=True)
class Facts:
    """What routing must know of a session. Mutable: each session keeps one and updates it."""

    pinned: str | None = None
    """Why the session stays on its backend, if it does."""
    linked: Node | None = None
    """The node of the backend that an open transaction or a pinned session holds."""
    in_transaction: bool = False
    read_only_default: bool = False
    """default_transaction_read_only is on for this session."""
    fresh_after: float = float("-inf")
    """A replica must have replayed all writes acknowledged before this (see Node.fresh_until)."""


class Refused(Exception):
    """No node may run it: an ErrorResponse in the making."""

    def __init__(self, sqlstate: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint


class ShardRefused(Refused):
    """The statement can't be pinned to one shard by these parameters."""


class RouteRefused(Refused):
    """No node that may run it can be used at the moment, or its transaction is elsewhere."""


class ShardUnresolved(RouteRefused):
    """The parameters decide the shard, and they are not known (yet)."""

    def __init__(self) -> None:
        super().__init__(
            "0A000",
            "the parameters of the statement decide its shard, and they are not known",
            "Bind values to its parameters.",
        )
