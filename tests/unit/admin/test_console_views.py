"""Views of the console: from values to rows, without a socket."""

import pytest

from proxy.admin.console import caching, setup, statistics, traffic
from proxy.admin.console.averages import Averages, Period, Totals, averages, totals
from proxy.admin.console.rows import Columns, Row
from proxy.admin.console.snapshot import (
    ClientCount,
    ClientState,
    DatabaseState,
    Endpoints,
    NodeState,
    PoolState,
    ServerState,
)
from proxy.cache.manager import CacheStats, MemoryUsage
from proxy.cache.statistics import Statistics
from proxy.config.cache_settings import CacheRule, CacheSettings
from proxy.config.load import load
from proxy.config.settings import (
    AuthSettings,
    DatabaseSettings,
    LimitSettings,
    PoolSettings,
    Settings,
    UserSettings,
)
from proxy.topology.counters import Counters
from proxy.topology.node import Role


def as_dicts(columns: Columns, rows: list[Row]) -> list[dict[str, object]]:
    names = [column.name for column in columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def pool(node: str, user: str = "ann", **values: float) -> PoolState:
    numbers = dict.fromkeys(
        ("active", "idle", "connecting", "waiting", "longest_wait", "cancels", "held"), 0.0
    )
    whole = {name: int(value) for name, value in (numbers | values).items()}
    whole.pop("longest_wait")
    return PoolState(
        "app", user, node, "transaction", 20, **whole, longest_wait=values.get("longest_wait", 0.0)
    )


PRIMARY = NodeState("primary", Role.PRIMARY, "10.0.0.1", 5432, "app", True, latency=0.0012)
REPLICA = NodeState(
    "replica1",
    Role.REPLICA,
    "10.0.0.2",
    5433,
    "app",
    False,
    lag_bytes=12,
    lag_seconds=0.5,
    fresh_age=0.25,
    error="not reached",
)
SHARD = NodeState("shard0", Role.SHARD, "10.0.0.3", 5434, "events", True, shard=0, in_use=3)
APP = DatabaseState("app", DatabaseSettings(), PoolSettings(), (PRIMARY, REPLICA, SHARD))


def test_pools_of_all_nodes_come_together_so_that_scrapers_see_each_pair_once() -> None:
    pools = [
        pool("primary", active=2, idle=1, waiting=1, longest_wait=1.25),
        pool("replica1", active=1, idle=3, connecting=1, cancels=2, held=1),
    ]
    counts = {("app", "ann"): ClientCount(9, 1), ("app", "bob"): ClientCount(2, 0)}
    ann, bob = as_dicts(traffic.POOLS, traffic.pool_rows(pools, counts))
    assert (ann["cl_active"], ann["cl_waiting"]) == (8, 1)
    assert (ann["sv_active"], ann["sv_idle"], ann["sv_login"]) == (3, 4, 1)
    assert (ann["sv_active_cancel"], ann["sv_being_canceled"]) == (1, 1)
    assert (ann["maxwait"], ann["maxwait_us"]) == (1, 250_000)
    assert (ann["pool_mode"], ann["nodes"]) == ("transaction", 2)
    assert (bob["cl_active"], bob["sv_active"], bob["pool_mode"]) == (2, 0, None)


def test_bouncers_columns_come_first() -> None:
    first = [column.name for column in traffic.POOLS][:16]
    assert first == [
        "database",
        "user",
        "cl_active",
        "cl_waiting",
        "cl_active_cancel_req",
        "cl_waiting_cancel_req",
        "sv_active",
        "sv_active_cancel",
        "sv_being_canceled",
        "sv_idle",
        "sv_used",
        "sv_tested",
        "sv_login",
        "maxwait",
        "maxwait_us",
        "pool_mode",
    ]
    assert [column.name for column in traffic.LISTS] == ["list", "items"]
    assert [column.name for column in setup.CONFIG] == ["key", "value", "default", "changeable"]


def test_clients_oldest_first_with_what_they_hold() -> None:
    ends = Endpoints("127.0.0.1", 5000, "127.0.0.1", 6432)
    young = ClientState(2, "bob", "app", "waiting", ends, 1_700_000_100.0, waiting=2.5)
    old = ClientState(
        1, "ann", "app", "idle", ends, 1_700_000_000.0, link=16, node="primary", pinned="LISTEN"
    )
    rows = as_dicts(traffic.CLIENTS, traffic.client_rows([young, old]))
    assert [row["user"] for row in rows] == ["ann", "bob"]
    assert rows[0]["connect_time"] == "2023-11-14 22:13:20 UTC"
    assert (rows[0]["link"], rows[0]["node"], rows[0]["pinned"]) == ("0x10", "primary", "LISTEN")
    assert (rows[1]["wait"], rows[1]["wait_us"], rows[1]["link"]) == (2, 500_000, "")


@pytest.mark.parametrize(
    ("active", "cancels", "state"),
    [
        (True, 0, "active"),
        (True, 1, "active_cancel"),
        (False, 1, "being_canceled"),
        (False, 0, "idle"),
    ],
)
def test_states_of_servers(active: bool, cancels: int, state: str) -> None:
    server = ServerState(
        1, "ann", "app", "primary", Role.PRIMARY, active, Endpoints(), 0.0, 42, cancels=cancels
    )
    [row] = as_dicts(traffic.SERVERS, traffic.server_rows([server]))
    assert (row["state"], row["remote_pid"], row["role"]) == (state, 42, "primary")


def test_statistics_are_counted_by_database() -> None:
    counters = Counters(bytes_in=100, bytes_out=200, lends=4, wait_seconds=0.5, unfinished=1)
    counters.gap_seconds = 1.0
    counters.tally("cache", "", "select").add(0.001)
    counters.tally("primary", "primary", "insert").add(0.003)
    counters.tally("replica", "replica1", "select").add(0.002)
    own = {"app": totals(counters, parses=7), "shop": Totals()}
    average = Averages(1.4, 2.2, 2.4, 10.0, 20.0, 0.002, 0.0015, 0.001, 3.0)
    app, shop = as_dicts(
        statistics.STATS,
        statistics.stats_rows(
            own,
            {"app": average},
            {"app": {key: tally.count for key, tally in counters.queries.items()}},
        ),
    )
    assert (app["database"], shop["database"]) == ("app", "shop")
    assert (app["total_query_count"], app["total_query_time"]) == (3, 6000)
    assert (app["total_xact_count"], app["total_xact_time"]) == (2, 1_006_000)
    assert (app["total_received"], app["total_sent"]) == (100, 200)
    assert (app["total_server_assignment_count"], app["total_wait_time"]) == (4, 500_000)
    assert app["total_client_parse_count"] == 7
    assert (app["avg_query_count"], app["avg_query_time"]) == (2, 1500)
    assert (app["avg_recv"], app["avg_sent"], app["avg_wait_time"]) == (10, 20, 1000)
    assert (app["cache_count"], app["primary_count"], app["replica_count"]) == (1, 1, 1)
    assert (shop["total_query_count"], shop["avg_query_count"], shop["cache_count"]) == (0, 0, 0)


def test_totals_are_of_all_databases() -> None:
    both = {"a": Totals(queries=3), "b": Totals(queries=4)}
    rows = {str(row[0]): row[1] for row in statistics.totals_rows(both, Averages())}
    assert (rows["total_query_count"], rows["avg_query_count"]) == (7, 0)


def test_averages_are_of_the_last_whole_period_or_of_all_before_the_first() -> None:
    period = Period(now=100.0)
    half = {"app": Totals(queries=10, query_seconds=1.0, received=500, sent=1000)}
    assert period.averages(105.0, half)["app"].queries == 2.0
    assert period.together(105.0, half).received == 100.0
    period.end(110.0, half)
    assert period.averages(111.0, {"app": Totals(queries=99)})["app"].queries == 1.0
    later = {"app": Totals(queries=30, query_seconds=5.0, received=500, sent=1000)}
    period.end(120.0, later)
    assert period.averages(121.0, {"app": Totals()})["app"] == Averages(
        queries=2.0, query_seconds=0.2
    )
    assert period.together(121.0, {}).queries == 2.0
    assert period.averages(121.0, {"new": Totals(queries=5)})["new"] == Averages()


def test_averages_of_no_time_and_of_no_queries() -> None:
    assert averages(Totals(), Totals(queries=5), 0.0) == Averages()
    assert averages(Totals(), Totals(received=8), 4.0) == Averages(received=2.0)


def test_databases_show_their_primary_and_count_their_nodes() -> None:
    rows = setup.database_rows([APP], {"app": 7}, {"app": 4})
    [row] = as_dicts(setup.DATABASES, rows)
    assert (row["host"], row["port"], row["database"]) == ("10.0.0.1", 5432, "app")
    assert (row["current_connections"], row["current_client_connections"]) == (7, 4)
    assert (row["replicas"], row["shards"], row["healthy"]) == (1, 1, False)


def test_replication_shows_lag_and_why_a_node_is_not_used() -> None:
    primary, replica = as_dicts(setup.REPLICATION, setup.replication_rows([APP]))
    assert (primary["lag_bytes"], primary["latency_ms"], primary["error"]) == (None, 1.2, None)
    assert (replica["lag_bytes"], replica["lag_seconds"], replica["fresh_age"]) == (12, 0.5, 0.25)
    assert (replica["healthy"], replica["error"]) == (False, "not reached")


def test_shards() -> None:
    [shard] = as_dicts(setup.SHARDS, setup.shard_rows([APP]))
    assert (shard["shard"], shard["server_database"], shard["in_use"]) == (0, "events", 3)


def test_users_who_are_not_configured_but_here_are_shown() -> None:
    settings = Settings(
        auth=AuthSettings(
            users=(UserSettings(name="ann"), UserSettings(name="bob")), admins=("bob",)
        )
    )
    rows = as_dicts(
        setup.USERS,
        setup.user_rows(settings, [pool("primary", "zoe", active=1, idle=2)], {"ann": 5}),
    )
    assert [(row["name"], row["admin"]) for row in rows] == [
        ("ann", False),
        ("bob", True),
        ("zoe", False),
    ]
    assert [row["current_connections"] for row in rows] == [0, 0, 3]
    assert [row["current_client_connections"] for row in rows] == [5, 0, 0]


def test_a_users_own_pool_settings_and_limits_are_shown() -> None:
    ann = UserSettings(
        name="ann", max_connections=4, pool=PoolSettings(mode="session", reserve_size=2)
    )
    settings = Settings(
        auth=AuthSettings(users=(ann, UserSettings(name="bob"))),
        limits=LimitSettings(user_connections=9, user_clients=8),
    )
    one, other = as_dicts(setup.USERS, setup.user_rows(settings, [], {}))
    shown = ("pool_size", "reserve_pool_size", "pool_mode", "max_user_connections")
    assert [one[key] for key in shown] == [None, 2, "session", 4]
    assert [other[key] for key in shown] == [None, None, None, 9]
    assert other["max_user_client_connections"] == 8


def test_settings_carry_paths_defaults_and_masks(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("config") / "config.toml"
    file.write_text(
        """
        [cache]
        redis = "redis://:hush1@10.0.0.9:6379"
        [[cache.rule]]
        name = "orders"
        tables = ["orders", "lines"]
        [auth]
        admins = ["ann"]
        [[auth.users]]
        name = "ann"
        password = "hush2"
        server_password = "hush3"
        [database.app.replicas]
        hosts = ["10.0.0.2:5433", "[::1]:5434"]
        [database.app.pool]
        idle_timeout = "5min"
        """
    )
    rows = {
        row[0]: row[1:] for row in setup.config_rows(load(file, {}), lambda key: key == "pool.size")
    }
    assert rows["cache.redis"][0] == setup.MASK
    assert rows["auth.users[0].password"][0] == setup.MASK
    assert rows["auth.users[0].server_password"][0] == setup.MASK
    assert "hush" not in str(rows)
    assert rows["auth.users[0].name"][0] == "ann"
    assert rows["cache.rule[0].tables"] == ('["orders", "lines"]', "[]", "no")
    assert rows["database.app.replicas.hosts"][0] == '["10.0.0.2:5433", "[::1]:5434"]'
    assert rows["database.app.pool.idle_timeout"][0] == "5min"
    assert rows["pool.size"] == ("20", "20", "yes")
    assert rows["default_pool_size"] == ("20", None, "yes")
    assert rows["server.listen"][0] == "127.0.0.1:6432"
    assert rows["admin_users"][0] == "ann"


def test_an_unset_secret_is_not_masked() -> None:
    rows = {row[0]: row[1] for row in setup.config_rows(Settings(), bool)}
    assert rows["cache.redis"] is None


def test_rules_that_forbid_say_so() -> None:
    rules = (CacheRule(name="never", tables=("secrets",), enabled=False),)
    settings = Settings(cache=CacheSettings(rule=rules))
    [row] = as_dicts(setup.ROUTES, setup.route_rows(settings))
    assert (row["kind"], row["action"], row["enabled"]) == ("cache", "never cached", False)


def test_the_cache_of_this_process_beside_all() -> None:
    counted = Statistics()
    counted.hits = 3
    counted.misses["no entry"] = 1
    counted.bypasses["redis is away"] = 2
    counted.rules["orders"].hits = 3
    own = caching.Own(counted, {"redis is away": 1}, {"too large": 4}, True, ["orders", "idle"])
    stats = CacheStats(30, 10, 0.75, {"hits": 30, "misses": 10, "rule:orders:hits": 20})
    shared = caching.Shared(stats, {"app": MemoryUsage(5, 500, 10_000, 0)})
    rows = {row[:3]: row[3:] for row in caching.cache_rows(own, shared)}
    assert rows["redis", None, "state"] == ("up", None)
    assert rows["total", None, "hit_rate"] == ("0.7500", "0.7500")
    assert rows["total", None, "hits"] == ("3", "30")
    assert rows["rule", "orders", "hits"] == ("3", "20")
    assert rows["rule", "idle", "hits"] == ("0", "0")
    assert rows["miss", "no entry", "reads"] == ("1", None)
    assert rows["bypass", "redis is away", "reads"] == ("3", None)
    assert rows["unfilled", "too large", "reads"] == ("4", None)
    assert rows["database", "app", "entries"] == (None, "5")
    assert rows["redis", None, "memory_limit"] == (None, "none")


def test_what_redis_would_know_is_unknown_while_it_is_away() -> None:
    own = caching.Own(Statistics(), {}, {}, False, ["orders"])
    rows = {row[:3]: row[3:] for row in caching.cache_rows(own, caching.Shared(error="refused"))}
    assert rows["redis", None, "state"] == ("away", None)
    assert rows["redis", None, "error"] == (None, "refused")
    assert rows["total", None, "hits"] == ("0", None)
    assert rows["rule", "orders", "hits"] == ("0", None)
