"""Logging in to a server: AuthenticationRequests in, answers out, until ReadyForQuery.

Source: PostgreSQL documentation, "Start-up" (message flow) and "Message Formats".
"""

from collections.abc import Mapping

from proxy.wire import errors
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.messages import message
from proxy.wire.passwords import Md5Hash, PlainPassword, ServerSecret, md5_answer, md5_hash
from proxy.wire.scram import MECHANISM, ScramClient, ScramError, ScramKeys
from proxy.wire.startup import encode_startup

_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_NAMES = {_CLEARTEXT: "the password itself", _MD5: "an md5 hash", _SASL: "SCRAM"}


class ServerLogin:
    """One login. `start` gives the first packet, `receive` the answer to each message.

    When `done`, `parameters` holds what ParameterStatus said, `process_id` and `secret` the
    cancel key. `channel_binding` is the TLS channel's tls-server-end-point data, to be set before
    the first `receive`.
    """

    def __init__(
        self, user: str, secret: ServerSecret | None, parameters: Mapping[str, str]
    ) -> None:
        self._user = user
        self._secret = secret
        self.channel_binding: bytes | None = None
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
        secret = self._secret
        if secret is None:
            raise PgError(
                errors.INVALID_PASSWORD,
                f'the server wants a password for user "{self._user}" and Penstock has none',
                "give the user a password in auth.users, or let clients log in by scram-sha-256 "
                "against the verifier that the server holds (auth_file or auth_query)",
            )
        if request == _CLEARTEXT and isinstance(secret, PlainPassword):
            return message(b"p", secret.text.encode() + b"\0")
        if request == _MD5 and isinstance(secret, PlainPassword):
            secret = md5_hash(self._user, secret.text)
        if request == _MD5 and isinstance(secret, Md5Hash):
            return message(b"p", md5_answer(secret, data[:4]) + b"\0")
        if request in (_SASL, _SASL_CONTINUE, _SASL_FINAL) and not isinstance(secret, Md5Hash):
            try:
                return self._sasl(secret, request, data)
            except ScramError as error:
                raise PgError(
                    errors.INVALID_PASSWORD, f"login to the server failed: {error}"
                ) from None
        raise self._unfit(secret, request)

    def _unfit(self, secret: ServerSecret, request: int) -> PgError:
        """What is at hand is no answer to what the server asks for."""
        wanted = _NAMES.get(request)
        if wanted is None:
            return PgError(
                errors.INVALID_PASSWORD,
                f"login to the server failed: it asks for authentication method {request}, which "
                f"is not supported",
                "let the server ask for scram-sha-256, md5 or password",
            )
        has = "an md5 hash" if isinstance(secret, Md5Hash) else "SCRAM keys"
        return PgError(
            errors.INVALID_PASSWORD,
            f'the server wants {wanted} from user "{self._user}" and Penstock has only {has}',
            "give the user a password in auth.users (server_password)",
        )

    def _sasl(self, secret: PlainPassword | ScramKeys, request: int, data: bytes) -> bytes:
        if request == _SASL:
            offered = data.decode("ascii", "replace").split("\0")
            if MECHANISM not in offered:
                raise ScramError(f"the server offers {data!r} and not {MECHANISM}")
            scram = self._scram = ScramClient(
                secret.text if isinstance(secret, PlainPassword) else secret,
                binding=self.channel_binding,
                offered=offered,
            )
            first = scram.first()
            mechanism = scram.mechanism.encode() + b"\0"
            return message(b"p", mechanism + len(first).to_bytes(4) + first)
        if self._scram is None:
            raise ScramError("the server continues a SCRAM exchange that was not begun")
        if request == _SASL_CONTINUE:
            return message(b"p", self._scram.final(data))
        self._scram.verify(data)
        self._scram_verified = True
        return b""
