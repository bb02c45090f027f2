"""Ways into Redis: TLS, ACL users, Unix sockets, databases; and a Redis that is too slow."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from proxy.cache.errors import CacheUnavailable
from proxy.cache.link import LinkState
from proxy.cache.manager import CacheManager
from proxy.config.cache_settings import CacheSettings
from proxy.config.transport import RedisTlsSettings
from tests.certificates import Authority, new_authority
from tests.integration.cache.caches import DATABASE, Cache, eventually
from tests.integration.cache.servers import OwnRedis


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return new_authority(tmp_path)


@pytest.fixture
def tls_redis(start_redis: Callable[..., OwnRedis], authority: Authority) -> OwnRedis:
    """Speaks TLS alone on `port` and wants a client's certificate. That of the wheel is built
    without."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip(
            "there is no redis-server on this system (Debian: apt-get install redis-server)"
        )
    pair = authority.server("127.0.0.1")
    files = ("--tls-cert-file", pair.certificate, "--tls-key-file", pair.key)
    return start_redis(
        *map(str, (*files, "--tls-ca-cert-file", authority.file)), program=program, tls=True
    )


async def test_tls(
    tls_redis: OwnRedis, authority: Authority, start_caches: Callable[..., Cache]
) -> None:
    own = authority.client("penstock")
    tls = RedisTlsSettings(ca_file=authority.file, cert_file=own.certificate, key_file=own.key)
    url = f"rediss://127.0.0.1:{tls_redis.tls_port}/0"
    cache = start_caches(url, tls=tls)
    await cache.up()
    rows = bytes(1 << 20)
    await cache.store(rows)
    assert (await cache.lookup()).payload == rows
    settings = CacheSettings(redis=url, tls=tls)
    manager = await CacheManager.open(settings, DATABASE)
    try:
        await manager.set("greeting", b"hello")
        assert await manager.get("greeting") == b"hello"
    finally:
        await manager.close()


@pytest.mark.parametrize(
    ("host", "tls", "why"),
    [
        ("127.0.0.1", {"ca_file": "system"}, "certificate verify failed"),
        ("localhost", {"ca_file": "ca.crt"}, 'the host is "localhost"'),
        ("127.0.0.1", {"mode": "require"}, "away"),  # without a certificate of its own
    ],
)
async def test_tls_that_does_not_do(
    tls_redis: OwnRedis,
    tmp_path: Path,
    start_caches: Callable[..., Cache],
    host: str,
    tls: dict[str, str],
    why: str,
) -> None:
    if tls.get("ca_file") == "ca.crt":
        tls = {"ca_file": str(tmp_path / "ca.crt")}
    with capture_logs() as logs:
        cache = start_caches(
            f"rediss://{host}:{tls_redis.tls_port}/0", tls=RedisTlsSettings.model_validate(tls)
        )
        await eventually(lambda: cache.service.link.state is LinkState.AWAY)
    assert logs[0]["event"] == "redis is away: reads bypass the cache"
    assert why in str(logs[0])


async def test_an_acl_user(
    start_redis: Callable[..., OwnRedis], start_caches: Callable[..., Cache]
) -> None:
    """The least that it needs."""
    rights = "~penstock:* &penstock:* +@all -@dangerous +info"
    server = start_redis("--user", "penstock", "on", ">secret", *rights.split())
    secret = SecretStr("secret")
    cache = start_caches(server.url, user="penstock", password=secret)
    await cache.up()
    await cache.store(b"rows")
    await cache.move("orders")
    assert (await cache.lookup()).reason == "invalidated"
    wrong = CacheSettings(redis=server.url, user="penstock", password=SecretStr("wrong"))
    manager = await CacheManager.open(wrong, DATABASE)
    with pytest.raises(CacheUnavailable, match="invalid username-password"):
        await manager.get("greeting")
    await manager.close()


async def test_a_unix_socket_and_a_database(
    start_redis: Callable[..., OwnRedis], tmp_path: Path, start_caches: Callable[..., Cache]
) -> None:
    socket = tmp_path / "redis.sock"
    server = start_redis("--unixsocket", str(socket))
    cache = start_caches(f"unix://{socket}?db=5")
    await cache.up()
    await cache.store(b"rows")
    client = server.client()
    assert client.dbsize() == 0
    assert client.info("keyspace")["db5"]["keys"] > 0


async def test_the_breaker(own_redis: OwnRedis, start_caches: Callable[..., Cache]) -> None:
    """Reads don't ask, invalidations go on, and what another process does counts."""
    cache = start_caches(own_redis.url, breaker_timeouts=2, breaker_pause=0.8)
    other = start_caches(own_redis.url)
    await cache.up()
    await other.up()
    await other.store(b"old")
    with capture_logs() as logs:
        for _ in range(2):
            await eventually(lambda: cache.service.link.state is LinkState.UP)
            await asyncio.sleep(0.1)  # in use for longer than the interval between attempts
            own_redis.freeze()
            await eventually(lambda: cache.service.link.state is not LinkState.UP)
            own_redis.thaw()
        await eventually(lambda: cache.service.link.state is LinkState.UP)
        await eventually(lambda: not cache.service.results.apart)
        assert not cache.service.up
        assert (await cache.lookup()).reason == "redis was too slow too often"
        await other.up()
        await other.store(b"old")
        await cache.move("orders")
        assert (await other.lookup()).reason == "invalidated"
        await cache.up()
        await cache.store(b"new")
    events = [log["event"] for log in logs if log.get("seconds") is not None]
    assert events == ["redis was too slow too often: reads bypass the cache for a while"]
