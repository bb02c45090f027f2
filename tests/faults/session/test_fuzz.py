"""Whole sessions of damaged messages through a real proxy, while others are served beside them.

Nothing crashes or hangs, nobody gets a byte that is another's, and memory stays bounded.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fuzzing
from tests.databases import Database
from tests.integration.session.raw import SYNC, RawClient, bind, execute, parse, run
from tests.proxies import Proxy, running_proxy
from tests.unit.session.streams import cuts

PATIENCE = 20.0
QUIET = 0.05
"""Seconds without an answer after which the fuzzing client ends its side."""
GROWTH = 48 << 20
EXAMPLES = 60
SESSIONS, LOGINS = fuzzing.sessions(), fuzzing.logins()
PIECES = st.lists(st.integers(0, 1 << 16), max_size=6)


@pytest.fixture(scope="module", params=["transaction", "session", "statement"])
def fuzzed(
    request: pytest.FixtureRequest,
    module_database: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    """A proxy whose clients share few connections."""
    extra = f'[pool]\nmode = "{request.param}"\nsize = 6\n'
    environment = {
        "PENSTOCK_AUTH__THROTTLE_FAILURES": "0",
        "PENSTOCK_SERVER__MAX_MESSAGE_SIZE": "1MB",
    }
    directory = tmp_path_factory.mktemp("fuzzed")
    with running_proxy(module_database, directory, extra=extra, environment=environment) as proxy:
        yield proxy


class Bystander:
    """A client with a secret of its own, which it must find wherever it looks."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.secret = f"secret-{secrets.token_hex(8)}"

    @classmethod
    async def come(cls, proxy: Proxy) -> "Bystander":
        self = cls(await RawClient.login(proxy))
        assert not (await self.client.query(f"SET my.secret = '{self.secret}'")).errors
        assert not (await self.client.ask(parse(f"SELECT '{self.secret}'", "own"), SYNC)).errors
        return self

    async def look(self) -> None:
        """Everything is as it was, and every answer is to what was asked."""
        nonce = secrets.token_hex(4)
        sql = "SELECT current_setting('my.secret') || $1"
        assert (await self.client.ask(run(sql, nonce.encode()), SYNC)).value == self.secret + nonce
        found = await self.client.ask(bind(name="own"), execute(), SYNC)
        assert found.value == self.secret


async def attack(client: RawClient, pieces: list[bytes], vanishes: bool) -> bytes:
    """Send all that, and give what came back until the connection ended, which it must."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            client.writer.write(piece)
            await client.writer.drain()
            await asyncio.sleep(0)
    found = await _until_quiet(client)
    if vanishes:
        client.vanish()
        return found
    with contextlib.suppress(OSError):
        client.writer.write_eof()
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            found += await client.reader.read()
    client.vanish()
    return found


async def _until_quiet(client: RawClient) -> bytes:
    found = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            async with asyncio.timeout(QUIET):
                piece = await client.reader.read(1 << 16)
            if not piece:
                break
            found += piece
    return found


@contextlib.asynccontextmanager
async def bystanders(proxy: Proxy) -> AsyncIterator[list[Bystander]]:
    found = [await Bystander.come(proxy) for _ in range(2)]
    yield found
    for each in found:
        await each.look()
        await each.client.leave()


def _fuzz(proxy: Proxy, scripts: list[list[bytes]], logged_in: bool) -> None:
    with asyncio.Runner() as runner:
        entered = bystanders(proxy)
        others = runner.run(entered.__aenter__())
        before = proxy.memory()

        @settings(
            max_examples=EXAMPLES,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(fuzzing.damaged(scripts), PIECES, st.booleans())
        def one(data: bytes, points: list[int], vanishes: bool) -> None:
            runner.run(_one(proxy, others, logged_in, (list(cuts(data, points)), vanishes)))

        one()
        runner.run(entered.__aexit__(None, None, None))
    assert proxy.process.poll() is None
    assert proxy.memory() - before < GROWTH
    assert not [line for line in proxy.log() if line["level"] in ("error", "critical")]


async def _one(
    proxy: Proxy, others: list[Bystander], logged_in: bool, sent: tuple[list[bytes], bool]
) -> None:
    client = await (RawClient.login(proxy) if logged_in else RawClient.open(proxy))
    async with asyncio.TaskGroup() as group:
        attacking = group.create_task(attack(client, *sent))
        for each in others:
            group.create_task(each.look())
    found = attacking.result()
    for each in others:
        assert each.secret.encode() not in found
        await each.look()


def test_sessions(fuzzed: Proxy) -> None:
    _fuzz(fuzzed, SESSIONS, logged_in=True)


def test_logins(fuzzed: Proxy) -> None:
    _fuzz(fuzzed, LOGINS, logged_in=False)


@pytest.mark.parametrize("script", SESSIONS, ids=lambda script: script[0][5:25].decode("latin-1"))
def test_the_corpus_as_it_is(fuzzed: Proxy, script: list[bytes]) -> None:
    async def go() -> None:
        async with bystanders(fuzzed) as others:
            await _one(fuzzed, others, True, (script, False))

    asyncio.run(go())


def test_what_is_found_is_reported(fuzzed: Proxy) -> None:
    """The look of a bystander fails where its setting is not what it was."""

    async def go() -> None:
        async with bystanders(fuzzed) as (one, two):
            own, one.secret = one.secret, two.secret
            with pytest.raises(AssertionError):
                await one.look()
            one.secret = own

    asyncio.run(go())
