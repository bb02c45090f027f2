"""auth_file with hashes and verifiers: the servers are logged in to without the password."""

from collections.abc import Iterator

import pytest

from proxy.auth.userlist import write_entry
from proxy.auth.verifier import write_verifier
from proxy.wire.scram import make_verifier
from tests.integration.auth.servers import Server, proxy_with, refusal, who
from tests.proxies import Proxy


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Penstock with what the server stores, but for one role a verifier of its own."""
    entries = {role: server.stored(role) for role in ("by_scram", "by_md5")}
    entries["other_scram"] = write_verifier(make_verifier("correct horse"))
    entries["no_password"] = ""
    userlist = "\n".join(write_entry(user, secret) for user, secret in entries.items())
    directory = tmp_path_factory.mktemp("proxy")
    settings = {"method": "md5", "auth_file": "userlist.txt"}
    with proxy_with(server, directory, settings, {"userlist.txt": userlist}) as proxy:
        yield proxy


def test_a_verifier_passes_through(proxy: Proxy) -> None:
    """The method is md5; as in PostgreSQL that means SCRAM for who has a verifier."""
    for _ in range(3):
        assert who(proxy, "by_scram", require_auth="scram-sha-256") == "by_scram"


def test_a_hash_logs_in_to_a_server_that_asks_for_md5(proxy: Proxy) -> None:
    assert who(proxy, "by_md5", require_auth="md5") == "by_md5"


def test_another_verifier_than_the_servers(proxy: Proxy) -> None:
    """The password is right, the salt is not the server's: said plainly."""
    told = refusal(proxy, "other_scram")
    assert "the server holds another SCRAM verifier of this user than Penstock" in told


@pytest.mark.parametrize("user", ["by_scram", "by_md5", "no_password", "nobody"])
def test_wrong_passwords(proxy: Proxy, user: str) -> None:
    assert f'password authentication failed for user "{user}"' in refusal(proxy, user, "wrong")


def test_a_client_without_a_password_of_its_own(proxy: Proxy) -> None:
    """The user of auth.users logs in beside those of the file."""
    assert who(proxy, proxy.database.user, proxy.database.password) == proxy.database.user
