"""Parameter values of a Bind message. Source: PostgreSQL documentation, "Message Formats", Bind."""

import struct
from dataclasses import dataclass

from proxy.wire.errors import ProtocolViolation


@dataclass(frozen=True, slots=True)
class Parameters:
    """Values, None for NULL, and format codes: none (all text), one for all, or one each."""

    values: tuple[bytes | None, ...]
    formats: tuple[int, ...]

    def format_of(self, index: int) -> int:
        """The format code of one of the values."""
        return self.formats[0 if len(self.formats) == 1 else index] if self.formats else 0


def decode_parameters(body: bytes) -> Parameters:
    """The parameters in a Bind's body from the format codes on. Raises ProtocolViolation."""
    try:
        (count,) = struct.unpack_from(">H", body)
        formats = struct.unpack_from(f">{count}H", body, 2)
        position = 2 + 2 * count
        (count,) = struct.unpack_from(">H", body, position)
        position += 2
        values: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", body, position)
            position += 4
            if length < 0:
                values.append(None)
                continue
            if position + length > len(body):
                raise ProtocolViolation("a Bind message's parameter reaches beyond its end")
            values.append(body[position : position + length])
            position += length
    except struct.error:
        raise ProtocolViolation("a Bind message is too short") from None
    return Parameters(tuple(values), formats)


def first_result_format(body: bytes) -> int:
    """The format code of the result's first column. Raises ProtocolViolation."""
    try:
        (count,) = struct.unpack_from(">H", body)
        position = 2 + 2 * count
        (count,) = struct.unpack_from(">H", body, position)
        position += 2
        for _ in range(count):
            (length,) = struct.unpack_from(">i", body, position)
            position += 4 + max(0, length)
        (count,) = struct.unpack_from(">H", body, position)
        (code,) = struct.unpack_from(">H", body, position + 2) if count else (0,)
        return int(code)
    except struct.error:
        raise ProtocolViolation("a Bind message is too short") from None
