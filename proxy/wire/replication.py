"""Messages of a replication stream, inside CopyData, both ways.

Source: PostgreSQL documentation, "Streaming Replication Protocol". Times are microseconds since
2000-01-01, by the sender's clock.
"""

import struct
from dataclasses import dataclass
from typing import Final

from proxy.wire.errors import ProtocolViolation
from proxy.wire.messages import message

_DATA: Final = struct.Struct(">QQq")
_KEEPALIVE: Final = struct.Struct(">QqB")
_STATUS: Final = struct.Struct(">cQQQqB")


@dataclass(frozen=True, slots=True)
class XLogData:
    """A piece of the stream."""

    start: int
    """Where in the WAL it comes from."""
    end: int
    """The end of WAL on the server, as far as it said."""
    sent_at: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The primary's sign of life."""

    end: int
    """The server has sent all there is to send of the WAL up to here."""
    sent_at: int
    reply_requested: bool


def decode_stream(data: bytes) -> XLogData | Keepalive:
    """What one CopyData of a server holds. Raises ProtocolViolation."""
    kind = data[:1]
    if kind == b"w" and len(data) > _DATA.size:
        start, end, sent_at = _DATA.unpack_from(data, 1)
        return XLogData(start, end, sent_at, data[1 + _DATA.size :])
    if kind == b"k" and len(data) == 1 + _KEEPALIVE.size:
        end, sent_at, reply = _KEEPALIVE.unpack_from(data, 1)
        if reply > 1:
            raise ProtocolViolation(f"a keepalive asks for a reply by {reply}, not 0 or 1")
        return Keepalive(end, sent_at, reply == 1)
    raise ProtocolViolation(f"a replication stream sent {len(data)} bytes of kind {kind!r}")


def standby_status(
    written: int, flushed: int, applied: int, sent_at: int, *, reply: bool = False
) -> bytes:
    """A standby status update as CopyData. `flushed` is what the server may forget; `reply` asks
    for a keepalive at once."""
    return message(b"d", _STATUS.pack(b"r", written, flushed, applied, sent_at, reply))
