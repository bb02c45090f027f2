"""Guessing passwords is slow, and costs nobody else anything."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.integration.auth.servers import Server, proxy_with
from tests.integration.session.raw import LoginRefused, RawClient, startup
from tests.proxies import Proxy

GUESSER, OTHER = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Penstock that answers three failures at once, and later ones after up to a second."""
    settings = {"throttle_failures": "3", "throttle_delay": "1s"}
    with proxy_with(server, tmp_path_factory.mktemp("proxy"), settings) as proxy:
        yield proxy


async def log_in(proxy: Proxy, address: str, password: str) -> tuple[str, float]:
    """(what the client is told, "" if it is let in; the seconds that took)."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, local_addr=(address, 0))
    client = RawClient(reader, writer)
    own = proxy.database
    client.send(startup({"user": own.user, "database": own.name}))
    told = ""
    try:
        await client.authenticate(password)
    except LoginRefused as refused:
        told = refused.fields["M"]
    await client.leave()
    return told, time.monotonic() - begun


async def test_failures_are_answered_ever_slower(proxy: Proxy) -> None:
    for _ in range(3):
        assert "password authentication failed" in (await log_in(proxy, GUESSER, "wrong"))[0]
    for least in (0.25, 0.5, 1.0, 1.0):
        told, seconds = await log_in(proxy, GUESSER, "wrong")
        assert "password authentication failed" in told
        assert seconds >= least
    right = proxy.database.password
    assert (await log_in(proxy, GUESSER, right))[0] == ""


async def test_many_guesses_at_once(proxy: Proxy) -> None:
    """Few of them are looked at; who comes from elsewhere is let in meanwhile."""
    right = proxy.database.password
    guesses = asyncio.gather(*(log_in(proxy, GUESSER, "wrong") for _ in range(60)))
    told, _ = await log_in(proxy, OTHER, right)
    assert told == ""
    outcomes = [told for told, _ in await guesses]
    looked_at = [told for told in outcomes if "password authentication failed" in told]
    turned_away = [
        told for told in outcomes if told == "too many logins from your address have failed"
    ]
    assert len(looked_at) + len(turned_away) == 60
    assert len(looked_at) < 20
    async with asyncio.timeout(10):
        while (await log_in(proxy, GUESSER, right))[0]:
            pass


async def test_who_leaves_before_the_answer_gains_nothing(proxy: Proxy) -> None:
    for _ in range(3):
        await log_in(proxy, GUESSER, "wrong")
    impatient = [asyncio.ensure_future(log_in(proxy, GUESSER, "wrong")) for _ in range(6)]
    _, pending = await asyncio.wait(impatient, timeout=0.2)
    for one in pending:
        one.cancel()
    told, _ = await log_in(proxy, GUESSER, "wrong")
    assert told == "too many logins from your address have failed"
