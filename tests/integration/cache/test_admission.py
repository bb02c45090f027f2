"""A statement of which hardly any result is asked for again costs no look-ups, and is right."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.topology.statement_tallies import SELDOM
from tests.databases import Database
from tests.integration.cache.feed.feeds import metric
from tests.integration.session.raw import (
    SYNC,
    RawClient,
    bind,
    describe,
    describe_portal,
    execute,
    parse,
    query,
)
from tests.nursery import TREE
from tests.proxies import Proxy, running_proxy

COMPILED = TREE in os.environ
SIZE = 20_000
RULE = """
[[cache.rule]]
name = "all"
tables = ["a_rows"]
ttl = "300s"
{}
[routing]
enabled = false
"""


@pytest.fixture
def filled(database: Database) -> Database:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE a_rows (id int PRIMARY KEY, v text);"
            f"INSERT INTO a_rows SELECT n, 'v' || n FROM generate_series(1, {SIZE}) n"
        )
    return database


@pytest.fixture
def proxy(filled: Database, tmp_path: Path) -> Iterator[Proxy]:
    with running_proxy(filled, tmp_path, extra=RULE.format("")) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[RawClient]:
    client = await RawClient.login(proxy)
    yield client
    client.vanish()


def simple(number: int) -> bytes:
    return query(f"SELECT v FROM a_rows WHERE id = {number}")


def named(number: int) -> bytes:
    return bind(str(number).encode(), name="s") + describe_portal() + execute() + SYNC


async def read(client: RawClient, numbers: range, form: object = simple) -> None:
    assert callable(form)
    for number in numbers:
        client.send(form(number))
        assert (await client.until("Z")).value == f"v{number}"


def seen(proxy: Proxy) -> dict[str, float]:
    return {
        "hits": metric(proxy, "penstock_cache_hits_total"),
        "misses": metric(proxy, "penstock_cache_misses_total"),
        "passed": metric(proxy, "penstock_cache_bypasses_total", SELDOM),
        "fast": metric(proxy, "penstock_fast_path_queries_total"),
    }


def since(proxy: Proxy, before: dict[str, float]) -> dict[str, float]:
    now = seen(proxy)
    return {name: now[name] - before[name] for name in now}


@pytest.mark.parametrize("form", [simple, named])
async def test_scans_pass_by(proxy: Proxy, client: RawClient, form: object) -> None:
    await client.ask(parse("SELECT v FROM a_rows WHERE id = $1::int", "s"), describe("s"), SYNC)
    await read(client, range(1, 2101), form)
    before = seen(proxy)
    assert before["misses"] >= 2000
    await read(client, range(3001, 4001), form)
    found = since(proxy, before)
    assert (found["misses"], found["hits"], found["passed"]) == (0, 0, 1000)
    assert (found["fast"] > 900) == COMPILED
    before = seen(proxy)
    for _ in range(3):
        await read(client, range(3001, 3101), form)
    found = since(proxy, before)  # kept by the second request, found by the third
    assert found["misses"] >= 95
    assert found["hits"] >= 190
    before = seen(proxy)
    await read(client, range(4001, 4101), form)
    with psycopg.connect(proxy.dsn(), autocommit=True) as writer:
        for number in (3001, 4001, 4002):
            writer.execute(f"UPDATE a_rows SET v = 'w{number}' WHERE id = {number}".encode())
            for _ in range(3):
                assert callable(form)
                client.send(form(number))
                assert (await client.until("Z")).value == f"w{number}"


async def test_what_is_asked_for_again_is_kept_again(proxy: Proxy, client: RawClient) -> None:
    await read(client, range(1, 2101))
    for _ in range(10):
        await read(client, range(5001, 6001))
    before = seen(proxy)
    await read(client, range(5001, 6001))
    assert since(proxy, before)["hits"] > 950
    await read(client, range(7001, 7011))  # which is weighed with all that was found meanwhile
    before = seen(proxy)
    for _ in range(2):
        await read(client, range(8001, 8101))
    found = since(proxy, before)
    assert (found["hits"], found["passed"]) == (100, 0)  # each is kept by its first request


async def test_where_a_rule_says_always(filled: Database, tmp_path: Path) -> None:
    extra = RULE.format('admission = "always"')
    with running_proxy(filled, tmp_path, extra=extra) as proxy:
        client = await RawClient.login(proxy)
        await read(client, range(1, 2501))
        before = seen(proxy)
        await read(client, range(2301, 2501))
        assert since(proxy, before)["hits"] == 200
        client.vanish()
