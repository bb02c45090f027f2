"""What a load has done, and where it is put."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LEAST_BEYOND = 10
"""Fewer values above a percentile than this say more of chance than of the percentile."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where clients connect to, as whom, and with which programs.

    Attributes:
        directory: for scripts and logs.
    """

    port: int
    user: str
    password: str
    database: str
    pgbench: Path
    psql: Path
    directory: Path

    def environment(self) -> Mapping[str, str]:
        """For programs on libpq."""
        return {
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": "disable",
        }


@dataclass(frozen=True, slots=True)
class Load:
    """Latencies are in milliseconds; None where too few were written down.

    Attributes:
        ends: when transactions ended, in seconds since the epoch, of those written down.
    """

    transactions: int
    per_second: float
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    ends: Sequence[float] = ()


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of the values is below; None where fewer than ten lie above it.

    The values must be sorted.
    """
    if len(values) * (1 - share) < _LEAST_BEYOND - 1e-6:
        return None
    return values[int(len(values) * share)]


def make_load(
    transactions: int,
    per_second: float,
    microseconds: Sequence[int],
    ends: Sequence[float] = (),
) -> Load:
    """From the latencies of some or all of the transactions."""
    milliseconds = [one / 1000 for one in sorted(microseconds)]
    p50, p99, p999 = (percentile(milliseconds, share) for share in (0.5, 0.99, 0.999))
    return Load(transactions, per_second, p50, p99, p999, ends)
