"""What needs more than TCP: channel binding, certificates, the peer of a Unix socket."""

import getpass
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from proxy.auth.userlist import write_entry
from tests.certificates import Authority, Pair, new_authority
from tests.integration.auth.servers import PASSWORD, Server, proxy_with, refusal, who
from tests.proxies import Proxy

HBA = """\
local     all  by_scram                  peer map=system
local     all  by_md5                    peer
local     all  by_plain                  md5
hostssl   all  by_plain     127.0.0.1/32 cert
hostssl   all  other_scram  127.0.0.1/32 cert map=named clientname=DN
hostssl   all  by_md5       127.0.0.1/32 md5 clientcert=verify-ca
hostssl   all  all          127.0.0.1/32 scram-sha-256
hostnossl all  by_scram     127.0.0.1/32 reject
host      all  all          127.0.0.1/32 scram-sha-256
"""
IDENT = f"""\
system  {getpass.getuser()}                       by_scram
named   "/^CN=bob,.*O=Clients(,|$)"  other_scram
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def encrypted_proxy(server: Server, authority: Authority, directory: Path) -> Iterator[Proxy]:
    own = authority.server()
    settings = {
        "method": "hba",
        "auth_hba_file": "pg_hba.conf",
        "auth_ident_file": "pg_ident.conf",
        "auth_file": "userlist.txt",
        "throttle_failures": "0",
    }
    users = ("by_scram", "by_md5", "by_plain", "other_scram")
    files = {
        "pg_hba.conf": HBA,
        "pg_ident.conf": IDENT,
        "userlist.txt": "\n".join(write_entry(user, PASSWORD) for user in users),
    }
    with tempfile.TemporaryDirectory(prefix="penstock-") as sockets:
        environment = {
            "PENSTOCK_CLIENT_TLS__MODE": "prefer",
            "PENSTOCK_CLIENT_TLS__CERT_FILE": str(own.certificate),
            "PENSTOCK_CLIENT_TLS__KEY_FILE": str(own.key),
            "PENSTOCK_CLIENT_TLS__CA_FILE": str(authority.file),
            "PENSTOCK_SERVER__UNIX_SOCKET_DIR": sockets,
        }
        with proxy_with(server, directory, settings, files, environment=environment) as proxy:
            yield proxy


@pytest.fixture(scope="module")
def proxy(
    server: Server, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Penstock with TLS, a Unix socket, and these rules."""
    with encrypted_proxy(server, authority, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


def with_certificate(pair: Pair) -> dict[str, str]:
    return {"sslmode": "require", "sslcert": str(pair.certificate), "sslkey": str(pair.key)}


def socket_directory(proxy: Proxy) -> str:
    (path,) = [str(line["unix"]) for line in proxy.log() if line["event"] == "listening"]
    return str(Path(path).parent)


def test_channel_binding(proxy: Proxy) -> None:
    """libpq insists on it; the password goes through no man in the middle."""
    options = {"sslmode": "require", "channel_binding": "require"}
    assert who(proxy, "by_scram", **options) == "by_scram"
    assert "password authentication failed" in refusal(proxy, "by_scram", "wrong", **options)
    assert who(proxy, "by_scram", sslmode="require", channel_binding="disable") == "by_scram"


def test_no_channel_binding_without_tls(proxy: Proxy) -> None:
    own = proxy.database
    told = refusal(proxy, own.user, own.password, channel_binding="require")
    assert "channel binding required" in told
    assert who(proxy, own.user, own.password, channel_binding="prefer") == own.user


def test_rules_tell_tls_apart(proxy: Proxy) -> None:
    assert "pg_hba.conf rejects connection" in refusal(proxy, "by_scram", sslmode="disable")


def test_a_certificate_names_its_user(proxy: Proxy, authority: Authority) -> None:
    own = with_certificate(authority.client("by_plain", file="by_plain"))
    assert who(proxy, "by_plain", None, **own) == "by_plain"
    other = with_certificate(authority.client("somebody", file="somebody"))
    message = 'certificate authentication failed for user "by_plain"'
    assert message in refusal(proxy, "by_plain", None, **other)
    assert message in refusal(proxy, "by_plain", PASSWORD, sslmode="require")


def test_a_map_of_whole_names(proxy: Proxy, authority: Authority) -> None:
    bob = with_certificate(authority.client("bob", file="bob"))
    assert who(proxy, "other_scram", None, **bob) == "other_scram"
    stranger = with_certificate(authority.client("bob", "Strangers", file="stranger"))
    assert "certificate authentication failed" in refusal(proxy, "other_scram", None, **stranger)


def test_a_certificate_beside_the_password(proxy: Proxy, authority: Authority) -> None:
    anybody = with_certificate(authority.client("anybody", file="anybody"))
    assert who(proxy, "by_md5", **anybody) == "by_md5"
    assert "password authentication failed" in refusal(proxy, "by_md5", "wrong", **anybody)
    assert "certificate authentication failed" in refusal(proxy, "by_md5", sslmode="require")


def test_a_certificate_of_another_authority(proxy: Proxy, tmp_path: Path) -> None:
    foreign = with_certificate(new_authority(tmp_path).client("by_plain"))
    with pytest.raises(psycopg.OperationalError):
        who(proxy, "by_plain", None, **foreign)


def test_the_system_says_who_is_at_the_socket(proxy: Proxy) -> None:
    host = socket_directory(proxy)
    assert who(proxy, "by_scram", None, host=host) == "by_scram"
    assert 'Peer authentication failed for user "by_md5"' in refusal(
        proxy, "by_md5", PASSWORD, host=host
    )
    assert who(proxy, "by_plain", host=host) == "by_plain"
    assert 'no pg_hba.conf entry for host "[local]"' in refusal(proxy, "other_scram", host=host)
