"""SCRAM-SHA-256: the example of RFC 7677, both ends against each other, and what must fail."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.scram import ScramClient, ScramError, ScramServer, make_verifier, saslprep

# RFC 7677, section 3.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=" + CLIENT_NONCE.encode()
SERVER_FIRST = f"r={CLIENT_NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
CLIENT_FINAL = (
    f"c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
).encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def example_server() -> ScramServer:
    return ScramServer(make_verifier("pencil", SALT, 4096), SERVER_NONCE)


def test_the_example_of_the_rfc() -> None:
    server = example_server()
    assert server.first(CLIENT_FIRST) == SERVER_FIRST
    assert server.final(CLIENT_FINAL) == SERVER_FINAL


def exchange(password: str, attempt: str, iterations: int = 2) -> None:
    """A whole login. Raises ScramError."""
    server = ScramServer(make_verifier(password, b"0123456789abcdef", iterations))
    client = ScramClient(attempt)
    client.verify(server.final(client.final(server.first(client.first()))))


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=40))
def test_both_ends_agree(password: str) -> None:
    exchange(password, password)


@pytest.mark.parametrize("attempt", ["", "Secret", "secret ", "secre"])
def test_another_password_fails(attempt: str) -> None:
    with pytest.raises(ScramError):
        exchange("secret", attempt)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("plain", "plain"),
        ("I\u00adX", "IX"),  # RFC 4013, section 3: a soft hyphen is mapped to nothing
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u00fc", "\u00fc"),
        ("u\u0308", "\u00fc"),
        ("\u0007\u00e9", "\u0007\u00e9"),  # prohibited: used as it is
        ("\u06271", "\u06271"),  # bidirectional rules are broken: used as it is
    ],
)
def test_saslprep(password: str, prepared: str) -> None:
    assert saslprep(password) == prepared


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,r=abc,n=user",
        b"p=tls-unique,,n=user,r=abc",
        b"n,a=other,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=\xff,r=abc",
    ],
)
def test_first_messages_that_are_refused(first: bytes) -> None:
    with pytest.raises(ScramError):
        example_server().first(first)


@pytest.mark.parametrize(
    "final",
    [
        b"",
        CLIENT_FINAL.replace(b"c=biws", b"c=eSws"),
        CLIENT_FINAL.replace(b"r=rOpr", b"r=other"),
        CLIENT_FINAL.replace(b"p=dHzb", b"p=dHzc"),
        CLIENT_FINAL.replace(b",p=", b",q="),
        CLIENT_FINAL[:-8],
        CLIENT_FINAL[:-4] + b"!!!!",
        CLIENT_FINAL.replace(b"biws", b"????"),
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"\xff" + CLIENT_FINAL,
    ],
)
def test_final_messages_that_are_refused(final: bytes) -> None:
    server = example_server()
    server.first(CLIENT_FIRST)
    with pytest.raises(ScramError):
        server.final(final)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"r=abc,s=AAAA,i=0",
        b"r=abc,s=AAAA,i=-1",
        b"r=abc,s=AAAA,i=x",
        b"r=other,s=AAAA,i=1",
        b"r=abcdef,s=!,i=1",
        b"r=abcdef,i=1,s=AAAA",
        b"\xff\xfe",
    ],
)
def test_server_messages_that_are_refused(first: bytes) -> None:
    client = ScramClient("secret", nonce="abc")
    client.first()
    with pytest.raises(ScramError):
        client.final(first)


def test_a_server_that_does_not_know_the_password() -> None:
    client = ScramClient("secret", nonce="abc")
    client.final(b"r=abcdef,s=QUJD,i=4096")
    with pytest.raises(ScramError):
        client.verify(b"v=" + base64.b64encode(bytes(32)))
