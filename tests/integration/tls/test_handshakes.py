"""The way into TLS, byte by byte: modes, what may come before, and what must not."""

import asyncio
import contextlib
import os
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.databases import Database
from tests.integration.session.raw import Gone, LoginRefused, RawClient, client, startup
from tests.integration.tls.encrypted import (
    GSS_REQUEST,
    SSL_REQUEST,
    ask_for_tls,
    encrypting_proxy,
    log_in,
    open_direct,
    open_tls,
    trusting,
)
from tests.proxies import Proxy, running_proxy


@pytest.fixture(scope="module")
def optional(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Proxy]:
    """Penstock that leaves it to clients."""
    directory = tmp_path_factory.mktemp("optional")
    with encrypting_proxy(module_database, directory, "prefer", authority) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def verifying(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Proxy]:
    """Penstock that wants clients' certificates."""
    directory = tmp_path_factory.mktemp("verifying")
    with encrypting_proxy(
        module_database, directory, "verify-full", authority, ca_file=str(authority.file)
    ) as proxy:
        yield proxy


async def works(one: RawClient) -> bool:
    """Whether a query is answered."""
    return (await one.query("SELECT 'answered'")).value == "answered"


def faults(proxy: Proxy) -> list[object]:
    """What went wrong in Penstock itself."""
    log = proxy.log()
    return [line.get("exception", line) for line in log if line["level"] in ("error", "critical")]


# Modes


async def test_what_is_optional_may_be_left(optional: Proxy, authority: Authority) -> None:
    async with client(optional) as plain:
        assert await works(plain)
    one = await log_in(optional, await open_tls(optional, trusting(authority)))
    assert await works(one)
    await one.leave()


async def test_what_is_required_may_not(secure: Proxy) -> None:
    with pytest.raises(LoginRefused) as refused:
        await RawClient.login(secure)
    assert refused.value.fields["C"] == "28000"
    one, answer = await ask_for_tls(secure)
    assert answer == b"S"
    one.vanish()


async def test_a_certificate_that_is_wanted(
    verifying: Proxy, authority: Authority, stranger: Authority
) -> None:
    good = trusting(authority, authority.client("app"))
    for opening in (open_tls, open_direct):
        one = await log_in(verifying, await opening(verifying, good))
        assert await works(one)
        await one.leave()


@pytest.mark.parametrize("shown", ["none", "another authority's"])
async def test_a_certificate_that_will_not_do(
    verifying: Proxy, authority: Authority, stranger: Authority, shown: str
) -> None:
    pair = stranger.client("app") if shown != "none" else None
    context = trusting(authority, pair)
    for opening in (open_tls, open_direct):
        with pytest.raises((Gone, ssl.SSLError, ConnectionError)):
            await log_in(verifying, await opening(verifying, context))


# Direct TLS


async def test_direct_tls(secure: Proxy, authority: Authority) -> None:
    one = await open_direct(secure, trusting(authority))
    transport = one.writer.get_extra_info("ssl_object")
    assert transport.selected_alpn_protocol() == "postgresql"
    assert await works(await log_in(secure, one))
    await one.leave()


@pytest.mark.parametrize("offered", [[], ["http/1.1"]], ids=["no protocol", "another"])
async def test_direct_tls_for_something_else(
    secure: Proxy, authority: Authority, offered: list[str]
) -> None:
    context = ssl.create_default_context(cafile=authority.file)
    if offered:
        context.set_alpn_protocols(offered)
    with pytest.raises((Gone, OSError)):
        await log_in(secure, await open_direct(secure, context))
    one = await open_tls(secure, context)  # by request it is clear what is meant
    assert await works(await log_in(secure, one))
    await one.leave()


# What comes before


async def test_gss_is_declined_and_tls_still_to_be_had(secure: Proxy, authority: Authority) -> None:
    one = await RawClient.open(secure)
    one.send(GSS_REQUEST)
    assert await one.reader.readexactly(1) == b"N"
    one.send(SSL_REQUEST)
    assert await one.reader.readexactly(1) == b"S"
    await one.writer.start_tls(trusting(authority), server_hostname="localhost")
    assert await works(await log_in(secure, one))
    await one.leave()


@pytest.mark.parametrize("request_twice", [SSL_REQUEST, GSS_REQUEST], ids=["TLS", "GSS"])
async def test_encryption_within_encryption(
    secure: Proxy, authority: Authority, request_twice: bytes
) -> None:
    one = await open_tls(secure, trusting(authority))
    one.send(request_twice)
    assert [each.fields["C"] for each in await one.rest()] == ["08P01"]


async def test_asking_again_and_again(module_proxy: Proxy) -> None:
    one = await RawClient.open(module_proxy)
    one.send(SSL_REQUEST)
    assert await one.reader.readexactly(1) == b"N"
    one.send(SSL_REQUEST)
    assert [each.fields["C"] for each in await one.rest()] == ["08P01"]


async def test_bytes_behind_the_request_are_refused(secure: Proxy) -> None:
    """Whoever stands between could have put them there, to be taken for the client's own, which
    are encrypted (CVE-2021-23214)."""
    one = await RawClient.open(secure)
    one.send(SSL_REQUEST, startup({"user": "app", "database": "x"}))
    rest = await one.rest()
    assert [each.fields["C"] for each in rest] == ["08P01"]


async def test_a_plain_start_up_packet_in_place_of_the_handshake(secure: Proxy) -> None:
    one, _ = await ask_for_tls(secure)
    one.send(startup({"user": "app", "database": "x"}))
    assert b"FATAL" not in await one.reader.read()  # an alert at most: nothing in the open
    one.vanish()


GARBAGE = {
    "zeros": bytes(100),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(100),
    "a client hello cut short and wrong": b"\x16\x03\x01\x00\x10\x01\x00\x00\x0c" + b"\xff" * 30,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
}


@pytest.mark.parametrize("direct", [False, True], ids=["asked", "direct"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_for_a_handshake(
    secure: Proxy, authority: Authority, garbage: bytes, direct: bool
) -> None:
    if direct:
        if garbage[0] != 0x16:
            pytest.skip("doesn't look like TLS")
        one = await RawClient.open(secure)
    else:
        one, _ = await ask_for_tls(secure)
    one.send(garbage)
    with contextlib.suppress(OSError):
        async with asyncio.timeout(5):
            await one.reader.read()
    other = await log_in(secure, await open_tls(secure, trusting(authority)))
    assert await works(other)
    await other.leave()
    assert faults(secure) == []


async def test_garbage_within_tls(secure: Proxy, authority: Authority) -> None:
    """Encrypted, but no start-up packet; and a record that nobody encrypted."""
    one = await open_tls(secure, trusting(authority))
    one.send(b"GET / HTTP/1.1\r\n\r\n")
    assert [each.fields["C"] for each in await one.rest()] == ["08P01"]
    one = await log_in(secure, await open_tls(secure, trusting(authority)))
    descriptor = one.writer.get_extra_info("socket").fileno()
    os.write(descriptor, b"\x17\x03\x03\x00\x20" + bytes(32))
    with contextlib.suppress(OSError, Gone):
        assert not await one.rest()


# What never ends


@pytest.fixture
def limited(database: Database, tmp_path: Path, authority: Authority) -> Iterator[Proxy]:
    """Little patience, little room."""
    pair = authority.server()
    environment = {
        "PENSTOCK_SERVER__MAX_OPENING_CONNECTIONS": "50",
        "PENSTOCK_SERVER__LOGIN_TIMEOUT": "1s",
        "PENSTOCK_CLIENT_TLS__MODE": "require",
        "PENSTOCK_CLIENT_TLS__CERT_FILE": str(pair.certificate),
        "PENSTOCK_CLIENT_TLS__KEY_FILE": str(pair.key),
    }
    with running_proxy(database, tmp_path, environment=environment) as proxy:
        yield proxy


async def test_half_a_handshake_is_ended(limited: Proxy) -> None:
    asked, _ = await ask_for_tls(limited)
    begun, _ = await ask_for_tls(limited)
    begun.send(b"\x16\x03\x01\x02\x00\x01")
    direct = await RawClient.open(limited)
    direct.send(b"\x16\x03")
    for one in (asked, begun, direct):
        async with asyncio.timeout(5):
            assert await one.rest() == []


async def test_a_login_that_stops_within_tls_is_ended(limited: Proxy, authority: Authority) -> None:
    one = await open_tls(limited, trusting(authority))
    one.send(startup({"user": limited.database.user, "database": limited.database.name}))
    assert (await one.receive()).kind == "R"
    assert [each.fields["C"] for each in await one.rest()] == ["28000"]


async def test_the_oldest_makes_room(limited: Proxy, authority: Authority) -> None:
    """A thousand that never say who they are don't keep anybody out."""
    silent = [await RawClient.open(limited) for _ in range(200)]
    one = await log_in(limited, await open_tls(limited, trusting(authority)))
    assert await works(one)
    for each in silent[:100]:
        async with asyncio.timeout(0.5):  # well before the login timeout, counted from the last
            assert await each.rest() == []
    for each in silent:
        each.vanish()
    await one.leave()


async def test_a_handshake_that_only_grows(limited: Proxy) -> None:
    """A client hello announced in many records: no more than so much is ever kept."""
    one, _ = await ask_for_tls(limited)
    hello = b"\x01\xff\xff\xff" + bytes(16000)
    record = b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello
    with contextlib.suppress(OSError):
        for _ in range(1000):
            one.writer.write(record)
            await one.writer.drain()
    with contextlib.suppress(OSError):
        assert len(await one.reader.read()) < 100
    one.vanish()
