"""What a node says of itself when asked: values."""

from dataclasses import dataclass

from proxy.topology.positions import WalLayout


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays as it is while a server runs. `system` is its system identifier, which only a
    primary and its replicas share."""

    system: int
    layout: WalLayout


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer. Positions are bytes; `asked_at` is of the monotonic clock, in seconds."""

    asked_at: float
    """No later than the moment when the question was sent."""
    round_trip: float
    in_recovery: bool
    timeline: int
    inserted: int | None
    """Where a primary will write its next record."""
    flushed: int | None
    """Up to where a primary's WAL is on disk: standbys get no more than that."""
    replayed: int | None
    paused: bool
    commit_age: float | None
    """Seconds since the replica's last replayed commit was made, by the two servers' clocks."""
