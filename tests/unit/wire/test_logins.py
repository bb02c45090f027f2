"""Both logins as scripts of messages."""

import hashlib
import struct

import pytest

from proxy.wire.client_login import ClientLogin, Credentials
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.framing import split_messages
from proxy.wire.messages import message
from proxy.wire.scram import ScramClient, ScramServer, make_verifier
from proxy.wire.server_login import ServerLogin


def request(code: int, data: bytes = b"") -> bytes:
    """The body of an AuthenticationRequest."""
    return struct.pack(">I", code) + data


def server_login(password: str | None = "secret") -> ServerLogin:
    return ServerLogin("postgres", password, {"database": "app"})


def test_a_login_without_a_password() -> None:
    login = server_login(None)
    assert login.start()[4:8] == b"\0\3\0\0"
    assert b"user\0postgres\0database\0app\0\0" in login.start()
    assert login.receive(ord("R"), request(0)) == b""
    assert login.receive(ord("S"), b"TimeZone\0UTC\0") == b""
    assert login.receive(ord("N"), b"Mhello\0\0") == b""
    assert login.receive(ord("K"), struct.pack(">I", 4711) + b"abcd") == b""
    assert not login.done
    login.receive(ord("Z"), b"I")
    assert login.done
    assert (login.process_id, login.secret) == (4711, b"abcd")
    assert login.parameters == {b"TimeZone": b"UTC"}


def test_a_cleartext_password() -> None:
    assert server_login().receive(ord("R"), request(3)) == b"p\0\0\0\x0bsecret\0"


def test_an_md5_password() -> None:
    """The hash of user and password "postgres" is what pg_authid shows for it."""
    login = server_login("postgres")
    stored = b"3175bce1d3201d16594cebf9d7eb3f9d"
    expected = b"md5" + hashlib.md5(stored + b"salt").hexdigest().encode() + b"\0"
    assert login.receive(ord("R"), request(5, b"salt")) == message(b"p", expected)


def test_scram_against_our_own_server() -> None:
    login = server_login()
    server = ScramServer(make_verifier("secret", b"salt", 5))
    offer = request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    first = login.receive(ord("R"), offer)[5:]
    mechanism, _, rest = first.partition(b"\0")
    assert mechanism == b"SCRAM-SHA-256"
    final = login.receive(ord("R"), request(11, server.first(rest[4:])))[5:]
    assert login.receive(ord("R"), request(12, server.final(final))) == b""
    assert login.receive(ord("R"), request(0)) == b""


def test_a_server_that_skips_its_own_proof_is_refused() -> None:
    login = server_login()
    login.receive(ord("R"), request(10, b"SCRAM-SHA-256\0\0"))
    with pytest.raises(ProtocolViolation):
        login.receive(ord("R"), request(0))


@pytest.mark.parametrize("code", [2, 6, 7, 8, 9, 11, 12, 99])
def test_methods_that_are_not_supported(code: int) -> None:
    with pytest.raises(PgError) as refused:
        server_login().receive(ord("R"), request(code))
    assert refused.value.sqlstate == "28P01"


def test_a_password_that_is_not_configured() -> None:
    with pytest.raises(PgError, match="none is configured"):
        server_login(None).receive(ord("R"), request(3))


def test_a_servers_error_is_passed_on() -> None:
    with pytest.raises(PgError) as refused:
        server_login().receive(ord("E"), b"SFATAL\0C28000\0Mno entry\0Htry it\0\0")
    assert (refused.value.sqlstate, refused.value.message) == ("28000", "no entry")
    assert refused.value.hint == "try it"


@pytest.mark.parametrize("kind", b"DTGdQ1")
def test_messages_that_have_no_place_in_a_login(kind: int) -> None:
    with pytest.raises(ProtocolViolation):
        server_login().receive(kind, b"")


CREDENTIALS = Credentials({"app": make_verifier("secret", b"0123456789abcdef", 5)})


def client_login(user: str, password: str) -> ClientLogin:
    """A client's whole exchange. Raises PgError where it is refused."""
    login, client = ClientLogin(user, CREDENTIALS), ScramClient(password)
    assert login.start() == b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
    first = client.first()
    body = b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first
    challenge = login.receive(body)
    assert challenge[5:9] == b"\0\0\0\x0b"
    (_, proof), (_, accepted) = split_messages(login.receive(client.final(challenge[9:])))
    assert (proof[:4], accepted) == (request(12), request(0))
    client.verify(proof[4:])
    return login


def test_a_client_that_knows_its_password() -> None:
    assert client_login("app", "secret").done


@pytest.mark.parametrize(("user", "password"), [("app", "wrong"), ("nobody", "secret")])
def test_clients_that_are_refused(user: str, password: str) -> None:
    with pytest.raises(PgError) as refused:
        client_login(user, password)
    assert refused.value.sqlstate == "28P01"
    assert refused.value.message == f'password authentication failed for user "{user}"'


def test_an_unknown_user_always_has_the_same_salt() -> None:
    first, second = CREDENTIALS.verifier("nobody"), CREDENTIALS.verifier("nobody")
    assert (first.salt, first.iterations) == (second.salt, second.iterations)
    assert first.salt != CREDENTIALS.verifier("somebody").salt
    assert first.stored_key != second.stored_key


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-1\0\0\0\0\3abc",
        b"SCRAM-SHA-256\0\0\0\0\4abc",
        b"SCRAM-SHA-256\0\xff\xff\xff\xff",
    ],
)
def test_malformed_first_responses(body: bytes) -> None:
    with pytest.raises(PgError):
        ClientLogin("app", CREDENTIALS).receive(body)
