"""Files that TLS can't be done with: what is said of them. And what is tried in each mode."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.config.transport import ClientTlsSettings, ServerTlsSettings
from proxy.net.contexts import TlsError, client_context, server_context
from proxy.net.dialing import attempts
from tests.certificates import Authority, Pair, new_authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return new_authority(tmp_path)


def settings(pair: Pair, **more: object) -> ClientTlsSettings:
    files = {"cert_file": pair.certificate, "key_file": pair.key}
    return ClientTlsSettings.model_validate({"mode": "require", **files, **more})


def complaint(wanted: ClientTlsSettings) -> str:
    with pytest.raises(TlsError) as found:
        client_context(wanted)
    return str(found.value)


def test_files_that_are_not_there(authority: Authority, tmp_path: Path) -> None:
    pair, missing = authority.server(), tmp_path / "missing"
    said = complaint(settings(pair, cert_file=missing))
    assert said == f"client_tls.cert_file: {missing} can't be read: No such file or directory"
    assert complaint(settings(pair, key_file=missing)).startswith("client_tls.key_file: ")
    assert complaint(settings(pair, ca_file=missing)).startswith("client_tls.ca_file: ")


def test_files_of_something_else(authority: Authority) -> None:
    pair, other = authority.server(), authority.server(file="other")
    assert "the key is not that of the certificate" in complaint(settings(pair, key_file=other.key))
    assert "in PEM" in complaint(settings(pair, cert_file=pair.key))
    assert "in PEM" in complaint(settings(pair, key_file=pair.certificate))
    assert "holds no certificates" in complaint(settings(pair, ca_file=pair.key))


def test_a_key_with_a_passphrase(authority: Authority) -> None:
    """Nobody is there to type it."""
    pair = authority.server()
    key = load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")
    )
    pair.key.write_bytes(locked)
    assert "is encrypted" in complaint(settings(pair))


def test_ciphers_that_nobody_knows(authority: Authority) -> None:
    said = complaint(settings(authority.server(), ciphers="ROT13"))
    assert said.startswith('client_tls.ciphers = "ROT13": ')


def test_servers_are_said_by_their_section(tmp_path: Path) -> None:
    wanted = ServerTlsSettings(mode="verify-ca", ca_file=tmp_path / "missing")
    with pytest.raises(TlsError, match=r"^database\.app\.tls\.ca_file: "):
        server_context(wanted, "database.app.tls")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("disable", (False,)),
        ("allow", (False, True)),
        ("prefer", (True, False)),
        ("require", (True,)),
        ("verify-ca", (True,)),
        ("verify-full", (True,)),
    ],
)
def test_attempts(mode: str, expected: tuple[bool, ...]) -> None:
    assert attempts(mode, "db.example") == expected
    assert attempts(mode, "/run/postgresql") == (False,)
