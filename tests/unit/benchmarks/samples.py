"""Rounds as a run could have taken them."""

from benchmarks.measuring.machine import Bustle
from benchmarks.measuring.measurement import Calls, Measurement, Round

CALM = Bustle(0.5, 0.1)


def measured(
    side: str,
    number: int,
    per_second: float,
    cpu: float | None = None,
    *,
    scenario: str = "select-simple",
    p99: float | None = None,
    p999: float | None = None,
) -> Measurement:
    """One measurement; a fifth of its CPU time is user's."""
    user, system = (None, None) if cpu is None else (cpu / 5, cpu * 4 / 5)
    memory = None if cpu is None else 8 << 20
    return Measurement(scenario, side, number, per_second, 0.4, p99, p999, user, system, memory)


def a_round(
    *measurements: Measurement,
    bustle: Bustle = CALM,
    calls: tuple[Calls, ...] = (),
    failed: dict[str, str] | None = None,
    rate: float | None = None,
) -> Round:
    """Those measurements as one round."""
    first = measurements[0]
    return Round(first.scenario, first.round, bustle, rate, measurements, calls, failed or {})
