"""Statements prepared by name that are relayed in C alone: each server knows others, each client
has names of its own, and nobody notices."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database
from tests.integration.cache.feed.feeds import eventually
from tests.integration.session.raw import (
    SYNC,
    RawClient,
    bind,
    close,
    describe,
    describe_portal,
    execute,
    parse,
)
from tests.integration.session.test_cancel import cancel
from tests.integration.session.test_fast_path import (
    COMPILED,
    SCHEMA,
    SIZE,
    end_servers,
    fast,
    locked,
    queries,
    serving,
    text_of,
    waiting_for_locks,
)
from tests.proxies import Proxy

TEXTS = (
    "SELECT v FROM f_rows WHERE id = $1::int",
    "SELECT 'b' || v FROM f_rows WHERE id = $1::int",
    "SELECT v || '!' FROM f_rows WHERE id = $1::int",
    "SELECT upper(v) FROM f_rows WHERE id = $1::int",
    "SELECT v FROM f_rows WHERE id = $1::int OFFSET 0",
)
MEANINGS = (
    lambda number: f"v{number}",
    lambda number: f"bv{number}",
    lambda number: f"v{number}!",
    lambda number: f"V{number}",
    lambda number: f"v{number}",
)


@pytest.fixture
def proxy(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    with serving(database, tmp_path) as proxy:
        yield proxy


async def prepare(client: RawClient, name: str, text: str) -> None:
    client.send(parse(text, name), describe(name), SYNC)
    assert (await client.until("Z")).errors == []


def runs(name: str, number: int, describes: bool = True) -> bytes:
    described = describe_portal() if describes else b""
    return bind(str(number).encode(), name=name) + described + execute() + SYNC


async def warm(proxy: Proxy) -> RawClient:
    """A client whose statement "s" goes fast, where that is compiled."""
    client = await RawClient.login(proxy)
    await prepare(client, "s", TEXTS[0])
    before = fast(proxy)
    for number in range(1, 9):
        client.send(runs("s", number))
        assert (await client.until("Z")).value == f"v{number}"
    assert (fast(proxy) > before) == COMPILED
    for number in range(1, 4):
        client.send(runs("s", number))
        assert (await client.until("Z")).value == f"v{number}"
    return client


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[RawClient]:
    client = await warm(proxy)
    yield client
    client.vanish()


async def test_each_client_and_each_server_has_others(proxy: Proxy) -> None:
    """Three times as many clients as servers; the same name is another statement for each."""
    before, all_before = fast(proxy), queries(proxy)

    async def work(place: int) -> None:
        chance = random.Random(place)
        client = await RawClient.login(proxy)
        kinds = chance.sample(range(len(TEXTS)), 3)
        for name, kind in zip("abc", kinds, strict=True):
            await prepare(client, name, TEXTS[kind])
        for step in range(400):
            at, number = chance.randrange(3), chance.randrange(1, 1000)
            if step % 50 == 49:
                assert (await client.query(text_of(number))).value == f"v{number}"
            name = "abc"[at]
            if step % 20 == 7:  # another batch than those before and behind it
                client.send(close(name), parse(TEXTS[kinds[at]], name))
            client.send(runs(name, number, chance.random() < 0.7))
            assert (await client.until("Z")).value == MEANINGS[kinds[at]](number)
        client.vanish()

    await asyncio.gather(*(work(place) for place in range(3 * SIZE)))
    assert queries(proxy) - all_before > 400 * 3 * SIZE
    assert (fast(proxy) - before > 200 * 3 * SIZE) == COMPILED


async def test_another_statement_by_the_same_name(client: RawClient) -> None:
    for kind in (1, 2, 3, 0):
        client.send(close("s"), SYNC)
        await client.until("Z")
        client.send(runs("s", 5))
        assert (await client.until("Z")).errors == ["26000"]
        await prepare(client, "s", TEXTS[kind])
        for number in range(1, 6):
            client.send(runs("s", number))
            assert (await client.until("Z")).value == MEANINGS[kind](number)
    assert (await client.query("DEALLOCATE s")).errors == []
    client.send(runs("s", 5))
    assert (await client.until("Z")).errors == ["26000"]


async def test_the_unnamed_statement_beside(client: RawClient) -> None:
    """It stays what it was while others run by their names."""
    for kind in (1, 2, 3):
        client.send(parse(TEXTS[kind]) + bind(b"7") + describe_portal() + execute() + SYNC)
        assert (await client.until("Z")).value == MEANINGS[kind](7)
        for number in range(1, 6):
            client.send(runs("s", number))
            assert (await client.until("Z")).value == f"v{number}"
        client.send(bind(b"8") + execute() + SYNC)
        reply = await client.until("Z")
        assert (reply.errors, reply.rows) == ([], [(MEANINGS[kind](8),)])
        assert (await client.query(text_of(9))).value == "v9"  # it ends with this
        client.send(runs("s", 3))
        assert (await client.until("Z")).value == "v3"
        client.send(bind(b"8") + execute() + SYNC)
        assert (await client.until("Z")).errors == ["26000"]


async def test_a_pipeline_and_pieces(client: RawClient) -> None:
    for _ in range(5):
        client.send(runs("s", 1) + runs("s", 2))
        client.send(runs("s", 3))
        for number in (1, 2, 3):
            assert (await client.until("Z")).value == f"v{number}"
        whole = runs("s", 4)
        for cut in (1, 5, 8, 20, len(whole) - 1):
            client.send(whole[:cut])
            await asyncio.sleep(0.01)
            client.send(whole[cut:])
            assert (await client.until("Z")).value == "v4"


async def test_errors(client: RawClient) -> None:
    for _ in range(3):
        client.send(bind(b"many", name="s") + execute() + SYNC)
        assert (await client.until("Z")).errors == ["22P02"]
        client.send(runs("none", 1))
        assert (await client.until("Z")).errors == ["26000"]
        client.send(runs("s", 6))
        assert (await client.until("Z")).value == "v6"


async def test_a_large_value(client: RawClient) -> None:
    await prepare(client, "l", "SELECT length($1::text)::text FROM f_rows WHERE id = 1")
    for size in (1, 1000, 8000, 8200, 16_300, 16_400, 100_000):
        for _ in range(3):
            client.send(bind(b"x" * size, name="l") + execute() + SYNC)
            assert (await client.until("Z")).value == str(size)


async def test_a_table_that_changes(proxy: Proxy, client: RawClient) -> None:
    """What the client was told of the statement's result does not hold any more."""
    with psycopg.connect(proxy.dsn(), autocommit=True) as other:
        other.execute("ALTER TABLE f_rows ALTER v TYPE int USING substr(v, 2)::int")
    client.send(runs("s", 5, describes=False))
    assert (await client.until("Z")).errors == ["0A000"]
    await prepare(client, "t", TEXTS[0])
    for number in range(1, 6):
        client.send(runs("t", number))
        assert (await client.until("Z")).value == str(number)


async def test_cancel_and_lost_servers(proxy: Proxy, client: RawClient) -> None:
    for ends in (cancel_it, end_it):
        with locked(proxy.database):
            client.send(runs("s", 1))
            await asyncio.to_thread(
                eventually, lambda: waiting_for_locks(proxy.database) > 0, "it waits"
            )
            await ends(proxy, client)
            assert (await client.until("Z")).errors[0] in ("57014", "57P01", "08006")
        for number in range(1, 6):
            client.send(runs("s", number))
            assert (await client.until("Z")).value == f"v{number}"


async def cancel_it(proxy: Proxy, client: RawClient) -> None:
    await cancel(proxy, client.process_id, client.secret)


async def end_it(proxy: Proxy, _: RawClient) -> None:
    await asyncio.to_thread(end_servers, proxy.database)
