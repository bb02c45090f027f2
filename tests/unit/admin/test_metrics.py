"""The collector: from plain counters to the series that a scrape shows."""

from prometheus_client import CollectorRegistry

from proxy.admin.metrics import Observed, PenstockCollector, PoolRow, registry
from proxy.cache.statistics import Statistics
from proxy.topology.counters import BUCKET_BOUNDS, Counters, Histogram
from proxy.topology.node import Address, DatabaseTopology, Node, Role


def scraped(observed: Observed) -> CollectorRegistry:
    metrics = CollectorRegistry()
    metrics.register(PenstockCollector(observed))
    return metrics


def test_queries_are_counted_by_route_node_and_kind() -> None:
    counters = Counters()
    metrics = scraped(Observed(counters))
    counters.tally("replica", "replica1", "select").count += 3
    labels = {"route": "replica", "node": "replica1", "kind": "select"}
    assert metrics.get_sample_value("penstock_queries_total", labels) == 3
    counters.tally("replica", "replica1", "select").add(0.0)
    assert metrics.get_sample_value("penstock_queries_total", labels) == 4


def test_buckets_are_cumulative_and_include_their_bound() -> None:
    counters = Counters()
    for seconds in (0.0005, 0.00051, 0.04, 99.0):
        counters.latency["primary"].observe(seconds)
    metrics = scraped(Observed(counters))

    def bucket(bound: str) -> float | None:
        labels = {"route": "primary", "le": bound}
        return metrics.get_sample_value("penstock_query_duration_seconds_bucket", labels)

    assert [bucket(b) for b in ("0.00025", "0.0005", "0.001", "0.025", "0.05", "30.0", "+Inf")] == [
        0,
        1,
        2,
        2,
        3,
        3,
        4,
    ]
    name = "penstock_query_duration_seconds"
    assert metrics.get_sample_value(f"{name}_count", {"route": "primary"}) == 4
    total = metrics.get_sample_value(f"{name}_sum", {"route": "primary"})
    assert total is not None
    assert abs(total - 99.04101) < 1e-9


def test_the_histogram_has_one_bucket_more_than_bounds() -> None:
    histogram = Histogram()
    for bound in BUCKET_BOUNDS:
        histogram.observe(bound)
    histogram.observe(BUCKET_BOUNDS[-1] * 2)
    assert histogram.counts == [1] * (len(BUCKET_BOUNDS) + 1)


def test_bypasses_of_the_session_and_of_the_cache_add_up() -> None:
    counters, cache = Counters(), Statistics()
    counters.cache_bypasses["transaction has written"] = 2
    counters.cache_bypasses["redis is away"] = 1
    cache.bypasses["redis is away"] = 3
    cache.hits = 7
    cache.rules["catalogue"].hits = 5
    cache.rules["catalogue"].reads, cache.rules["catalogue"].read_seconds = 2, 0.3
    metrics = scraped(Observed(counters, cache=cache, cache_up=lambda: False))
    name = "penstock_cache_bypasses_total"
    assert metrics.get_sample_value(name, {"reason": "redis is away"}) == 4
    assert metrics.get_sample_value(name, {"reason": "transaction has written"}) == 2
    assert metrics.get_sample_value("penstock_cache_hits_total") == 7
    rule = {"rule": "catalogue"}
    assert metrics.get_sample_value("penstock_cache_rule_hits_total", rule) == 5
    assert metrics.get_sample_value("penstock_cache_rule_saved_seconds", rule) == 0.75
    assert metrics.get_sample_value("penstock_cache_up") == 0


def test_pools_are_read_at_every_scrape() -> None:
    rows = [PoolRow("app", "ann", "primary", active=2, idle=1, waiting=0, size=20)]
    metrics = scraped(Observed(Counters(), pools=lambda: rows))
    labels = {"database": "app", "user": "ann", "node": "primary"}
    active = {**labels, "state": "active"}
    assert metrics.get_sample_value("penstock_pool_connections", active) == 2
    assert metrics.get_sample_value("penstock_pool_size", labels) == 20
    rows[0] = PoolRow("app", "ann", "primary", active=20, idle=0, waiting=4, size=20)
    assert metrics.get_sample_value("penstock_pool_connections", active) == 20
    assert metrics.get_sample_value("penstock_pool_waiting_clients", labels) == 4


def test_an_unknown_lag_has_no_series() -> None:
    primary = Node("primary", Role.PRIMARY, Address("h", 1, "app"))
    known = Node("replica1", Role.REPLICA, Address("h", 2, "app"), lag_bytes=10, lag_seconds=0.5)
    unknown = Node("replica2", Role.REPLICA, Address("h", 3, "app"), healthy=False)
    topology = DatabaseTopology("app", primary, [known, unknown])
    metrics = scraped(Observed(Counters(), databases=[topology]))

    def lag(kind: str, node: str) -> float | None:
        labels = {"database": "app", "node": node}
        return metrics.get_sample_value(f"penstock_replica_lag_{kind}", labels)

    assert (lag("bytes", "replica1"), lag("seconds", "replica1")) == (10, 0.5)
    assert (lag("bytes", "replica2"), lag("bytes", "primary")) == (None, None)
    up = {"database": "app", "node": "replica2", "role": "replica"}
    assert metrics.get_sample_value("penstock_node_up", up) == 0


def test_no_two_families_share_a_name() -> None:
    """Nor with those of the process: a registry would show one of them twice."""
    observed = Observed(Counters(), cache=Statistics(), cache_up=lambda: True)
    names = [family.name for family in registry(observed).collect()]
    assert len(names) == len(set(names))
    assert all(n.startswith(("penstock_", "process_", "python_")) for n in names)
