"""Messages as bytes, both ways: type byte, length (itself included, type not), body.

Source: PostgreSQL documentation, "Message Formats" (protocol 3.0).
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

_UINT32 = struct.Struct(">I")
_INT16 = struct.Struct(">h")

PARSE_COMPLETE: Final = b"1\0\0\0\4"
BIND_COMPLETE: Final = b"2\0\0\0\4"
CLOSE_COMPLETE: Final = b"3\0\0\0\4"
NO_DATA: Final = b"n\0\0\0\4"
EMPTY_QUERY: Final = b"I\0\0\0\4"
NO_PARAMETERS: Final = b"t\0\0\0\6\0\0"
READY_IDLE: Final = b"Z\0\0\0\5I"
READY_IN_TRANSACTION: Final = b"Z\0\0\0\5T"
READY_FAILED: Final = b"Z\0\0\0\5E"
SYNC: Final = b"S\0\0\0\4"
FLUSH: Final = b"H\0\0\0\4"
TERMINATE: Final = b"X\0\0\0\4"
AUTHENTICATION_OK: Final = b"R\0\0\0\x08\0\0\0\0"

TEXT_OID = 25


def message(type_byte: bytes, body: bytes) -> bytes:
    """One message."""
    return type_byte + _UINT32.pack(len(body) + 4) + body


def ready_for_query(status: int) -> bytes:
    """ReadyForQuery; `status` is the byte I, T or E."""
    return b"Z\0\0\0\5" + bytes((status,))


def query(sql: str | bytes) -> bytes:
    """A simple Query."""
    text = sql.encode() if isinstance(sql, str) else sql
    return b"Q" + _UINT32.pack(len(text) + 5) + text + b"\0"


def parse(name: bytes, text_and_types: bytes) -> bytes:
    """Parse; `text_and_types` is the body after the name, as a client sent it."""
    return b"P" + _UINT32.pack(len(name) + 5 + len(text_and_types)) + name + b"\0" + text_and_types


def close_statement(name: bytes) -> bytes:
    """Close of a prepared statement; closing one that doesn't exist is no error."""
    return b"C" + _UINT32.pack(len(name) + 6) + b"S" + name + b"\0"


def describe_statement(name: bytes) -> bytes:
    """Describe of a prepared statement."""
    return b"D" + _UINT32.pack(len(name) + 6) + b"S" + name + b"\0"


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus."""
    return message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def backend_key_data(process_id: int, secret: bytes) -> bytes:
    """BackendKeyData: what a client needs to cancel."""
    return message(b"K", _UINT32.pack(process_id) + secret)


def command_complete(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", tag.encode() + b"\0")


def text_row_description(columns: Sequence[str]) -> bytes:
    """RowDescription of text columns that belong to no table."""
    body = _INT16.pack(len(columns)) + b"".join(
        name.encode() + b"\0" + struct.pack(">IhIhih", 0, 0, TEXT_OID, -1, -1, 0)
        for name in columns
    )
    return message(b"T", body)


def data_row(values: Iterable[str | None]) -> bytes:
    """DataRow of text values."""
    parts = []
    for value in values:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            encoded = value.encode()
            parts.append(_UINT32.pack(len(encoded)) + encoded)
    return message(b"D", _INT16.pack(len(parts)) + b"".join(parts))


def text_result(columns: Sequence[str], rows: Sequence[Sequence[str | None]], tag: str) -> bytes:
    """RowDescription, rows and CommandComplete: the answer to a simple Query, less its end."""
    return (
        text_row_description(columns) + b"".join(data_row(row) for row in rows)
    ) + command_complete(tag)
