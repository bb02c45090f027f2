"""Prometheus metrics, made from the data path's counters at the moment of a scrape.

The data path only adds to the plain numbers of `proxy.topology.counters`; everything that has to do
with metric families happens here, when somebody asks.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.cache.feed.feed import FeedState
from proxy.cache.statistics import Statistics
from proxy.cache.writeback.state import WriteBackState
from proxy.config.version import version
from proxy.topology.counters import BUCKET_BOUNDS, Counters, Histogram, together
from proxy.topology.node import DatabaseTopology, Node


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One pool at this moment. `size` is its most connections, `waiting` counts clients."""

    database: str
    user: str
    node: str
    active: int
    idle: int
    waiting: int
    size: int


def _no_pools() -> Iterable[PoolRow]:
    return ()


def _running() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Observed:
    """What metrics and health are made from; read anew at every request."""

    counters: Counters
    databases: Sequence[DatabaseTopology] = ()
    pools: Callable[[], Iterable[PoolRow]] = field(default=_no_pools)
    cache: Statistics | None = None
    """None where there is no cache; so is `cache_up`."""
    cache_up: Callable[[], bool] | None = None
    """Whether Redis answers."""
    feeds: Callable[[], Iterable[FeedState]] = field(default=tuple)
    """Of the databases that have a change feed."""
    write_backs: Callable[[], Iterable[WriteBackState]] = field(default=tuple)
    """Of the databases that have write-back."""
    stopping: Callable[[], bool] = field(default=_running)
    """Whether the process has begun to shut down."""
    by_database: Callable[[], Iterable[Counters]] = field(default=tuple)
    """What is counted for each database; `counters` has what belongs to none."""

    def totals(self) -> Counters:
        """All counters together."""
        return together([self.counters, *self.by_database()])


def registry(observed: Observed) -> CollectorRegistry:
    """A registry of Penstock's metrics and those of the process (CPU, memory, descriptors)."""
    metrics = CollectorRegistry()
    metrics.register(PenstockCollector(observed))
    ProcessCollector(registry=metrics)
    PlatformCollector(registry=metrics)
    GCCollector(registry=metrics)
    return metrics


class PenstockCollector(Collector):
    """Metric families of one process."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        observed = self._observed
        counters = observed.totals()
        yield _build_info()
        yield from _query_metrics(counters)
        yield from _cache_metrics(observed, counters)
        yield from _feed_metrics(observed.feeds())
        yield from _write_back_metrics(observed.write_backs())
        yield from _client_metrics(counters)
        yield from _pool_metrics(observed.pools())
        yield from _node_metrics(observed.databases)


def _build_info() -> Metric:
    labels = {"version": version(), "python": platform.python_version()}
    return InfoMetricFamily("penstock_build", "Version of Penstock and of Python.", labels)


def _query_metrics(counters: Counters) -> Iterator[Metric]:
    queries = CounterMetricFamily(
        "penstock_queries",
        "Queries answered, by where they went, the node and the kind of statement.",
        labels=["route", "node", "kind"],
    )
    for labels in sorted(counters.queries):
        queries.add_metric(labels, counters.queries[labels].count)
    yield queries
    yield _durations(counters.latency)
    yield _tally(
        "penstock_errors",
        "Error responses sent to clients, by the class of their SQLSTATE.",
        "sqlstate_class",
        counters.errors,
    )
    yield _tally("penstock_retries", "Queries sent again, by reason.", "reason", counters.retries)
    yield _count(
        "penstock_fast_path_queries",
        "Those of penstock_queries that were relayed in C alone, like others before them.",
        counters.fast,
    )
    yield _count(
        "penstock_plan_cache_hits", "Queries whose analysis was at hand.", counters.plan_hits
    )
    yield _count(
        "penstock_plan_cache_misses", "Queries that had to be analysed.", counters.plan_misses
    )


def _durations(latency: Mapping[str, Histogram]) -> Metric:
    durations = HistogramMetricFamily(
        "penstock_query_duration_seconds",
        "From a query's last byte read to its answer written, by where it went.",
        labels=["route"],
    )
    bounds = [*(str(bound) for bound in BUCKET_BOUNDS), "+Inf"]
    for route, histogram in sorted(latency.items()):
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        durations.add_metric([route], buckets, histogram.total)
    return durations


def _cache_metrics(observed: Observed, counters: Counters) -> Iterator[Metric]:
    cache = observed.cache or Statistics()
    yield _count("penstock_cache_hits", "Reads answered from the cache.", cache.hits)
    yield _count(
        "penstock_cache_memory_hits",
        "Those of penstock_cache_hits that the process's memory answered.",
        cache.memory_hits,
    )
    yield _count(
        "penstock_cache_coalesced",
        "Reads that were given the answer of the same read under way.",
        cache.coalesced,
    )
    yield _tally(
        "penstock_cache_misses", "Reads that the cache did not hold.", "reason", cache.misses
    )
    yield _tally(
        "penstock_cache_bypasses",
        "Reads that a rule caches and that went past the cache, by reason.",
        "reason",
        _sum(counters.cache_bypasses, cache.bypasses),
    )
    yield _count(
        "penstock_cache_stale_hits",
        "Those of penstock_cache_hits after an entry's TTL, while another client read anew.",
        cache.stale_hits,
    )
    yield _count(
        "penstock_cache_renewals",
        "Reads that a hint had run to replace what the cache held.",
        cache.renewals,
    )
    yield _count(
        "penstock_cache_refreshed",
        "Results read again after a write, before its writer had the answer.",
        cache.refreshed,
    )
    yield _count(
        "penstock_cache_refreshed_late",
        "Results that were not read again in the time that a writer waits.",
        cache.refreshed_late,
    )
    yield _count("penstock_cache_fills", "Results put into the cache.", cache.fills)
    unfilled = {"epoch moved": cache.refused_fills, "redis is away": cache.dropped_fills}
    yield _tally(
        "penstock_cache_unfilled",
        "Results that were to be kept and were not, by reason.",
        "reason",
        _sum(counters.cache_unfilled, unfilled),
    )
    yield _tally(
        "penstock_cache_invalidations",
        "Moves of epochs, by what made them necessary.",
        "source",
        cache.moves_by,
    )
    yield _count(
        "penstock_cache_owed_invalidations",
        "Epochs that could not be moved in time: all was invalidated when Redis was back.",
        cache.owed_moves,
    )
    yield _count("penstock_cache_errors", "Errors that Redis answered.", cache.errors)
    yield _count("penstock_cache_served_bytes", "Sent from the cache.", cache.bytes_served)
    yield _count("penstock_cache_stored_bytes", "Put into the cache.", cache.bytes_stored)
    yield GaugeMetricFamily(
        "penstock_cache_memory_bytes", "In use by answers in memory.", value=cache.memory_bytes
    )
    yield GaugeMetricFamily(
        "penstock_cache_memory_entries", "Answers in memory.", value=cache.memory_entries
    )
    yield _count(
        "penstock_cache_memory_evictions", "Answers dropped for want of room.", cache.evictions
    )
    yield _count(
        "penstock_cache_unconfirmed_moves",
        "Invalidations that waited for another process until it trusted its memory no more.",
        cache.unconfirmed_moves,
    )
    yield from _rule_metrics(cache)
    if observed.cache_up is not None:
        up = float(observed.cache_up())
        yield GaugeMetricFamily("penstock_cache_up", "1 while Redis answers.", value=up)


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    """Both tallies together, zeros kept: a series that starts at 0 shows its first increase."""
    total = Counter(one)
    total.update(other)
    return total


def _rule_metrics(cache: Statistics) -> Iterator[Metric]:
    rules = sorted(cache.rules.items())
    yield _tally(
        "penstock_cache_rule_hits", "Hits of each rule.", "rule", {r: c.hits for r, c in rules}
    )
    yield _tally(
        "penstock_cache_rule_misses",
        "Misses of each rule.",
        "rule",
        {r: c.misses for r, c in rules},
    )
    saved = GaugeMetricFamily(
        "penstock_cache_rule_saved_seconds",
        "What the hits of each rule would have taken at the average of its reads.",
        labels=["rule"],
    )
    for rule, counters in rules:
        saved.add_metric([rule], counters.saved_ms / 1000)
    yield saved
    yield _tally(
        "penstock_cache_rule_fills", "Fills of each rule.", "rule", {r: c.fills for r, c in rules}
    )


def _feed_metrics(feeds: Iterable[FeedState]) -> Iterator[Metric]:
    """A lag that is not known is left out. The slot's size is known where it is read from."""
    gauges = {
        "up": "1 while the cache is in use, as far as the change feed is concerned.",
        "lag_seconds": "Age of the oldest write that may not have been invalidated yet.",
        "lag_bytes": "Written on the primary and not yet followed by the change feed.",
        "slot_bytes": "WAL that the primary keeps for the slot of the change feed.",
    }
    counts = {
        "transactions": "Transactions that came over the change feed.",
        "changes": "Changes of rows that came over the change feed.",
        "takeovers": "Times that a process began to read the change feed.",
        "restarts": "Times that the change feed had a gap, so that everything was invalidated.",
    }
    states = list(feeds)
    for name, text in gauges.items():
        gauge = GaugeMetricFamily(f"penstock_cache_feed_{name}", text, labels=["database"])
        for one in states:
            value = float(one.trusted) if name == "up" else getattr(one, name)
            if value is not None:
                gauge.add_metric([one.database], value)
        yield gauge
    for name, text in counts.items():
        counter = CounterMetricFamily(f"penstock_cache_feed_{name}", text, labels=["database"])
        for one in states:
            counter.add_metric([one.database], getattr(one, name))
        yield counter


def _write_back_metrics(states: Iterable[WriteBackState]) -> Iterator[Metric]:
    known = list(states)
    gauge = GaugeMetricFamily(
        "penstock_write_back_up", "1 while writes are taken and applied.", labels=["database"]
    )
    for one in known:
        gauge.add_metric([one.database], float(one.obstacle is None and one.error is None))
    yield gauge
    counts = {
        "written": "Writes that were acknowledged before PostgreSQL had them.",
        "applied": "Writes that were applied to PostgreSQL from Redis.",
        "rejected": "Acknowledged writes that PostgreSQL has refused.",
        "barriers": "Statements that waited for writes to be applied.",
    }
    for name, text in counts.items():
        counter = CounterMetricFamily(f"penstock_write_back_{name}", text, labels=["database"])
        for one in known:
            counter.add_metric([one.database], getattr(one, name))
        yield counter
    declined = CounterMetricFamily(
        "penstock_write_back_declined",
        "Writes of tables with write-back that went to PostgreSQL directly, by reason.",
        labels=["database", "reason"],
    )
    for one in known:
        for reason, count in one.declined:
            declined.add_metric([one.database, reason], count)
    yield declined


def _client_metrics(counters: Counters) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "penstock_clients", "Client connections open now.", value=counters.clients
    )
    yield _count(
        "penstock_clients_refused",
        "Clients turned away at the limit of connections.",
        counters.clients_refused,
    )
    yield _count("penstock_logins", "Logins that succeeded.", counters.logins)
    yield _tally(
        "penstock_login_failures",
        "Logins that failed, by SQLSTATE.",
        "sqlstate",
        counters.login_failures,
    )
    yield _count("penstock_received_bytes", "Received from clients.", counters.bytes_in)
    yield _count("penstock_sent_bytes", "Sent to clients.", counters.bytes_out)
    yield _count("penstock_cancels", "Cancel requests with a known key.", counters.cancels)


def _pool_metrics(rows: Iterable[PoolRow]) -> Iterator[Metric]:
    labels = ["database", "user", "node"]
    connections = GaugeMetricFamily(
        "penstock_pool_connections", "Server connections, by state.", labels=[*labels, "state"]
    )
    size = GaugeMetricFamily(
        "penstock_pool_size", "Most server connections of a pool.", labels=labels
    )
    waiting = GaugeMetricFamily(
        "penstock_pool_waiting_clients", "Clients that wait for a connection.", labels=labels
    )
    for row in rows:
        pool = [row.database, row.user, row.node]
        connections.add_metric([*pool, "active"], row.active)
        connections.add_metric([*pool, "idle"], row.idle)
        size.add_metric(pool, row.size)
        waiting.add_metric(pool, row.waiting)
    yield from (connections, size, waiting)


def _node_metrics(databases: Iterable[DatabaseTopology]) -> Iterator[Metric]:
    labels = ["database", "node"]
    up = GaugeMetricFamily(
        "penstock_node_up",
        "1 while the server is reachable and is what its role says.",
        labels=[*labels, "role"],
    )
    lag_bytes = GaugeMetricFamily(
        "penstock_replica_lag_bytes", "Written on the primary and not yet replayed.", labels=labels
    )
    lag_seconds = GaugeMetricFamily(
        "penstock_replica_lag_seconds", "Age of the oldest write not yet replayed.", labels=labels
    )
    for topology in databases:
        for node in topology.nodes():
            up.add_metric([topology.database, node.name, node.role.value], float(node.healthy))
            _add_lag(topology.database, node, lag_bytes, lag_seconds)
    yield from (up, lag_bytes, lag_seconds)


def _add_lag(
    database: str, node: Node, in_bytes: GaugeMetricFamily, in_seconds: GaugeMetricFamily
) -> None:
    """An unknown lag is left out rather than shown as a number that means something."""
    if node.lag_bytes is not None:
        in_bytes.add_metric([database, node.name], node.lag_bytes)
    if node.lag_seconds is not None:
        in_seconds.add_metric([database, node.name], node.lag_seconds)


def _count(name: str, documentation: str, value: int) -> Metric:
    return CounterMetricFamily(name, documentation, value=value)


def _tally(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
