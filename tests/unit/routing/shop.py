"""A made-up shop's catalogue, rules and shards, for the planner's fixtures."""

from proxy.config.cache_settings import CacheRule, CacheSettings
from proxy.config.settings import (
    RoutingRule,
    RoutingSettings,
    ShardedTable,
    ShardingSettings,
    ShardSettings,
)
from proxy.routing.planner import Planner
from proxy.sharding.shardmap import HashShardMap
from proxy.sql.catalogue import Catalogue, View, Volatility

_IMMUTABLE = "count sum min max avg lower upper abs md5 array_agg string_agg generate_subscripts"
_STABLE = (
    "now to_char date_trunc concat age timezone current_setting txid_current pg_backend_pid "
    "inet_server_addr pg_stat_get_numscans table_to_xml version length json_agg"
)
_VOLATILE = (
    "random clock_timestamp gen_random_uuid uuidv7 pg_sleep pg_total_relation_size nextval setval "
    "currval lastval set_config pg_advisory_lock pg_advisory_xact_lock pg_notify lo_create lo_open "
    "pg_is_in_recovery pg_last_wal_replay_lsn query_to_xml setseed pg_current_wal_lsn "
    "pg_advisory_unlock_all"
)
_USER = {
    "discount": Volatility.IMMUTABLE,
    "current_tenant": Volatility.STABLE,
    "charge": Volatility.VOLATILE,
    # Also defined in a schema of the users', so not PostgreSQL's own alone.
    "uuidv4": Volatility.VOLATILE,
    "format": Volatility.STABLE,
}
_BUILTIN = {
    **dict.fromkeys(_IMMUTABLE.split(), Volatility.IMMUTABLE),
    **dict.fromkeys(_STABLE.split(), Volatility.STABLE),
    **dict.fromkeys(_VOLATILE.split(), Volatility.VOLATILE),
}


def _view(reads: str, functions: str = "", cacheable: bool = True) -> View:
    return View(frozenset(reads.split()), frozenset(functions.split()), cacheable)


def _sets(**edges: str) -> dict[str, frozenset[str]]:
    return {name: frozenset(targets.split()) for name, targets in edges.items()}


_TABLES = (
    "users orders order_items products stock audited audit_log events events_2024 events_2025 "
    "secrets tenants remote_prices categories report_daily countries sealed"
)
_SYSTEM = "pg_class pg_stat_activity pg_locks pg_prepared_statements pg_settings tables columns"
_VIEWS = {
    "open_orders": _view("orders users"),
    "big_spenders": _view("open_orders order_items", "sum"),
    "charged": _view("orders", "charge"),
    "numbered": _view("orders", "nextval"),
    "recent": _view("orders", "now"),
    "sampled": _view("orders", cacheable=False),
    "activity": _view("pg_stat_activity", "pg_stat_get_numscans"),
    "all_accounts": _view("accounts"),
    "looped": _view("looped orders"),
}

CATALOGUE = Catalogue(
    functions={**_BUILTIN, **_USER},
    builtin_functions=frozenset(_BUILTIN),
    views=_VIEWS,
    children=_sets(events="events_2024 events_2025"),
    parents=_sets(events_2024="events", events_2025="events"),
    cascades=_sets(users="orders", orders="order_items", products="stock", stock="audited"),
    triggers=frozenset({"audited", "sealed"}),
    row_security=frozenset({"tenants"}),
    foreign=frozenset({"remote_prices"}),
    relations=frozenset(_TABLES.split()),
    system_relations=frozenset(_SYSTEM.split()),
    loaded=True,
)

CACHE = CacheSettings(
    rule=(
        CacheRule(name="no secrets", tables=("secret*",), enabled=False),
        CacheRule(name="no audits", statement="*audit_log*", enabled=False),
        CacheRule(name="shop", tables=("orders", "users", "order_items", "products"), ttl=30),
        CacheRule(name="events", tables=("public.events*",), ttl=10, max_size=1000),
        CacheRule(name="counts", statement="select count(*) from *", ttl=5),
        CacheRule(name="views", tables=("sampled", "activity", "remote_*", "tenants"), ttl=5),
    )
)

ROUTING = RoutingSettings(
    rule=(
        RoutingRule(name="balances", tables=("tenants",), node="primary"),
        RoutingRule(name="reports", tables=("report_*",), node="replica"),
        RoutingRule(name="charging", statement="select charge(?)", node="replica"),
    )
)

SHARDS = HashShardMap(
    ShardingSettings(
        enabled=True,
        shards=(ShardSettings(port=1), ShardSettings(port=2), ShardSettings(port=3)),
        table=(
            ShardedTable(name="accounts", key="id"),
            ShardedTable(name="transfers", key="account_id"),
            ShardedTable(name="sessions", key="token", type="uuid"),
            ShardedTable(name="notes", key="owner", type="text"),
        ),
    )
)

PLANNER = Planner(ROUTING, CACHE, CATALOGUE, SHARDS)

PLANNERS = {
    "default": PLANNER,
    "unloaded": Planner(ROUTING, CACHE, Catalogue(), SHARDS),
    "off": Planner(RoutingSettings(enabled=False), CACHE, CATALOGUE),
    "rules_alone": Planner(
        ROUTING, CacheSettings(rule=CACHE.rules[:4]), CATALOGUE, hints_cache=False
    ),
    "serializable": Planner(
        ROUTING, CACHE, Catalogue(loaded=True, default_isolation="serializable")
    ),
}
"""By the fixture files' names; every other file has the default."""
