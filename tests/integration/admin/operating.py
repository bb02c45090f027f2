"""Operating a running Penstock: its console at hand, conditions to wait for."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.proxies import Proxy

PATIENCE = 20.0


@contextmanager
def operator(proxy: Proxy) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A connection to the console that stays open."""
    with psycopg.connect(proxy.dsn("penstock"), autocommit=True, row_factory=dict_row) as one:
        yield one


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` gives something true; fail after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE:g} s")


def rows(console: psycopg.Connection[dict[str, Any]], command: str) -> list[dict[str, Any]]:
    return console.execute(command).fetchall()


def state(console: psycopg.Connection[dict[str, Any]]) -> dict[str, str]:
    return {one["key"]: one["value"] for one in rows(console, "SHOW STATE")}


def waiting(console: psycopg.Connection[dict[str, Any]]) -> int:
    """Clients that wait for a server connection."""
    return sum(one["cl_waiting"] for one in rows(console, "SHOW POOLS"))
