"""Value types: what is read, what is refused, and that what is written reads back the same."""

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.types import (
    HostPort,
    check_redis_url,
    key_bytes,
    parse_duration,
    parse_host_port,
    parse_size,
    write_duration,
    write_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1.5 s", 1.5), ("2min", 120), ("1h", 3600), ("1d", 86400), (7, 7), ("7", 7)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("wrong", ["5 parsecs", "-1s", "s", "", -1, True, [], float("inf"), "1m"])
def test_wrong_durations(wrong: Any) -> None:
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(wrong)


@pytest.mark.parametrize(("text", "size"), [("64kB", 65536), ("1 MB", 1 << 20), (5, 5), ("5", 5)])
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("wrong", ["64KB", "1.5MB", -1, True, "", "B", 1.5])
def test_wrong_sizes(wrong: Any) -> None:
    with pytest.raises(ValueError, match="a size"):
        parse_size(wrong)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h:1", HostPort("h", 1)),
        ("[::1]:6432", HostPort("::1", 6432)),
        ("1.2.3.4:0", HostPort("1.2.3.4", 0)),
    ],
)
def test_addresses(text: str, address: HostPort) -> None:
    assert parse_host_port(text) == address
    assert str(address) == text


@pytest.mark.parametrize("wrong", ["h", ":1", "h:", "h:65536", "::1:5", "h:x", 5, "h :1", "h:١"])
def test_wrong_addresses(wrong: Any) -> None:
    with pytest.raises(ValueError, match="an address"):
        parse_host_port(wrong)


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://u:p@h:1/2", "redis://:p@[::1]:1", "unix:///s", "unix://:p@/s?db=1"],
)
def test_redis_urls(url: str) -> None:
    assert check_redis_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "h:6379",
        "http://h",
        "redis://",
        "redis://h:port",
        "redis://h:99999",
        "unix://",
        "redis://h/x",
    ],
)
def test_wrong_redis_urls(url: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        check_redis_url(url)


@given(st.integers(0, 10**12).map(lambda microseconds: microseconds / 1e6))
def test_a_written_duration_reads_back(seconds: float) -> None:
    text = write_duration(seconds).strip('"')
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-5)


@given(st.integers(0, 1 << 45))
def test_a_written_size_reads_back(size: int) -> None:
    assert parse_size(write_size(size).strip('"')) == size


@pytest.mark.parametrize("text", ["00" * 32, "AA" * 32, b64encode(bytes(range(32))).decode()])
def test_keys(text: str) -> None:
    assert len(key_bytes(text)) == 32


@pytest.mark.parametrize(
    "text", ["", "secret", "0g" * 32, "00" * 31, b64encode(bytes(31)).decode()]
)
def test_wrong_keys(text: str) -> None:
    with pytest.raises(ValueError, match="must be 32 random bytes") as caught:
        key_bytes(text)
    assert not text or text not in str(caught.value)
