"""Messages in a run of bytes. Source: PostgreSQL documentation, "Overview of the Protocol"."""

from collections.abc import Iterator


def whole_messages(data: bytes) -> tuple[bytes, bytes]:
    """(the messages that are there whole, the beginning of the next)."""
    position = 0
    while len(data) - position >= 5:
        end = position + 1 + int.from_bytes(data[position + 1 : position + 5])
        if end > len(data):
            break
        position = end
    return data[:position], data[position:]


def split_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each message of `data`, which holds whole messages only."""
    position = 0
    while position < len(data):
        end = position + 1 + int.from_bytes(data[position + 1 : position + 5])
        yield data[position], data[position + 5 : end]
        position = end


def uint32_at(data: bytes, position: int) -> int:
    """The big-endian number in four bytes; shifts, which compile to less than a call of struct."""
    return (
        data[position] << 24
        | data[position + 1] << 16
        | data[position + 2] << 8
        | data[position + 3]
    )
