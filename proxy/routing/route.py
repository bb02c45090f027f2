"""Where one execution goes, and why."""

import enum
from dataclasses import dataclass


class Target(enum.Enum):
    """The kind of place that answers."""

    PRIMARY = "primary"
    REPLICA = "replica"
    SHARD = "shard"
    CACHE = "cache"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Route:
    """The decision: `node` names the server for PRIMARY, REPLICA and SHARD."""

    target: Target
    node: str
    reason: str


class ShardRefused(Exception):
    """The statement can't be pinned to one shard by these parameters."""

    def __init__(self, sqlstate: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
