"""Authenticating a client: its password messages in, our requests out.

A user that doesn't exist goes through the same exchange with a verifier that nothing fits, so
that neither answer nor time tells who exists (PostgreSQL's mock_scram_secret, auth-scram.c).
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.messages import AUTHENTICATION_OK, message
from proxy.wire.scram import ITERATIONS, MECHANISM, ScramError, ScramServer, Verifier

_SASL, _SASL_CONTINUE, _SASL_FINAL = ((n).to_bytes(4) for n in (10, 11, 12))


class Credentials:
    """The verifiers of all users, made once at start-up."""

    def __init__(self, verifiers: Mapping[str, Verifier]) -> None:
        self._verifiers = verifiers
        self._mock_key = secrets.token_bytes(32)

    def verifier(self, user: str) -> Verifier:
        """The user's verifier, or one that no password fits, the same at every call."""
        if user in self._verifiers:
            return self._verifiers[user]
        salt = hmac.digest(self._mock_key, user.encode(), "sha256")[:16]
        nothing = hashlib.sha256(secrets.token_bytes(32)).digest()
        return Verifier(salt, ITERATIONS, nothing, nothing)


class ClientLogin:
    """One client's SCRAM exchange: `start`, then `receive` for each password message."""

    def __init__(self, user: str, credentials: Credentials) -> None:
        self._user = user
        self._scram = ScramServer(credentials.verifier(user))
        self._step = 0
        self.done = False

    def start(self) -> bytes:
        return message(b"R", _SASL + MECHANISM.encode() + b"\0\0")

    def receive(self, body: bytes) -> bytes:
        """The answer to a SASLInitialResponse or SASLResponse. Raises PgError on failure."""
        try:
            if self._step == 0:
                self._step = 1
                return message(b"R", _SASL_CONTINUE + self._scram.first(_initial_response(body)))
            signature = self._scram.final(body)
        except ScramError:
            raise PgError(
                errors.INVALID_PASSWORD,
                f'password authentication failed for user "{self._user}"',
                "check user and password against auth.users of Penstock's configuration",
            ) from None
        self.done = True
        return message(b"R", _SASL_FINAL + signature) + AUTHENTICATION_OK


def _initial_response(body: bytes) -> bytes:
    mechanism, separator, rest = body.partition(b"\0")
    if not separator or mechanism != MECHANISM.encode() or len(rest) < 4:
        raise ScramError("malformed SASLInitialResponse")
    if len(rest) - 4 != int.from_bytes(rest[:4]):
        raise ScramError("malformed SASLInitialResponse")
    return rest[4:]
