"""What the console tells of clients, servers, pools, nodes, rules and settings."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg

from tests.databases import Database
from tests.integration.admin.consoles import (
    COMMANDS,
    OTHER_PASSWORD,
    psql,
    show,
)
from tests.proxies import Proxy, running_proxy


def test_clients_and_servers_know_each_other(console_proxy: Proxy) -> None:
    with psycopg.connect(console_proxy.dsn(application_name="shop")) as connection:
        row = connection.execute("SELECT pg_backend_pid(), txid_current()").fetchone()
        assert row is not None
        clients = show(console_proxy, "SHOW CLIENTS")
        [client] = [one for one in clients if one["application_name"] == "shop"]
        servers = {one["ptr"]: one for one in show(console_proxy, "SHOW SERVERS")}
        server = servers[client["link"]]
        assert client["port"] == local_port(connection)
        assert (client["user"], client["database"]) == (
            console_proxy.database.user,
            console_proxy.database.name,
        )
        assert client["in_transaction"] is True
        assert client["node"] == server["node"] == "primary"
        assert server["remote_pid"] == client["server_pid"] == row[0]
        assert server["link"] == client["ptr"]
        assert server["state"] == "active"
        [pool] = [
            p
            for p in show(console_proxy, "SHOW POOLS")
            if p["database"] == console_proxy.database.name
        ]
        assert pool["sv_active"] == 1
        assert pool["cl_active"] == 1
        assert pool["cl_waiting"] == 0
    assert [one["database"] for one in clients][-1] == "penstock"  # who asks is there too


def local_port(connection: psycopg.Connection[Any]) -> int:
    with contextlib.closing(socket.socket(fileno=connection.pgconn.socket)) as duplicate:
        port = duplicate.getsockname()[1]
        duplicate.detach()
    return int(port)


def test_a_pinned_client_shows_why(console_proxy: Proxy) -> None:
    with psycopg.connect(
        console_proxy.dsn(application_name="locks"), autocommit=True
    ) as connection:
        connection.execute("SELECT pg_advisory_lock(42)")
        [client] = [
            c for c in show(console_proxy, "SHOW CLIENTS") if c["application_name"] == "locks"
        ]
    assert client["pinned"]
    assert client["in_transaction"] is False
    assert client["link"]


def test_clients_that_wait_for_a_connection(database: Database, tmp_path: Path) -> None:
    with (
        running_proxy(database, tmp_path, extra="[pool]\nsize = 1\n") as proxy,
        psycopg.connect(proxy.dsn()) as holder,
        psycopg.connect(proxy.dsn(), autocommit=True) as waiter,
        ThreadPoolExecutor(1) as thread,
    ):
        holder.execute("SELECT txid_current()")
        answer = thread.submit(waiter.execute, "SELECT txid_current()")
        deadline = time.monotonic() + 20
        while not (pool := show(proxy, "SHOW POOLS")[0])["cl_waiting"]:
            assert time.monotonic() < deadline, pool
        clients = show(proxy, "SHOW CLIENTS")
        node_pools = show(proxy, "SHOW NODE_POOLS")
        holder.rollback()
        assert answer.result(timeout=20).fetchone()
    [waiting] = [one for one in clients if one["state"] == "waiting"]
    assert waiting["wait"] + waiting["wait_us"] > 0
    assert not waiting["link"]
    assert (pool["cl_active"], pool["sv_active"]) == (1, 1)
    [primary] = [one for one in node_pools if one["node"] == "primary"]
    assert (primary["waiting"], primary["pool_size"]) == (1, 1)
    assert primary["maxwait"] > 0


def test_databases_nodes_and_shards(console_proxy: Proxy) -> None:
    stack, name = console_proxy.database.stack, console_proxy.database.name
    [database] = show(console_proxy, "SHOW DATABASES")
    assert (database["name"], database["port"]) == (name, stack.primary.port)
    assert (database["replicas"], database["shards"], database["healthy"]) == (2, 2, True)
    nodes = show(console_proxy, "SHOW REPLICATION")
    assert [(one["node"], one["role"], one["port"]) for one in nodes] == [
        ("primary", "primary", stack.primary.port),
        *(
            (f"replica{number}", "replica", one.port)
            for number, one in enumerate(stack.replicas, 1)
        ),
    ]
    assert all(one["healthy"] and one["error"] is None for one in nodes)
    assert all(one["fresh_age"] > 0 for one in nodes[1:])
    shards = show(console_proxy, "SHOW SHARDS")
    assert [(one["shard"], one["port"]) for one in shards] == [
        (number, one.port) for number, one in enumerate(stack.shards)
    ]
    assert {one["tables"] for one in shards} == {"events (tenant bigint)"}


def test_statistics_count_what_went_through(console_proxy: Proxy) -> None:
    [before] = show(console_proxy, "SHOW STATS")
    with psycopg.connect(console_proxy.dsn(), autocommit=True) as connection:
        for _ in range(5):
            connection.execute("SELECT txid_current()")
    [after] = show(console_proxy, "SHOW STATS")
    assert after["database"] == console_proxy.database.name
    assert after["total_query_count"] - before["total_query_count"] == 5
    assert after["primary_count"] - before["primary_count"] == 5
    assert after["total_query_time"] > before["total_query_time"]
    assert after["total_received"] > before["total_received"]
    assert after["total_sent"] > before["total_sent"]


def test_prepared_statements(console_proxy: Proxy) -> None:
    with psycopg.connect(console_proxy.dsn(), autocommit=True) as connection:
        connection.execute("SELECT id + %s FROM customers", [1], prepare=True)
        found = [one for one in show(console_proxy, "SHOW PREPARED") if "id + $1" in one["query"]]
    [statement] = found
    assert statement["kind"] == "select"
    assert statement["access"] == "read"
    assert statement["servers"] in (1, 2)  # it may be run by another replica than prepared it


def test_rules_in_their_order(console_proxy: Proxy) -> None:
    rules = [
        (r["kind"], r["name"], r["tables"], r["action"]) for r in show(console_proxy, "SHOW ROUTES")
    ]
    assert rules == [
        ("routing", "balances are current", "balances", "primary"),
        ("cache", "orders", "orders, customers", "cached for 10min, up to 1MB"),
    ]


def test_no_secret_is_shown(console_proxy: Proxy) -> None:
    settings = {row["key"]: row for row in show(console_proxy, "SHOW CONFIG")}
    for key in ("auth.users[0].password", "auth.users[1].password", "cache.redis"):
        assert settings[key]["value"] == "********"
    assert settings["auth.users[1].name"]["value"] == "onlooker"
    assert settings["cache.rule[0].ttl"]["value"] == "10min"
    assert settings["max_client_conn"]["value"] == "1000"
    redis = console_proxy.database.stack.redis
    assert redis is not None
    everything = "".join(psql(console_proxy, f"{command};")[0] for command in COMMANDS)
    for secret in (OTHER_PASSWORD, redis.url):
        assert secret not in everything
