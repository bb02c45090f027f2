"""Protocol 3.0 and 3.2: what is spoken, and the keys that clients get."""

import struct

import psycopg
import pytest

from tests.integration.session.raw import RawClient, query, startup
from tests.integration.session.test_cancel import cancel
from tests.proxies import Proxy

pytestmark = pytest.mark.usefixtures("module_proxy")


async def log_in(proxy: Proxy, minor: int, **options: str) -> tuple[RawClient, list[bytes]]:
    """A client that asks for 3.`minor`, and what it was told of versions."""
    one = await RawClient.open(proxy)
    own = {"user": proxy.database.user, "database": proxy.database.name, **options}
    one.send(startup(own, version=(3 << 16) + minor))
    told = []
    first = await one.reader.readexactly(1)
    if first == b"v":
        (length,) = struct.unpack(">I", await one.reader.readexactly(4))
        told.append(await one.reader.readexactly(length - 4))
        first = await one.reader.readexactly(1)
    one.reader._buffer[:0] = first  # type: ignore[attr-defined]
    await one.authenticate(proxy.database.password)
    return one, told


def negotiated(minor: int, *options: str) -> bytes:
    names = b"".join(option.encode() + b"\0" for option in options)
    return struct.pack(">II", (3 << 16) + minor, len(options)) + names


@pytest.mark.parametrize(
    ("asked", "options", "told", "key"),
    [
        (0, {}, [], 4),
        (1, {}, [], 4),
        (2, {}, [], 32),
        (3, {}, [negotiated(2)], 32),
        (9999, {}, [negotiated(2)], 32),
        (0, {"_pq_.a": "1", "_pq_.b": ""}, [negotiated(0, "_pq_.a", "_pq_.b")], 4),
        (2, {"_pq_.a": "1"}, [negotiated(2, "_pq_.a")], 32),
        (3, {"_pq_.a": "1"}, [negotiated(2, "_pq_.a")], 32),
    ],
)
async def test_versions(
    module_proxy: Proxy, asked: int, options: dict[str, str], told: list[bytes], key: int
) -> None:
    one, got = await log_in(module_proxy, asked, **options)
    assert got == told
    assert len(one.secret) == key
    assert 0 < one.process_id < 1 << 31
    assert (await one.query("SELECT 1")).value == "1"
    await one.leave()


@pytest.mark.parametrize("minor", [0, 2])
async def test_only_the_whole_key_cancels(module_proxy: Proxy, minor: int) -> None:
    one, _ = await log_in(module_proxy, minor)
    one.send(query("SELECT 'done' FROM pg_sleep(1)"))
    for wrong in (one.secret[:-1], one.secret + b"\0", one.secret[:4] + b"x" * 252):
        await cancel(module_proxy, one.process_id, wrong)
    await cancel(module_proxy, one.process_id ^ 1, one.secret)
    assert (await one.until("Z")).value == "done"
    one.send(query("SELECT pg_sleep(20)"))
    await one.silent(0.2)
    await cancel(module_proxy, one.process_id, one.secret)
    assert (await one.until("Z")).errors == ["57014"]
    await one.leave()


async def test_a_key_longer_than_any(module_proxy: Proxy) -> None:
    one = await RawClient.open(module_proxy)
    one.send(struct.pack(">III", 12 + 257, 80877102, 1) + bytes(257))
    assert [each.fields["C"] for each in await one.rest()] == ["08P01"]


async def test_keys_differ(module_proxy: Proxy) -> None:
    clients = [(await log_in(module_proxy, 2))[0] for _ in range(20)]
    assert len({one.secret for one in clients}) == 20
    assert len({one.process_id for one in clients}) == 20
    for one in clients:
        await one.leave()


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="psycopg's libpq is older than 18")
@pytest.mark.parametrize("newest", ["3.0", "3.2", "latest"])
def test_libpq_18(module_proxy: Proxy, newest: str) -> None:
    dsn = module_proxy.dsn(max_protocol_version=newest)
    with psycopg.connect(dsn, autocommit=True) as connection:
        spoken = connection.info.full_protocol_version
        assert spoken == (30000 if newest == "3.0" else 30002)
        assert connection.execute("SELECT 1").fetchone() == (1,)
