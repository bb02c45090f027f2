"""Redis URLs."""

import ssl

import pytest

from proxy.cache.link import parse_endpoint


def test_everything_is_read() -> None:
    endpoint = parse_endpoint("redis://ann:p%40ss@cache.example:6380/3")
    assert (endpoint.host, endpoint.port, endpoint.database) == ("cache.example", 6380, 3)
    assert (endpoint.username, endpoint.password) == ("ann", "p@ss")
    assert (endpoint.tls, endpoint.path) == (None, None)
    assert endpoint.name == "cache.example:6380"


def test_defaults() -> None:
    endpoint = parse_endpoint("redis://cache.example")
    assert (endpoint.port, endpoint.database, endpoint.password) == (6379, 0, None)


def test_a_unix_socket() -> None:
    endpoint = parse_endpoint("unix:///run/redis.sock?db=2")
    assert (endpoint.path, endpoint.database) == ("/run/redis.sock", 2)


def test_tls_verifies_the_server_unless_told_not_to() -> None:
    verified = parse_endpoint("rediss://cache.example").tls
    assert verified is not None
    assert verified.verify_mode is ssl.CERT_REQUIRED
    assert verified.check_hostname
    trusting = parse_endpoint("rediss://cache.example?ssl_cert_reqs=none").tls
    assert trusting is not None
    assert trusting.verify_mode is ssl.CERT_NONE


def test_no_redis_url() -> None:
    with pytest.raises(ValueError, match="redis://"):
        parse_endpoint("http://cache.example")
