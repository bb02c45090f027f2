"""What one measurement has found, and the key under which it is kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.measuring.machine import Bustle


@dataclass(frozen=True, slots=True)
class Measurement:
    """One side under one load, once. CPU in microseconds per statement, latencies in milliseconds
    of wall time per transaction.

    Attributes:
        per_second: transactions.
        user, system: CPU time of the proxy with its children, less what the clients' logins cost
            (unless connecting is what is measured); None for a server without proxy.
        memory: bytes.
        hits: share of the statements that Penstock answered from its cache; None if it has none.
    """

    scenario: str
    side: str
    round: int
    per_second: float
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    user: float | None = None
    system: float | None = None
    memory: int | None = None
    hits: float | None = None

    @property
    def cpu(self) -> float | None:
        """User and system together."""
        return None if self.user is None or self.system is None else self.user + self.system


@dataclass(frozen=True, slots=True)
class Calls:
    """System calls for each statement, by name."""

    scenario: str
    side: str
    each: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one scenario: what the machine did before it, and what was found.

    Attributes:
        rate: queries per second that were asked for; None: as many as possible.
        failed: why a side that should have taken part has no figures.
    """

    scenario: str
    number: int
    bustle: Bustle
    rate: float | None
    measurements: tuple[Measurement, ...]
    calls: tuple[Calls, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
