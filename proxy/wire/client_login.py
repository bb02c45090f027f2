"""Authenticating a client by its password: its messages in, our requests out.

Who doesn't exist goes through the same exchange as who does, with a verifier that nothing fits, so
that neither answer nor time tells them apart (PostgreSQL's mock_scram_secret, auth-scram.c).
"""

import hashlib
import secrets
from typing import Protocol

from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.messages import AUTHENTICATION_OK, message
from proxy.wire.passwords import Md5Hash, PlainPassword, ServerSecret, md5_answer, same
from proxy.wire.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ScramError,
    ScramServer,
    Verifier,
    password_fits,
)

_CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = ((n).to_bytes(4) for n in (3, 5, 10, 11, 12))


class AuthenticationFailed(PgError):
    """The client has not shown that it is the user. `reason` is for the log alone."""

    def __init__(self, user: str, reason: str) -> None:
        super().__init__(
            errors.INVALID_PASSWORD,
            f'password authentication failed for user "{user}"',
            "check user and password; they are those of auth.users, auth.auth_file or "
            "auth.auth_query in Penstock's configuration",
        )
        self.reason = reason


class PasswordExchange(Protocol):
    """`start`, then `receive` for each password message until `done`."""

    done: bool
    learned: ServerSecret | None
    """When done: what the exchange gave away that logs in to a server too."""

    def start(self) -> bytes:
        """The request for a password."""

    def receive(self, body: bytes) -> bytes:
        """The answer to a password message. Raises AuthenticationFailed."""


class ScramExchange:
    """Method scram-sha-256, with channel binding if `binding` is given.

    `unfit` says for the log why the verifier is one that nothing fits.
    """

    def __init__(
        self, user: str, verifier: Verifier, binding: bytes | None = None, unfit: str = ""
    ) -> None:
        self._user = user
        self._unfit = unfit
        self._scram = ScramServer(verifier, binding=binding)
        self._begun = False
        self.done = False
        self.learned: ServerSecret | None = None

    def start(self) -> bytes:
        names = b"".join(name.encode() + b"\0" for name in self._scram.mechanisms)
        return message(b"R", _SASL + names + b"\0")

    def receive(self, body: bytes) -> bytes:
        """The answer to a SASLInitialResponse or SASLResponse. Raises AuthenticationFailed."""
        try:
            if not self._begun:
                self._begun = True
                mechanism, first = _initial_response(body)
                return message(b"R", _SASL_CONTINUE + self._scram.first(first, mechanism))
            signature = self._scram.final(body)
        except ScramError as error:
            raise AuthenticationFailed(self._user, self._unfit or str(error)) from None
        self.done = True
        self.learned = self._scram.keys
        return message(b"R", _SASL_FINAL + signature) + AUTHENTICATION_OK


def _initial_response(body: bytes) -> tuple[str, bytes]:
    mechanism, separator, rest = body.partition(b"\0")
    if mechanism not in (MECHANISM.encode(), MECHANISM_PLUS.encode()):
        raise ScramError("malformed SASLInitialResponse, or a mechanism that is not known")
    if not separator or len(rest) < 4 or len(rest) - 4 != int.from_bytes(rest[:4]):
        raise ScramError("malformed SASLInitialResponse")
    return mechanism.decode(), rest[4:]


class Md5Exchange:
    """Method md5. None instead of a hash: nothing fits, `unfit` says for the log why."""

    def __init__(self, user: str, stored: Md5Hash | None, unfit: str = "") -> None:
        self._user = user
        self._unfit = unfit
        self._known = stored is not None
        self._stored = stored or Md5Hash("md5" + secrets.token_hex(16))
        self._salt = secrets.token_bytes(4)
        self.done = False
        self.learned: ServerSecret | None = None

    def start(self) -> bytes:
        return message(b"R", _MD5 + self._salt)

    def receive(self, body: bytes) -> bytes:
        """The answer to a PasswordMessage. Raises AuthenticationFailed."""
        fits = same(_text(body), md5_answer(self._stored, self._salt))
        if not fits or not self._known:
            raise AuthenticationFailed(self._user, self._unfit or "the password is wrong")
        self.done = True
        self.learned = self._stored
        return AUTHENTICATION_OK


class PlainExchange:
    """Method password: the client sends the password itself, readable to all without TLS.

    It is checked against a verifier, and against an MD5 hash where only that is stored; both are
    always computed, so that the time does not tell which.
    """

    def __init__(
        self, user: str, verifier: Verifier, stored: Md5Hash | None = None, unfit: str = ""
    ) -> None:
        self._user = user
        self._unfit = unfit
        self._verifier = verifier
        self._stored = stored
        self.done = False
        self.learned: ServerSecret | None = None

    def start(self) -> bytes:
        return message(b"R", _CLEARTEXT)

    def receive(self, body: bytes) -> bytes:
        """The answer to a PasswordMessage. Raises AuthenticationFailed."""
        text = _text(body)
        try:
            password = text.decode()
        except UnicodeDecodeError:
            raise AuthenticationFailed(self._user, "the password is not UTF-8") from None
        by_verifier = password_fits(self._verifier, password)
        by_hash = self._hash_fits(text)
        if not password or not (by_verifier if self._stored is None else by_hash):
            raise AuthenticationFailed(self._user, self._unfit or "the password is wrong")
        self.done = True
        self.learned = PlainPassword(password)
        return AUTHENTICATION_OK

    def _hash_fits(self, password: bytes) -> bool:
        made = "md5" + hashlib.md5(password + self._user.encode()).hexdigest()
        return same(made.encode(), (self._stored.text if self._stored else "").encode())


def _text(body: bytes) -> bytes:
    """A PasswordMessage's string."""
    return body[:-1] if body.endswith(b"\0") else body
