"""Certificates that are exchanged while Penstock runs."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.config.load import load
from proxy.net.contexts import TlsError
from proxy.server.security import Security
from tests.certificates import Authority, Pair
from tests.databases import Database
from tests.integration.tls.encrypted import client_tls, log_in, open_tls, trusting
from tests.proxies import Proxy, running_proxy

PATIENCE = 20.0


@pytest.fixture
def pair(tmp_path: Path, authority: Authority) -> Pair:
    """Files of the test's own."""
    issued = authority.server(file="exchanged")
    own = Pair(tmp_path / "server.crt", tmp_path / "server.key")
    exchange(own, issued)
    return own


@pytest.fixture
def proxy(database: Database, tmp_path: Path, pair: Pair) -> Iterator[Proxy]:
    with running_proxy(database, tmp_path, extra=client_tls("require", pair)) as proxy:
        yield proxy


def exchange(own: Pair, other: Pair) -> None:
    """As a renewal does it: each file replaced in one step."""
    for old, new in ((own.certificate, other.certificate), (own.key, other.key)):
        fresh = old.with_suffix(".fresh")
        fresh.write_bytes(new.read_bytes())
        fresh.replace(old)


def logged(proxy: Proxy, event: str) -> list[dict[str, object]]:
    return [line for line in proxy.log() if line["event"] == event]


def await_logged(proxy: Proxy, event: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not logged(proxy, event):
        assert time.monotonic() < deadline, proxy.log()
        time.sleep(0.05)


async def certificate(proxy: Proxy, authority: Authority) -> bytes | None:
    """What a new connection is shown."""
    one = await open_tls(proxy, trusting(authority))
    shown: bytes | None = one.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    one.vanish()
    return shown


async def test_a_renewed_certificate(
    proxy: Proxy, pair: Pair, authority: Authority, stranger: Authority
) -> None:
    """Also of another authority; whoever is connected notices nothing."""
    old = await log_in(proxy, await open_tls(proxy, trusting(authority)))
    assert await certificate(proxy, authority) == pair.der
    exchange(pair, stranger.server(file="renewed"))
    await asyncio.to_thread(await_logged, proxy, "TLS files were read again")
    assert await certificate(proxy, stranger) == pair.der
    with pytest.raises(ssl.SSLCertVerificationError):
        await certificate(proxy, authority)
    assert (await old.query("SELECT 'still here'")).value == "still here"
    await old.leave()


async def test_files_that_will_not_do_leave_the_old_in_use(
    proxy: Proxy, pair: Pair, authority: Authority
) -> None:
    before = pair.der
    pair.key.write_text("no key")
    await asyncio.to_thread(
        await_logged, proxy, "changed TLS files can't be used, the old ones stay"
    )
    assert await certificate(proxy, authority) == before
    exchange(pair, authority.server(file="renewed"))
    await asyncio.to_thread(await_logged, proxy, "TLS files were read again")
    assert await certificate(proxy, authority) == pair.der != before
    complaints = logged(proxy, "changed TLS files can't be used, the old ones stay")
    assert len({str(line["error"]) for line in complaints}) == len(complaints) <= 2


# RELOAD


def console(proxy: Proxy) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        proxy.dsn("penstock"), sslmode="require", autocommit=True, prepare_threshold=None
    )


def plain_is_refused(proxy: Proxy) -> bool:
    try:
        psycopg.connect(proxy.dsn(), sslmode="disable").close()
    except psycopg.OperationalError:
        return True
    return False


async def test_reload_at_the_console(proxy: Proxy, pair: Pair, authority: Authority) -> None:
    """Files that can't be used refuse the whole; then other settings, and other files."""
    before = pair.der
    with console(proxy) as admin:
        text = proxy.config_file.read_text()
        proxy.config_file.write_text(text.replace('mode = "require"', 'mode = "prefer"'))
        pair.key.write_text("no key")
        with pytest.raises(psycopg.Error, match=r"client_tls\.cert_file and key_file"):
            admin.execute("RELOAD")
        assert plain_is_refused(proxy)
        assert await certificate(proxy, authority) == before
        exchange(pair, authority.server(file="renewed"))
        admin.execute("RELOAD")
    assert not plain_is_refused(proxy)
    assert await certificate(proxy, authority) == pair.der != before


def shown_by(security: Security, authority: Authority) -> bytes | None:
    """The certificate of the clients' context, by a handshake over a pair of sockets."""
    context = security.clients.context
    assert context is not None
    client = trusting(authority)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(incoming, outgoing, server_side=True)
    theirs = client.wrap_bio(outgoing, incoming, server_hostname="localhost")
    for _ in range(4):
        for end in (theirs, ours):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs.getpeercert(binary_form=True)


def write_config(directory: Path, mode: str, pair: Pair, servers: str = "prefer") -> Path:
    file = directory / "penstock.toml"
    file.write_text(
        client_tls(mode, pair)
        + f'[server_tls]\nmode = "{servers}"\n[auth]\nmethod = "trust"\n'
        + '[[auth.users]]\nname = "app"\n[database.shop.primary]\nport = 1\n'
    )
    return file


def test_reload(tmp_path: Path, pair: Pair, authority: Authority) -> None:
    security = Security(load(write_config(tmp_path, "prefer", pair), {}))
    dialing = security.dialing("shop")("127.0.0.1", 1, "shop")
    assert (security.clients.required, dialing.tls.mode) == (False, "prefer")
    first = shown_by(security, authority)
    exchange(pair, authority.server(file="renewed"))
    security.prepare()()
    assert shown_by(security, authority) == pair.der != first
    security.prepare(load(write_config(tmp_path, "require", pair, "require"), {}))()
    assert (security.clients.required, dialing.tls.mode) == (True, "require")


def test_a_reload_that_fails_changes_nothing(
    tmp_path: Path, pair: Pair, authority: Authority
) -> None:
    security = Security(load(write_config(tmp_path, "prefer", pair), {}))
    dialing = security.dialing("shop")("127.0.0.1", 1, "shop")
    first = shown_by(security, authority)
    pair.certificate.unlink()
    with pytest.raises(TlsError, match=r"client_tls\.cert_file: .*can't be read"):
        security.prepare(load(write_config(tmp_path, "require", pair, "require"), {}))
    assert (security.clients.required, dialing.tls.mode) == (False, "prefer")
    assert shown_by(security, authority) == first
