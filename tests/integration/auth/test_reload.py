"""RELOAD reads the files of authentication again, and refuses them whole."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.auth.userlist import write_entry
from tests.integration.admin.operating import operator
from tests.integration.auth.servers import PASSWORD, Server, proxy_with, refusal, who
from tests.proxies import Proxy

HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


@pytest.fixture
def proxy(server: Server, tmp_path: Path) -> Iterator[Proxy]:
    """Penstock with files that the tests change."""
    settings = {
        "method": "hba",
        "auth_hba_file": "pg_hba.conf",
        "auth_file": "userlist.txt",
        "throttle_failures": "0",
    }
    files = {"pg_hba.conf": HBA, "userlist.txt": write_entry("by_scram", "not yet")}
    with proxy_with(server, tmp_path, settings, files) as proxy:
        yield proxy


def reload(proxy: Proxy) -> None:
    with operator(proxy) as console:
        console.execute("RELOAD")


def test_changed_files_are_in_force_at_once(proxy: Proxy, tmp_path: Path) -> None:
    assert "password authentication failed" in refusal(proxy, "by_scram")
    (tmp_path / "userlist.txt").write_text(
        "\n".join(write_entry(user, PASSWORD) for user in ("by_scram", "by_md5"))
    )
    assert "password authentication failed" in refusal(proxy, "by_scram")
    reload(proxy)
    assert who(proxy, "by_scram") == "by_scram"
    assert who(proxy, "by_md5") == "by_md5"
    (tmp_path / "pg_hba.conf").write_text("host all by_md5 all reject\n" + HBA)
    reload(proxy)
    assert who(proxy, "by_scram") == "by_scram"
    assert "pg_hba.conf rejects connection" in refusal(proxy, "by_md5")


def test_clients_stay_when_they_could_log_in_no_more(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "userlist.txt").write_text(write_entry("by_scram", PASSWORD))
    reload(proxy)
    own = proxy.database
    with psycopg.connect(
        host=proxy.host, port=proxy.port, dbname=own.name, user="by_scram", password=PASSWORD
    ) as connection:
        (tmp_path / "userlist.txt").write_text("")
        reload(proxy)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert "password authentication failed" in refusal(proxy, "by_scram")


def test_a_file_with_mistakes_changes_nothing(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "userlist.txt").write_text(write_entry("by_scram", PASSWORD))
    reload(proxy)
    (tmp_path / "userlist.txt").write_text("")
    (tmp_path / "pg_hba.conf").write_text(HBA + "host all all all kerberos\n")
    with pytest.raises(psycopg.Error, match=r'pg_hba.conf:2: the method "kerberos" is not known'):
        reload(proxy)
    assert who(proxy, "by_scram") == "by_scram"
