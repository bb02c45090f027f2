"""Proxies whose database has a change feed, and writers around them."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg

from tests.databases import Database
from tests.proxies import Proxy, running_proxy

PATIENCE = 20.0
FEED = "[cache.feed]\nenabled = true\n"
RULE = '[[cache.rule]]\nname = "all"\ntables = ["c_*", "v_*"]\nttl = "300s"\n'

SCHEMA = """
CREATE TABLE c_plain (id int PRIMARY KEY, version int NOT NULL);
INSERT INTO c_plain VALUES (1, 0), (2, 0);
CREATE TABLE c_other (id int PRIMARY KEY, version int NOT NULL);
INSERT INTO c_other VALUES (1, 0), (2, 0);
"""


class NotSo(AssertionError):
    """What was waited for did not come."""


def eventually(reached: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until it is so, for so many seconds at most."""
    deadline = time.monotonic() + patience
    while not reached():
        if time.monotonic() > deadline:
            raise NotSo(f"{what}: not so within {patience:g} s")
        time.sleep(0.01)


def samples(proxy: Proxy, name: str) -> dict[str, float]:
    """The series of a metric by their labels as written; a gap in a scrape is an empty answer."""
    with urlopen(f"{proxy.url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def metric(proxy: Proxy, name: str, label: str = "") -> float:
    """The sum of the series whose labels contain `label`."""
    return sum(value for labels, value in samples(proxy, name).items() if label in labels)


def trusted(proxy: Proxy) -> bool:
    return metric(proxy, "penstock_cache_feed_up") == 1


def consumed(proxy: Proxy) -> bool:
    """The proxy reads the slot itself."""
    return metric(proxy, "penstock_cache_feed_takeovers_total") > 0


def prepare(database: Database, schema: str = SCHEMA) -> None:
    """Make the tables."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(schema.encode())


def feed_command(
    database: Database,
    directory: Path,
    *arguments: str,
    user: str | None = None,
    extra: str = "",
    group: str = "feed",
) -> subprocess.CompletedProcess[str]:
    """`penstock cache feed …` on a configuration like the proxy's."""
    from proxy.local.configuration import render_config

    file = directory / "setup.toml"
    file.write_text(render_config(database.stack, database=database.name, extra=extra))
    environment = dict(os.environ)
    if user is not None:
        arguments = (*arguments, "--user", user)
        environment["PGPASSWORD"] = database.stack.superuser_password
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli.main", "cache", group, *arguments, "-c", str(file)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


@contextmanager
def fed_proxy(
    database: Database,
    directory: Path,
    *,
    extra: str = "",
    rule: str = RULE,
    feed: str = FEED,
    environment: dict[str, str] | None = None,
) -> Iterator[Proxy]:
    """A proxy that trusts its feed."""
    with running_proxy(
        database, directory, extra=feed + extra + rule, environment=environment
    ) as proxy:
        try:
            eventually(lambda: trusted(proxy), "the feed is trusted")
        except NotSo as error:
            raise NotSo(f"{error}\n{proxy.log_file.read_text()[-3000:]}") from None
        yield proxy


class Reader:
    """Reads through a proxy, and knows whether the cache answered."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.connection = psycopg.connect(proxy.dsn(), autocommit=True, prepare_threshold=None)

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql.encode()).fetchall()

    def hits(self) -> float:
        return metric(self.proxy, "penstock_cache_hits_total")

    def _seen(self, sql: str) -> list[tuple[Any, ...]] | None:
        """As `read`; None where a replica hasn't heard of the table yet."""
        try:
            return self.read(sql)
        except psycopg.errors.UndefinedTable:
            return None

    def keep(self, sql: str) -> list[tuple[Any, ...]]:
        """Read until the answer comes from the cache."""
        kept: list[tuple[Any, ...]] = []

        def hit() -> bool:
            before = self.hits()
            kept[:] = self._seen(sql) or []
            return self.hits() > before

        eventually(hit, f"a hit of {sql}")
        return kept

    def sees(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Return once the answer is this; it must be so within the feed's lag, and the entries'
        life is too long to wait for."""
        eventually(lambda: self._seen(sql) == rows, f"{sql} gives {rows}")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


async def later(call: Callable[[], object]) -> None:
    """Run what blocks beside the event loop."""
    await asyncio.to_thread(call)
