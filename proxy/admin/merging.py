"""Metrics of several workers as those of one process. Pure."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.metrics_core import Metric as Family

_ALIKE = (
    *("penstock_node_", "penstock_replica_", "penstock_build", "penstock_cache_up"),
    *("penstock_cache_feed_up", "penstock_cache_feed_lag_", "penstock_cache_feed_slot_"),
)
"""Beginnings of what all workers see for themselves: the worst that one of them sees is shown."""
_LEAST = ("penstock_node_up", "penstock_cache_up", "penstock_cache_feed_up")
_EARLIEST = "process_start_time_seconds"


def merge(workers: Sequence[Iterable[Metric]]) -> list[Metric]:
    """One family of each name, its samples added up; see the constants for what is not added."""
    merged: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in workers:
        for family in families:
            into = merged.get(family.name)
            if into is None:
                into = merged[family.name] = Family(
                    family.name, family.documentation, family.type, family.unit
                )
            samples = values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                known = samples.get(key)
                value = float(sample.value)
                samples[key] = value if known is None else _both(family, known, value)
    for name, family in merged.items():
        for (sample_name, labels), value in values[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return list(merged.values())


def _both(family: Metric, one: float, other: float) -> float:
    if family.name.startswith(_LEAST) or family.name == _EARLIEST:
        return min(one, other)
    if family.type == "info" or family.name.startswith(_ALIKE):
        return max(one, other)
    return one + other
