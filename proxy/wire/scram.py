"""SCRAM-SHA-256, both ends, without sockets.

Source: RFC 5802, RFC 7677; PostgreSQL documentation, "SASL Authentication"; saslprep as in
PostgreSQL's saslprep.c (a password that can't be prepared is used as it is).
"""

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from dataclasses import dataclass

MECHANISM = "SCRAM-SHA-256"
ITERATIONS = 4096


class ScramError(Exception):
    """The exchange failed: a wrong password or a message that breaks the rules."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def make_verifier(
    password: str, salt: bytes | None = None, iterations: int = ITERATIONS
) -> Verifier:
    """The verifier of a password; a random salt unless one is given."""
    salt = salt or secrets.token_bytes(16)
    salted = _salted_password(password, salt, iterations)
    client_key = _hmac(salted, b"Client Key")
    return Verifier(
        salt, iterations, hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key")
    )


def _salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def saslprep(password: str) -> str:
    """RFC 4013 for the passwords that it admits, the password unchanged otherwise."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    if not prepared or any(check(c) for c in prepared for check in prohibited):
        return password
    if any(map(stringprep.in_table_d1, prepared)) and (
        any(map(stringprep.in_table_d2, prepared))
        or not stringprep.in_table_d1(prepared[0])
        or not stringprep.in_table_d1(prepared[-1])
    ):
        return password
    return prepared


def _attributes(message: bytes, *names: str) -> list[str]:
    """The values of the attributes that must start `message`, in order."""
    try:
        parts = message.decode("ascii").split(",")
    except UnicodeDecodeError:
        raise ScramError("a SCRAM message holds bytes that are not ASCII") from None
    values = []
    for name, part in zip(names, parts, strict=False):
        if not part.startswith(name + "="):
            raise ScramError(f"a SCRAM message lacks its attribute {name!r}")
        values.append(part[2:])
    if len(values) < len(names):
        raise ScramError("a SCRAM message is too short")
    return values


def _decode64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise ScramError("a SCRAM message holds bad base64") from None


class ScramServer:
    """The server's side: `first` answers the client's first message, `final` its proof."""

    def __init__(self, verifier: Verifier, nonce: str | None = None) -> None:
        self._verifier = verifier
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._header = b""
        self._auth_message = b""

    def first(self, message: bytes) -> bytes:
        """Raises ScramError for channel binding (not offered) or a malformed message."""
        flag, comma, rest = message.partition(b",")
        authzid, second_comma, bare = rest.partition(b",")
        if not comma or not second_comma or flag not in (b"n", b"y"):
            raise ScramError("SCRAM channel binding was not offered, or the message is malformed")
        if authzid:
            raise ScramError("SCRAM authorization identities are not supported")
        _, client_nonce = _attributes(bare, "n", "r")
        if not client_nonce:
            raise ScramError("the client's SCRAM nonce is empty")
        self._header = flag + b",,"
        self._nonce = client_nonce + self._nonce
        salt = base64.b64encode(self._verifier.salt).decode()
        reply = f"r={self._nonce},s={salt},i={self._verifier.iterations}".encode()
        self._auth_message = bare + b"," + reply + b","
        return reply

    def final(self, message: bytes) -> bytes:
        """The server's signature. Raises ScramError if the proof is wrong."""
        without_proof, comma, proof_text = message.rpartition(b",p=")
        if not comma:
            raise ScramError("the client's final SCRAM message has no proof")
        binding, nonce = _attributes(without_proof, "c", "r")
        if _decode64(binding) != self._header or not hmac.compare_digest(nonce, self._nonce):
            raise ScramError("the client's final SCRAM message does not continue its first")
        auth_message = self._auth_message + without_proof
        proof = _decode64(proof_text.decode("ascii", "replace"))
        signature = _hmac(self._verifier.stored_key, auth_message)
        if len(proof) != len(signature):
            raise ScramError("the client's SCRAM proof has a wrong length")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key):
            raise ScramError("password authentication failed")
        return b"v=" + base64.b64encode(_hmac(self._verifier.server_key, auth_message))


class ScramClient:
    """The client's side: `first`, `final` answers the server's first message, then `verify`."""

    def __init__(self, password: str, nonce: str | None = None) -> None:
        self._password = password
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._server_signature = b""

    def first(self) -> bytes:
        return f"n,,n=,r={self._nonce}".encode()

    def final(self, message: bytes) -> bytes:
        """The proof. Raises ScramError if the server's message breaks the rules."""
        nonce, salt, iterations = _attributes(message, "r", "s", "i")
        if not nonce.startswith(self._nonce) or not iterations.isdigit() or not int(iterations):
            raise ScramError("the server's first SCRAM message is not an answer to ours")
        salted = _salted_password(self._password, _decode64(salt), int(iterations))
        client_key = _hmac(salted, b"Client Key")
        without_proof = b"c=biws,r=" + nonce.encode()
        auth_message = f"n=,r={self._nonce}".encode() + b"," + message + b"," + without_proof
        signature = _hmac(hashlib.sha256(client_key).digest(), auth_message)
        self._server_signature = _hmac(_hmac(salted, b"Server Key"), auth_message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, message: bytes) -> None:
        """Raises ScramError if the server does not know the password either."""
        (signature,) = _attributes(message, "v")
        if not hmac.compare_digest(_decode64(signature), self._server_signature):
            raise ScramError("the server's SCRAM signature is wrong: it does not know the password")
