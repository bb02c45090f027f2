"""SHOW CACHE and CLEAR, with a real Redis and without one."""

import socket
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import Database
from tests.integration.admin.consoles import (
    cached,
    hits,
    show,
)
from tests.proxies import Proxy, running_proxy


def is_hit(connection: psycopg.Connection[Any], proxy: Proxy, query: str) -> bool:
    """Run the query; whether the cache answered it."""
    before = hits(proxy)
    connection.execute(query)
    return hits(proxy) == before + 1


def read_until_hit(connection: psycopg.Connection[Any], proxy: Proxy, query: str) -> None:
    """What the first read leaves in the cache may come too late for the second."""
    deadline = time.monotonic() + 20
    while not is_hit(connection, proxy, query):
        assert time.monotonic() < deadline, show(proxy, "SHOW CACHE")


def test_the_cache_is_described(console_proxy: Proxy) -> None:
    with psycopg.connect(console_proxy.dsn(), autocommit=True) as connection:
        read_until_hit(connection, console_proxy, "SELECT note FROM customers WHERE id = 3")
        with connection.transaction():
            connection.execute("UPDATE orders SET note = 'm' WHERE id = 1")
            connection.execute("SELECT note FROM orders WHERE id = 1")
    rows = cached(console_proxy)
    assert rows["redis", None, "state"]["this_process"] == "up"
    assert int(rows["rule", "orders", "hits"]["this_process"]) >= 1
    assert 0 < float(rows["total", None, "hit_rate"]["this_process"]) <= 1
    assert int(rows["bypass", "the transaction has written", "reads"]["this_process"]) >= 1
    name = console_proxy.database.name
    assert int(rows["database", name, "entries"]["all_processes"]) >= 1
    assert int(rows["database", name, "bytes"]["all_processes"]) > 0


def test_statements_are_told_apart_by_their_normalised_texts(console_proxy: Proxy) -> None:
    text = "SELECT note AS told FROM customers WHERE id = $1"
    with psycopg.connect(console_proxy.dsn(), autocommit=True) as connection:
        for number in (1, 2):
            read_until_hit(
                connection, console_proxy, f"SELECT note AS told FROM customers WHERE id = {number}"
            )
        with connection.transaction():
            connection.execute("UPDATE customers SET note = 'm' WHERE id = 1")
            connection.execute("SELECT note AS told FROM customers WHERE id = 1")
    statements = show(console_proxy, "SHOW CACHE_STATEMENTS")
    (row,) = [one for one in statements if one["statement"] == text]
    assert (row["database"], row["rule"]) == (console_proxy.database.name, "orders")
    assert row["hits"] >= 2
    assert row["misses"] >= 2
    assert row["fills"] >= 2
    assert row["bypasses"] == 1
    assert 0 < float(row["hit_rate"]) < 1
    assert row["saved_ms"] >= 0
    saved = [one["saved_ms"] for one in statements]
    assert saved == sorted(saved, reverse=True)


@pytest.mark.parametrize("command", ["CLEAR 'orders:*'", "cache clear 'orders:*';"])
def test_clear_makes_the_next_read_go_to_a_server(console_proxy: Proxy, command: str) -> None:
    orders, customers = (f"SELECT count(note) FROM {table}" for table in ("orders", "customers"))
    with psycopg.connect(console_proxy.dsn(), autocommit=True) as connection:
        for query in (orders, customers):
            read_until_hit(connection, console_proxy, query)
        [cleared] = show(console_proxy, command)
        assert cleared["database"] == console_proxy.database.name
        assert cleared["tables_invalidated"] == "orders"
        assert cleared["keys_removed"] >= 1
        assert not is_hit(connection, console_proxy, orders)
        assert is_hit(connection, console_proxy, customers)
        read_until_hit(connection, console_proxy, orders)


def test_clear_takes_a_database_and_refuses_one_that_does_not_exist(console_proxy: Proxy) -> None:
    [cleared] = show(console_proxy, f"CLEAR '*' {console_proxy.database.name}")
    assert cleared["tables_invalidated"] == "all"
    with pytest.raises(psycopg.errors.InvalidCatalogName) as caught:
        show(console_proxy, "CLEAR '*' nowhere")
    assert console_proxy.database.name in (caught.value.diag.message_hint or "")


def test_without_redis_clear_fails_and_show_cache_says_so(
    database: Database, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"redis://:hidden@127.0.0.1:{taken.getsockname()[1]}"
        environment = {"PENSTOCK_CACHE__REDIS": url}
        with running_proxy(database, tmp_path, environment=environment) as proxy:
            with pytest.raises(psycopg.OperationalError, match="not cleared") as caught:
                show(proxy, "CLEAR '*'")
            assert caught.value.sqlstate == "08006"
            assert "SHOW CACHE" in (caught.value.diag.message_hint or "")
            rows = cached(proxy)
            assert rows["redis", None, "state"]["this_process"] == "away"
            assert "hidden" not in str(rows)
            assert rows["redis", None, "error"]["all_processes"]
            assert rows["total", None, "hits"]["all_processes"] is None
