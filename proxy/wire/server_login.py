"""Logging in to a server: AuthenticationRequests in, answers out, until ReadyForQuery.

Source: PostgreSQL documentation, "Start-up" (message flow) and "Message Formats".
"""

import hashlib
from collections.abc import Mapping

from proxy.wire import errors
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.messages import message
from proxy.wire.scram import MECHANISM, ScramClient, ScramError
from proxy.wire.startup import encode_startup

_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


class ServerLogin:
    """One login. `start` gives the first packet, `receive` the answer to each message.

    When `done`, `parameters` holds what ParameterStatus said, `process_id` and `secret` the
    cancel key.
    """

    def __init__(self, user: str, password: str | None, parameters: Mapping[str, str]) -> None:
        self._user = user
        self._password = password
        self._startup = {"user": user, **parameters}
        self._scram: ScramClient | None = None
        self._scram_verified = False
        self.parameters: dict[bytes, bytes] = {}
        self.process_id = 0
        self.secret = b""
        self.done = False

    def start(self) -> bytes:
        return encode_startup(self._startup)

    def receive(self, kind: int, body: bytes) -> bytes:
        """The bytes to send in answer, perhaps none.

        Raises PgError if the server refuses or asks for what can't be given, ProtocolViolation
        for a message that has no place in a login.
        """
        match chr(kind):
            case "R":
                return self._authenticate(int.from_bytes(body[:4]), body[4:])
            case "S":
                name, value = body[:-1].split(b"\0", 1)
                self.parameters[name] = value
            case "K":
                self.process_id, self.secret = int.from_bytes(body[:4]), body[4:]
            case "Z":
                self.done = True
            case "E":
                raise errors.from_fields(errors.error_fields(body))
            case "N" | "v":
                pass
            case other:
                raise ProtocolViolation(f"message {other!r} from the server during login")
        return b""

    def _authenticate(self, request: int, data: bytes) -> bytes:
        if request == _OK:
            if self._scram is not None and not self._scram_verified:
                raise ProtocolViolation("the server ended SCRAM without proving that it is itself")
            return b""
        if self._password is None:
            raise PgError(
                errors.INVALID_PASSWORD,
                f'the server wants a password for user "{self._user}" and none is configured',
                "give the user a password in auth.users",
            )
        if request == _CLEARTEXT:
            return message(b"p", self._password.encode() + b"\0")
        if request == _MD5:
            return message(b"p", _md5_answer(self._user, self._password, data[:4]) + b"\0")
        try:
            return self._sasl(self._password, request, data)
        except ScramError as error:
            raise PgError(errors.INVALID_PASSWORD, f"login to the server failed: {error}") from None

    def _sasl(self, password: str, request: int, data: bytes) -> bytes:
        if request == _SASL:
            if MECHANISM.encode() not in data.split(b"\0"):
                raise ScramError(f"the server offers {data!r} and not {MECHANISM}")
            self._scram = ScramClient(password)
            first = self._scram.first()
            return message(b"p", MECHANISM.encode() + b"\0" + len(first).to_bytes(4) + first)
        if self._scram is not None and request == _SASL_CONTINUE:
            return message(b"p", self._scram.final(data))
        if self._scram is not None and request == _SASL_FINAL:
            self._scram.verify(data)
            self._scram_verified = True
            return b""
        raise ScramError(f"the server asks for authentication method {request}, not supported")


def _md5_answer(user: str, password: str, salt: bytes) -> bytes:
    inner = hashlib.md5(password.encode() + user.encode()).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode()
