"""The packets before authentication, which have no type byte.

Source: PostgreSQL documentation, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest,
CancelRequest.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.wire.errors import ProtocolViolation

PROTOCOL_3_0 = 3 << 16
NEWEST_MINOR = 2
"""Of protocol 3, spoken with clients."""
SSL_REQUEST_CODE = 80877103
GSSENC_REQUEST_CODE = 80877104
CANCEL_REQUEST_CODE = 80877102

MAX_STARTUP_LENGTH = 10_000
"""Bytes; PostgreSQL's MAX_STARTUP_PACKET_LENGTH (libpq/pqcomm.h)."""

MAX_CANCEL_KEY = 256
"""Bytes, since protocol 3.2; in 3.0 a key has 4."""

_HEAD = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest: answered with one byte."""

    gss: bool


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """The key of the session whose query is to be cancelled."""

    process_id: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """Protocol version and parameters: user, database, options, settings."""

    minor: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    protocol_options: tuple[str, ...] = ()
    """Names that start with `_pq_.`, none of which Penstock knows."""


Opening = EncryptionRequest | CancelRequest | StartupMessage


def needed(data: bytes) -> int:
    """Bytes that the packet at the start of `data` has in all (at least 8 are always needed).

    Raises ProtocolViolation for a length that no startup packet has.
    """
    if len(data) < 8:
        return 8
    length, _ = _HEAD.unpack_from(data)
    if not 8 <= length <= MAX_STARTUP_LENGTH:
        raise ProtocolViolation(
            f"startup packet of {length} bytes: this is not a PostgreSQL client, or one that "
            f"speaks TLS before asking for it"
        )
    return int(length)


def decode(packet: bytes) -> Opening:
    """The packet, whose length `needed` has given. Raises ProtocolViolation."""
    length, code = _HEAD.unpack_from(packet)
    if code == SSL_REQUEST_CODE:
        return EncryptionRequest(gss=False)
    if code == GSSENC_REQUEST_CODE:
        return EncryptionRequest(gss=True)
    if code == CANCEL_REQUEST_CODE:
        if not 13 <= length <= 12 + MAX_CANCEL_KEY:
            raise ProtocolViolation(f"CancelRequest with a key of {length - 12} bytes")
        return CancelRequest(int.from_bytes(packet[8:12]), packet[12:])
    if code >> 16 != 3:
        raise ProtocolViolation(
            f"protocol {code >> 16}.{code & 0xFFFF} is not supported: use protocol 3.0 to 3.2"
        )
    return _startup(code & 0xFFFF, packet[8:])


def _startup(minor: int, body: bytes) -> StartupMessage:
    if not body.endswith(b"\0"):
        raise ProtocolViolation("startup packet does not end with a zero byte")
    fields = body[:-1].split(b"\0")
    if fields[-1] == b"":
        fields.pop()
    if len(fields) % 2:
        raise ProtocolViolation("startup packet has a parameter without a value")
    try:
        texts = [item.decode() for item in fields]
    except UnicodeDecodeError:
        raise ProtocolViolation("startup packet has a parameter that is not UTF-8") from None
    parameters = dict(zip(texts[::2], texts[1::2], strict=True))
    options = tuple(name for name in parameters if name.startswith("_pq_."))
    for name in options:
        del parameters[name]
    return StartupMessage(minor, parameters, options)


def encode_startup(parameters: Mapping[str, str]) -> bytes:
    """A StartupMessage for protocol 3.0."""
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return _HEAD.pack(len(body) + 8, PROTOCOL_3_0) + body


def encode_cancel(process_id: int, secret: bytes) -> bytes:
    """A CancelRequest."""
    return (
        _HEAD.pack(12 + len(secret), CANCEL_REQUEST_CODE) + struct.pack(">I", process_id) + secret
    )


def spoken_minor(opening: StartupMessage) -> int:
    """The minor version that is spoken with this client: what it asks for, or the newest known."""
    return min(opening.minor, NEWEST_MINOR)


def negotiation(opening: StartupMessage) -> bytes:
    """NegotiateProtocolVersion, where the client asks for a newer version than is known or for
    protocol options, of which none is; nothing otherwise. Source: ProcessStartupPacket in
    PostgreSQL's backend_startup.c."""
    if opening.minor <= NEWEST_MINOR and not opening.protocol_options:
        return b""
    return negotiate_version(spoken_minor(opening), opening.protocol_options)


def negotiate_version(minor: int, options: tuple[str, ...]) -> bytes:
    """NegotiateProtocolVersion: 3.`minor` is spoken, and these options are unknown."""
    body = struct.pack(">II", PROTOCOL_3_0 | minor, len(options))
    body += b"".join(name.encode() + b"\0" for name in options)
    return b"v" + struct.pack(">I", len(body) + 4) + body


def parse_options(options: str) -> dict[str, str]:
    """Settings in a startup packet's `options`: `-c name=value` and `--name=value`.

    Backslashes escape spaces, as in PostgreSQL's pg_split_opts (postinit.c).
    Raises ValueError for switches that are no settings.
    """
    words = _split_options(options)
    settings: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        if word == "-c" and position + 1 < len(words):
            position += 1
            assignment = words[position]
        elif (word.startswith("-c") and len(word) > 2) or word.startswith("--"):
            assignment = word[2:]
        else:
            raise ValueError(f"option {word!r} is not of the form -c name=value")
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"option {assignment!r} needs a value: name=value")
        settings[name.replace("-", "_")] = value
        position += 1
    return settings


def _split_options(options: str) -> list[str]:
    words: list[str] = []
    word: list[str] | None = None
    escaped = False
    for character in options:
        if escaped:
            word = [*(word or []), character]
            escaped = False
        elif character == "\\":
            escaped = True
        elif character.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = [*(word or []), character]
    if word is not None:
        words.append("".join(word))
    return words
