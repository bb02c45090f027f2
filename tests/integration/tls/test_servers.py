"""TLS between Penstock and real servers, on the data path and on its own connections."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.local.stack import Stack
from tests.certificates import Authority, Pair
from tests.databases import Database, fresh_database, superuser_connection
from tests.integration.tls.servers import certify, configure, hba, missing, tls_stack
from tests.proxies import Proxy, running_proxy

REASON = missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

OWN = """
SELECT split_part(application_name, ' ', 2), ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
WHERE (application_name = '' OR application_name LIKE 'penstock %%') AND datname = %s
"""
PATIENCE = 20.0


@pytest.fixture(scope="module")
def servers(authority: Authority) -> Iterator[Stack]:
    """A primary and a standby with TLS."""
    with tls_stack(authority) as stack:
        yield stack


@pytest.fixture(scope="module")
def shop(servers: Stack) -> Iterator[Database]:
    """A database on them."""
    with fresh_database(servers, "shop") as database:
        yield database


def server_tls(mode: str, ca: Authority | None = None, pair: Pair | None = None) -> str:
    """The section's contents."""
    lines = [f'mode = "{mode}"']
    if ca is not None:
        lines.append(f'ca_file = "{ca.file}"')
    if pair is not None:
        lines += [f'cert_file = "{pair.certificate}"', f'key_file = "{pair.key}"']
    return "\n".join(lines) + "\n"


def connect(proxy: Proxy) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(proxy.dsn(), autocommit=True)


def encrypted(proxy: Proxy, node: str = "primary") -> bool:
    """Whether the server's connection that a query goes over is."""
    with connect(proxy) as connection:
        row = connection.execute(
            f"/* penstock: {node} */ SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return bool(row[0])


def own_connections(database: Database) -> dict[str, bool]:
    """Penstock's own on the primary: by purpose, whether each is encrypted."""
    with superuser_connection(database.stack.primary) as connection:
        return dict(connection.execute(OWN, [database.name]).fetchall())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("disable", False),
        ("allow", False),
        ("prefer", True),
        ("require", True),
        ("verify-ca", True),
        ("verify-full", True),
    ],
)
def test_modes(
    shop: Database, tmp_path: Path, authority: Authority, mode: str, expected: bool
) -> None:
    ca = authority if mode.startswith("verify") else None
    with running_proxy(shop, tmp_path, extra="[server_tls]\n" + server_tls(mode, ca)) as proxy:
        assert encrypted(proxy) is expected
        deadline = time.monotonic() + PATIENCE
        while not {"monitor", "catalogue"} <= (own := own_connections(shop)).keys():
            assert time.monotonic() < deadline, own
            time.sleep(0.02)
        assert set(own.values()) == {expected}


def refusal(proxy: Proxy) -> str:
    """What a client is told for whom there is no primary."""
    with pytest.raises(psycopg.OperationalError) as refused, connect(proxy) as connection:
        connection.execute("/* penstock: primary */ SELECT 1")
    return str(refused.value)


def test_an_authority_that_is_not_the_servers(
    shop: Database, tmp_path: Path, stranger: Authority
) -> None:
    extra = "[server_tls]\n" + server_tls("verify-ca", stranger)
    with running_proxy(shop, tmp_path, extra=extra) as proxy:
        assert "certificate is not accepted" in refusal(proxy)
        assert not own_connections(shop)


def test_a_certificate_for_another_host(
    shop: Database, servers: Stack, tmp_path: Path, authority: Authority
) -> None:
    certify(servers.primary, authority.server("db.example", file="other"), authority)
    try:
        extra = "[server_tls]\n" + server_tls("verify-full", authority)
        with running_proxy(shop, tmp_path, extra=extra) as proxy:
            told = refusal(proxy)
            assert "db.example" in told
            assert "127.0.0.1" in told
            assert not own_connections(shop)
        extra = "[server_tls]\n" + server_tls("verify-ca", authority)
        with running_proxy(shop, tmp_path, extra=extra) as proxy:
            assert encrypted(proxy)
    finally:
        certify(servers.primary, authority.server(file="primary"), authority)


def test_a_server_without_tls(database: Database, tmp_path: Path) -> None:
    """The bundled PostgreSQL is built without."""
    with running_proxy(database, tmp_path, extra='[server_tls]\nmode = "require"\n') as proxy:
        assert "does not do TLS" in refusal(proxy)
    with running_proxy(database, tmp_path, extra='[server_tls]\nmode = "prefer"\n') as proxy:
        assert connect(proxy).execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("mode", "kind", "expected"), [("allow", "hostssl", True), ("prefer", "hostnossl", False)]
)
def test_what_pg_hba_leaves_over(
    shop: Database, servers: Stack, tmp_path: Path, mode: str, kind: str, expected: bool
) -> None:
    """The first attempt is refused, the second is not; on both kinds of connections."""
    with hba(servers.primary, kind):
        extra = f'[server_tls]\nmode = "{mode}"\n'
        with running_proxy(shop, tmp_path, extra=extra) as proxy:
            assert encrypted(proxy) is expected
            assert expected in own_connections(shop).values()


def test_a_client_certificate(
    shop: Database, servers: Stack, tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    with hba(servers.primary, "cert"):
        pair = authority.client("penstock")
        extra = "[server_tls]\n" + server_tls("verify-full", authority, pair)
        with running_proxy(shop, tmp_path, extra=extra) as proxy:
            assert encrypted(proxy)
        extra = "[server_tls]\n" + server_tls("verify-full", authority)
        with running_proxy(shop, tmp_path, extra=extra) as proxy:
            assert "certificate" in refusal(proxy)


def test_nodes_that_differ(shop: Database, tmp_path: Path, authority: Authority) -> None:
    extra = (
        f"[database.shop.tls]\n{server_tls('verify-full', authority)}"
        f"[database.shop.node_tls.replica1]\n{server_tls('disable')}"
    )
    with running_proxy(shop, tmp_path, extra=extra) as proxy:
        assert encrypted(proxy, "primary")
        deadline = time.monotonic() + PATIENCE
        with superuser_connection(shop.stack.replicas[0]) as replica:
            while set(replica.execute(OWN, [shop.name]).fetchall()) != {
                ("", False),
                ("monitor", False),
            }:
                connect(proxy).execute("/* penstock: replica */ SELECT 1")
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_cancel(shop: Database, tmp_path: Path, authority: Authority) -> None:
    extra = "[server_tls]\n" + server_tls("verify-full", authority)
    with running_proxy(shop, tmp_path, extra=extra) as proxy, connect(proxy) as connection:
        canceling = threading.Timer(0.3, connection.cancel)
        canceling.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(20)")
        canceling.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_another_authority_while_running(
    shop: Database, servers: Stack, tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    """The server gets a certificate of another authority, and Penstock's file is exchanged."""
    file = tmp_path / "trusted.crt"
    file.write_bytes(authority.file.read_bytes())
    extra = f'[server_tls]\nmode = "verify-full"\nca_file = "{file}"\n[pool]\nmax_lifetime = "1s"\n'
    with running_proxy(shop, tmp_path, extra=extra) as proxy:
        assert encrypted(proxy)
        certify(servers.primary, stranger.server(file="other"), authority)
        try:
            fresh = tmp_path / "fresh.crt"
            fresh.write_bytes(stranger.file.read_bytes())
            fresh.replace(file)
            deadline = time.monotonic() + PATIENCE
            while not any(line["event"] == "TLS files were read again" for line in proxy.log()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            old = pids(shop)
            while pids(shop) & old:  # the old ones grow too old, new ones are made
                with connect(proxy) as connection:
                    connection.execute("SELECT 1")
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert encrypted(proxy)
        finally:
            certify(servers.primary, authority.server(file="primary"), authority)


def pids(database: Database) -> set[int]:
    """The server's processes on the data path."""
    with superuser_connection(database.stack.primary) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = '' AND datname = %s",
            [database.name],
        ).fetchall()
    return {row[0] for row in found}


def test_tls_1_3_alone(shop: Database, servers: Stack, tmp_path: Path) -> None:
    configure(servers.primary, ssl_max_protocol_version="TLSv1.2")
    try:
        extra = '[server_tls]\nmode = "require"\nprotocols = ["tlsv1.3"]\n'
        with running_proxy(shop, tmp_path, extra=extra) as proxy:
            assert "TLS with 127.0.0.1 failed" in refusal(proxy)
    finally:
        configure(servers.primary, ssl_max_protocol_version="")
