"""Asking the admin console, by psycopg and psql."""

import subprocess
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.proxies import Proxy

OTHER_PASSWORD = "the-other-users-own-secret"
SETTINGS = f"""
[[auth.users]]
name = "onlooker"
password = "{OTHER_PASSWORD}"

[[routing.rule]]
name = "balances are current"
tables = ["balances"]
node = "primary"

[[cache.rule]]
name = "orders"
tables = ["orders", "customers"]
ttl = "10min"
"""
COMMANDS = (
    "SHOW ACTIVE_SOCKETS",
    "SHOW CACHE",
    "SHOW CACHE_STATEMENTS",
    "SHOW CLIENTS",
    "SHOW CONFIG",
    "SHOW DATABASES",
    "SHOW DNS_HOSTS",
    "SHOW DNS_ZONES",
    "SHOW HELP",
    "SHOW LISTS",
    "SHOW MEM",
    "SHOW NODE_POOLS",
    "SHOW PEERS",
    "SHOW PEER_POOLS",
    "SHOW POOLS",
    "SHOW PREPARED",
    "SHOW REPLICATION",
    "SHOW ROUTES",
    "SHOW SERVERS",
    "SHOW SHARDS",
    "SHOW SOCKETS",
    "SHOW STATE",
    "SHOW STATS",
    "SHOW STATS_AVERAGES",
    "SHOW STATS_TOTALS",
    "SHOW TOTALS",
    "SHOW USERS",
    "SHOW VERSION",
)


def console(proxy: Proxy, database: str = "penstock") -> psycopg.Connection[dict[str, Any]]:
    return psycopg.connect(proxy.dsn(database), row_factory=dict_row)


def show(proxy: Proxy, command: str) -> list[dict[str, Any]]:
    with console(proxy) as connection:
        return connection.execute(command).fetchall()


def cached(proxy: Proxy) -> dict[tuple[str | None, str | None, str | None], dict[str, Any]]:
    return {(r["scope"], r["name"], r["metric"]): r for r in show(proxy, "SHOW CACHE")}


def hits(proxy: Proxy) -> int:
    return int(cached(proxy)["total", None, "hits"]["this_process"])


def psql(proxy: Proxy, script: str, *arguments: str, database: str = "penstock") -> tuple[str, str]:
    program = proxy.database.stack.psql
    done = subprocess.run(
        [program, "-X", *arguments],
        input=script,
        capture_output=True,
        text=True,
        env=proxy.environment() | {"PGDATABASE": database},
        timeout=30,
        check=False,
    )
    return done.stdout, done.stderr
