"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both ends, without sockets.

Source: RFC 5802, RFC 7677; channel binding tls-server-end-point: RFC 5929; PostgreSQL
documentation, "SASL Authentication"; saslprep as in PostgreSQL's saslprep.c (a password that can't
be prepared is used as it is).
"""

import base64
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, field

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
ITERATIONS = 4096
MOST_ITERATIONS = 1_000_000
"""More would keep the process busy for over half a second, at a server's word."""

_COUNT = re.compile("[1-9][0-9]{0,9}")
_BOUND_HEADER = b"p=tls-server-end-point,,"


class ScramError(Exception):
    """The exchange failed: a wrong password or a message that breaks the rules."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a client's proof gives away to a server that holds the verifier.

    Enough to log in, without the password, to servers that hold the very same verifier.
    """

    salt: bytes
    iterations: int
    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


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


def _both(one: bytes, other: bytes) -> bytes:
    """XOR of two keys of the same length."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))


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
    """The server's side: `first` answers the client's first message, `final` its proof.

    `binding` is the channel's tls-server-end-point data, None without TLS. After `final`, `keys`
    are those that the proof gave away.
    """

    def __init__(
        self, verifier: Verifier, nonce: str | None = None, binding: bytes | None = None
    ) -> None:
        self._verifier = verifier
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._binding = binding
        self._header = b""
        self._auth_message = b""
        self.keys: ScramKeys | None = None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What to offer to the client, the best first."""
        return (MECHANISM,) if self._binding is None else (MECHANISM_PLUS, MECHANISM)

    def first(self, message: bytes, mechanism: str = MECHANISM) -> bytes:
        """Raises ScramError if the message is malformed or its channel binding doesn't fit."""
        flag, comma, rest = message.partition(b",")
        authzid, second_comma, bare = rest.partition(b",")
        if not comma or not second_comma:
            raise ScramError("the client's first SCRAM message is malformed")
        self._check_flag(flag, mechanism)
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

    def _check_flag(self, flag: bytes, mechanism: str) -> None:
        if mechanism not in self.mechanisms:
            raise ScramError(f"SCRAM mechanism {mechanism!r} was not offered")
        if mechanism == MECHANISM_PLUS:
            if flag + b",," != _BOUND_HEADER:
                raise ScramError("the client chose channel binding and doesn't bind")
        elif flag == b"y" and self._binding is not None:
            # Somebody between has taken the offer of channel binding away.
            raise ScramError("the client was not shown that channel binding is offered")
        elif flag not in (b"n", b"y"):
            raise ScramError("the client binds to a channel without having chosen that")

    def final(self, message: bytes) -> bytes:
        """The server's signature. Raises ScramError if the proof is wrong."""
        without_proof, comma, proof_text = message.rpartition(b",p=")
        if not comma:
            raise ScramError("the client's final SCRAM message has no proof")
        bound, nonce = _attributes(without_proof, "c", "r")
        expected = self._header
        if self._header == _BOUND_HEADER and self._binding is not None:
            expected += self._binding
        if not hmac.compare_digest(_decode64(bound), expected):
            raise ScramError("the client's SCRAM channel binding is of another channel")
        if not hmac.compare_digest(nonce, self._nonce):
            raise ScramError("the client's final SCRAM message does not continue its first")
        auth_message = self._auth_message + without_proof
        proof = _decode64(proof_text.decode("ascii", "replace"))
        verifier = self._verifier
        signature = _hmac(verifier.stored_key, auth_message)
        if len(proof) != len(signature):
            raise ScramError("the client's SCRAM proof has a wrong length")
        client_key = _both(proof, signature)
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key):
            raise ScramError("the password is wrong")
        self.keys = ScramKeys(verifier.salt, verifier.iterations, client_key, verifier.server_key)
        return b"v=" + base64.b64encode(_hmac(verifier.server_key, auth_message))


class ScramClient:
    """The client's side: `first`, `final` answers the server's first message, then `verify`.

    `secret` is a password or keys. With `binding`, the channel's tls-server-end-point data,
    `offered` are the mechanisms that the server offers.
    """

    def __init__(
        self,
        secret: str | ScramKeys,
        nonce: str | None = None,
        binding: bytes | None = None,
        offered: Container[str] = (MECHANISM,),
    ) -> None:
        self._secret = secret
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._server_signature = b""
        self.mechanism = MECHANISM
        self._header, self._bound = b"n,,", b""
        if binding is not None and MECHANISM_PLUS in offered:
            self.mechanism = MECHANISM_PLUS
            self._header, self._bound = _BOUND_HEADER, binding
        elif binding is not None:
            self._header = b"y,,"

    def first(self) -> bytes:
        return self._header + f"n=,r={self._nonce}".encode()

    def final(self, message: bytes) -> bytes:
        """The proof. Raises ScramError if the server's message breaks the rules, or if the keys
        at hand are of another verifier than the server's."""
        nonce, salt, iterations = _attributes(message, "r", "s", "i")
        if not nonce.startswith(self._nonce) or not _COUNT.fullmatch(iterations):
            raise ScramError("the server's first SCRAM message is not an answer to ours")
        client_key, server_key = self._keys(_decode64(salt), int(iterations))
        bound = base64.b64encode(self._header + self._bound)
        without_proof = b"c=" + bound + b",r=" + nonce.encode()
        auth_message = f"n=,r={self._nonce}".encode() + b"," + message + b"," + without_proof
        signature = _hmac(hashlib.sha256(client_key).digest(), auth_message)
        self._server_signature = _hmac(server_key, auth_message)
        proof = _both(client_key, signature)
        return without_proof + b",p=" + base64.b64encode(proof)

    def _keys(self, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
        secret = self._secret
        if isinstance(secret, ScramKeys):
            if (secret.salt, secret.iterations) != (salt, iterations):
                raise ScramError(
                    "the server holds another SCRAM verifier of this user than Penstock, so the "
                    "client's keys don't fit: give both the same verifier, or Penstock the password"
                )
            return secret.client_key, secret.server_key
        if iterations > MOST_ITERATIONS:
            raise ScramError(
                f"the server asks for {iterations} iterations, more than {MOST_ITERATIONS}"
            )
        salted = _salted_password(secret, salt, iterations)
        return _hmac(salted, b"Client Key"), _hmac(salted, b"Server Key")

    def verify(self, message: bytes) -> None:
        """Raises ScramError if the server does not know the password either."""
        (signature,) = _attributes(message, "v")
        if not hmac.compare_digest(_decode64(signature), self._server_signature):
            raise ScramError("the server's SCRAM signature is wrong: it does not know the password")


def password_fits(verifier: Verifier, password: str) -> bool:
    """Whether this is the password of the verifier. Takes its iterations' time."""
    made = make_verifier(password, verifier.salt, verifier.iterations)
    return hmac.compare_digest(made.stored_key, verifier.stored_key)
