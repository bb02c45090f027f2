"""HBA rules before real clients."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.auth.servers import Server, proxy_with, refusal, who
from tests.proxies import Proxy

HBA = """\
# type   database   user          address        method
hostssl  all        all           all            trust
host     all        by_md5        127.0.0.1/32   reject
host     nowhere    all           samehost       trust
host     all        @trusted      127.0.0.0/8    trust
host     "penstock" app           all            md5
host     /^auth_    /^by_s|^app$  127.0.0.1 255.255.255.255  scram-sha-256
"""


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Penstock with these rules."""
    settings = {
        "method": "hba",
        "auth_hba_file": "pg_hba.conf",
        "users__1__name": "by_scram",
        "users__1__password": "correct horse",
        "users__2__name": "by_plain",
        "users__2__server_password": "correct horse",
        "throttle_failures": "0",
    }
    files = {"pg_hba.conf": HBA, "trusted": "by_plain # and nobody else\n"}
    with proxy_with(server, tmp_path_factory.mktemp("proxy"), settings, files) as proxy:
        yield proxy


def test_the_rule_that_matches_says_how(proxy: Proxy) -> None:
    assert who(proxy, "by_plain", None, require_auth="none") == "by_plain"
    assert who(proxy, "by_scram", require_auth="scram-sha-256") == "by_scram"
    own = proxy.database
    assert who(proxy, own.user, own.password) == own.user


def test_a_rule_that_rejects(proxy: Proxy) -> None:
    assert refusal(proxy, "by_md5").startswith(
        'FATAL:  pg_hba.conf rejects connection for host "127.0.0.1", user "by_md5", '
        f'database "{proxy.database.name}", no encryption'
    )


def test_no_rule(proxy: Proxy) -> None:
    assert refusal(proxy, "other_scram").startswith(
        'FATAL:  no pg_hba.conf entry for host "127.0.0.1", user "other_scram", '
        f'database "{proxy.database.name}", no encryption'
    )


def test_a_database_that_is_not_there(proxy: Proxy) -> None:
    assert 'database "nowhere" does not exist' in refusal(proxy, "by_scram", dbname="nowhere")


def test_hostssl_is_not_for_clients_without_tls(proxy: Proxy) -> None:
    """The first rule would let in everybody."""
    assert "no pg_hba.conf entry" in refusal(proxy, "nobody")


def test_a_file_with_mistakes_keeps_penstock_from_starting(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[auth]\nmethod = "hba"\nauth_hba_file = "hba"\nauth_file = "list"\n'
        "[database.app.primary]\nport = 1\n"
    )
    (tmp_path / "hba").write_text("host all all all trust\nhost all +ops all md5\n")
    (tmp_path / "list").write_text('"a" "b"\n"c" d\n')
    for command in ("check", "serve"):
        ended = subprocess.run(
            [sys.executable, "-m", "proxy.cli.main", command, "--config", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert f'{tmp_path}/hba:2: "+ops": Penstock does not know who is a member' in ended.stderr
        assert f"{tmp_path}/list:2: the password must stand in double quotes" in ended.stderr
        assert "Traceback" not in ended.stderr
