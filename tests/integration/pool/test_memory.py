"""What connected clients cost in memory. More of them: PENSTOCK_MEMORY_CLIENTS=10000."""

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.databases import Database
from tests.integration.session.raw import SYNC, RawClient, bind, execute, parse, query, startup
from tests.proxies import Proxy, running_proxy

pytestmark = [pytest.mark.serial, pytest.mark.timeout(600)]

COUNT = int(os.environ.get("PENSTOCK_MEMORY_CLIENTS", "2000"))
MOST = 500e6 / 10_000
"""Bytes a client, the process itself included in those of 10,000."""
AT_ONCE = 50


@pytest.fixture
def roomy(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    """Takes all of them, without passwords, as only their memory is of interest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < COUNT + 500:
        pytest.skip(f"{COUNT} clients need more than the {hard} files that this process may open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    environment = {
        "PENSTOCK_SERVER__MAX_CLIENT_CONNECTIONS": str(COUNT + 10),
        "PENSTOCK_AUTH__METHOD": "trust",
    }
    with running_proxy(database, tmp_path, environment=environment) as proxy:
        yield proxy
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connect(proxy: Proxy) -> RawClient:
    """A client that has only logged in."""
    one = await RawClient.open(proxy, limit=1 << 12)
    one.send(startup({"user": proxy.database.user, "database": proxy.database.name}))
    await one.authenticate("")
    return one


async def test_memory_per_client(roomy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    clients = [await connect(roomy)]
    await clients[0].query("SELECT 1")
    before = roomy.memory()

    async def come(_: int) -> None:
        clients.append(await connect(roomy))

    async def ask(number: int) -> None:
        assert (await clients[number].query("SELECT 1")).value == "1"

    async def prepare(number: int) -> None:
        one = clients[number]
        reply = await one.ask(parse("SELECT $1::int", "p"), bind(b"1", name="p"), execute(), SYNC)
        assert reply.value == "1"
        assert (await one.ask(query("SET application_name = 'one'"))).errors == []

    figures: dict[str, float] = {}
    for name, work in (
        ("logged in", come),
        ("have run a query", ask),
        ("have prepared a statement and changed a setting", prepare),
    ):
        await for_all(work)
        figures[name] = (roomy.memory() - before) / COUNT
    with capsys.disabled():
        print(f"\n{COUNT} clients; the process without any: {before / 2**20:.1f} MiB")
        for name, size in figures.items():
            print(f"{name}: {size / 1024:.2f} KiB a client")
    for each in clients:
        each.vanish()
    assert max(figures.values()) < MOST - before / 10_000


async def for_all(work: Callable[[int], Awaitable[None]]) -> None:
    """For each client, some at a time."""
    for first in range(0, COUNT, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, COUNT))
        await asyncio.gather(*(work(number) for number in numbers))
