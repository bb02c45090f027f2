"""Proxies with write-back, on a Redis of their own that keeps an append-only file."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.databases import Database
from tests.integration.cache.feed.feeds import eventually, feed_command, metric
from tests.integration.cache.servers import OwnRedis
from tests.proxies import Proxy, running_proxy

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
RULE = """
[[cache.rule]]
name = "back"
tables = ["w_*"]
strategy = "write-back"
refresh_within = "5s"
ttl = "300s"
"""
SCHEMA = """
CREATE TABLE w_plain (id int PRIMARY KEY, version int NOT NULL DEFAULT 0, note text);
INSERT INTO w_plain SELECT n, 0, 'old' FROM generate_series(1, 5) n;
CREATE TABLE w_counts (name text, day date, n bigint NOT NULL DEFAULT 0, PRIMARY KEY (name, day));
CREATE TABLE w_events (
    id bigserial PRIMARY KEY, kind varchar(5), at timestamptz, size numeric(6, 2));
CREATE TABLE other (id int PRIMARY KEY, plain int REFERENCES w_plain);
"""


def prepare(database: Database, schema: str = SCHEMA) -> None:
    """Make the tables, and what write-back needs."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(schema.encode())


def set_up(database: Database, directory: Path) -> subprocess.CompletedProcess[str]:
    """`penstock cache write-back setup`."""
    return command(database, directory, "setup", user="postgres")


def command(
    database: Database, directory: Path, what: str, *arguments: str, user: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`penstock cache write-back …` on a configuration like the proxy's."""
    return feed_command(
        database, directory, what, *arguments, user=user, extra=RULE, group="write-back"
    )


def of_redis(server: OwnRedis) -> dict[str, str]:
    """The environment of a proxy that uses it."""
    return {"PENSTOCK_CACHE__REDIS": server.url}


def ready(proxy: Proxy) -> bool:
    """Writes are taken, and the tables are known."""
    return metric(proxy, "penstock_write_back_up") == 1


@contextmanager
def back_proxy(
    database: Database, directory: Path, server: OwnRedis, *, extra: str = "", rule: str = RULE
) -> Iterator[Proxy]:
    """A proxy that takes writes."""
    with running_proxy(
        database, directory, extra=extra + rule, environment=of_redis(server)
    ) as proxy:
        eventually(lambda: ready(proxy), "writes are taken")
        yield proxy


def written(proxy: Proxy) -> float:
    """Writes that were acknowledged before PostgreSQL had them."""
    return metric(proxy, "penstock_write_back_written_total")


def direct(database: Database, sql: str) -> list[tuple[Any, ...]]:
    """What PostgreSQL itself says."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()
