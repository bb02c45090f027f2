"""How Penstock gets into Redis: URLs, logins, TLS."""

import os
import ssl
from pathlib import Path

import pytest

from proxy.cache.endpoint import Access, Endpoint
from proxy.config.cache_settings import CacheSettings
from proxy.config.transport import RedisTlsSettings
from proxy.net.contexts import TlsError
from tests.certificates import new_authority


def of_url(url: str, **settings: str) -> Endpoint:
    return Access(CacheSettings.model_validate({"redis": url, **settings})).of_url()


def test_everything_is_read() -> None:
    endpoint = of_url("redis://ann:p%40ss@cache.example:6380/3")
    assert (endpoint.host, endpoint.port, endpoint.database) == ("cache.example", 6380, 3)
    assert (endpoint.username, endpoint.password) == ("ann", "p@ss")
    assert (endpoint.tls, endpoint.path) == (None, None)
    assert endpoint.name == "cache.example:6380"


def test_defaults() -> None:
    endpoint = of_url("redis://cache.example")
    assert (endpoint.port, endpoint.database, endpoint.password) == (6379, 0, None)


def test_a_login_beside_the_url() -> None:
    endpoint = of_url("redis://cache.example", user="ann", password="p")
    assert (endpoint.username, endpoint.password) == ("ann", "p")


def test_a_unix_socket() -> None:
    endpoint = of_url("unix://ann:p@/run/redis.sock?db=2")
    assert (endpoint.path, endpoint.database) == ("/run/redis.sock", 2)
    assert (endpoint.username, endpoint.password) == ("ann", "p")


def test_what_others_tell_of_gets_the_logins_of_its_kind() -> None:
    access = Access(
        CacheSettings.model_validate(
            {
                "sentinels": ["s:1"],
                "sentinel_user": "watcher",
                "sentinel_password": "w",
                "user": "ann",
                "password": "p",
                "db": 4,
            }
        )
    )
    there, sentinel = access.of_redis("h", 1), access.of_sentinel("s", 2)
    assert (there.username, there.password, there.database) == ("ann", "p", 4)
    assert (sentinel.username, sentinel.password, sentinel.database) == ("watcher", "w", 0)


def test_tls_verifies_the_server_unless_told_not_to() -> None:
    verified = of_url("rediss://cache.example").tls
    assert verified is not None
    assert verified.verify_mode is ssl.CERT_REQUIRED
    trusting = CacheSettings(redis="rediss://cache.example", tls=RedisTlsSettings(mode="require"))
    context = Access(trusting).of_url().tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE


def test_changed_files_are_read_for_the_next_connection(tmp_path: Path) -> None:
    authority = new_authority(tmp_path)
    tls = RedisTlsSettings(ca_file=authority.file)
    access = Access(CacheSettings(redis="rediss://cache.example", tls=tls))
    first = access.of_url().tls
    assert access.of_url().tls is first
    new_authority(tmp_path)
    os.utime(authority.file, (1, 1))
    assert access.of_url().tls is not first


def test_unusable_files_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.crt"
    settings = CacheSettings(redis="rediss://cache.example", tls=RedisTlsSettings(ca_file=missing))
    with pytest.raises(TlsError, match=r"cache\.tls\.ca_file"):
        Access(settings)


def test_no_redis_url() -> None:
    with pytest.raises(ValueError, match="redis://"):
        CacheSettings(redis="http://cache.example")
