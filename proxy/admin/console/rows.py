"""Rows of the console's answers: typed columns, and their bytes in text and binary format.

Source: PostgreSQL documentation, "Message Formats" (RowDescription, DataRow); pg_type.dat.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.wire.messages import message

Value = str | int | float | bool | None
Row = tuple[Value, ...]

TEXT_FORMAT: Final = 0
BINARY_FORMAT: Final = 1

_COUNT = struct.Struct(">h")
_LENGTH = struct.Struct(">i")
_FIELD = struct.Struct(">IhIhih")


@dataclass(frozen=True, slots=True)
class Type:
    """A PostgreSQL type that columns have; `size` in bytes, -1 where it varies."""

    oid: int
    size: int


TEXT: Final = Type(25, -1)
INTEGER: Final = Type(20, 8)
NUMBER: Final = Type(701, 8)
BOOLEAN: Final = Type(16, 1)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer."""

    name: str
    type: Type = TEXT


Columns = tuple[Column, ...]


def columns(texts: str = "", *more: Column) -> Columns:
    """Columns from their names, separated by spaces: text, or as "name:int", "name:number" or
    "name:bool" says."""
    kinds = {"": TEXT, "int": INTEGER, "number": NUMBER, "bool": BOOLEAN}
    named = (word.partition(":") for word in texts.split())
    return (*(Column(name, kinds[kind]) for name, _, kind in named), *more)


def row_description(described: Columns, formats: Sequence[int] = ()) -> bytes:
    """RowDescription; `formats` as in `formats_of`."""
    fields = zip(described, formats_of(described, formats), strict=True)
    body = b"".join(
        column.name.encode()
        + b"\0"
        + _FIELD.pack(0, 0, column.type.oid, column.type.size, -1, format_code)
        for column, format_code in fields
    )
    return message(b"T", _COUNT.pack(len(described)) + body)


def data_row(described: Columns, row: Row, formats: Sequence[int] = ()) -> bytes:
    """DataRow; `formats` as in `formats_of`."""
    parts = [_COUNT.pack(len(row))]
    codes = formats_of(described, formats)
    for column, value, format_code in zip(described, row, codes, strict=True):
        if value is None:
            parts.append(_LENGTH.pack(-1))
            continue
        encoded = _binary(column.type, value) if format_code == BINARY_FORMAT else _text(value)
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return message(b"D", b"".join(parts))


def formats_of(described: Columns, formats: Sequence[int]) -> Sequence[int]:
    """The format code of each column from those of a Bind: none means text, one is for all.

    Raises ValueError where there are as many as fit neither.
    """
    if len(formats) == len(described):
        return formats
    if len(formats) > 1:
        raise ValueError(f"{len(formats)} result formats for {len(described)} columns")
    return tuple(formats or (TEXT_FORMAT,)) * len(described)


def _text(value: str | float) -> bytes:
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return str(value).encode("utf-8", "replace")


def _binary(kind: Type, value: str | float) -> bytes:
    if kind is INTEGER:
        return struct.pack(">q", int(value))
    if kind is NUMBER:
        return struct.pack(">d", float(value))
    if kind is BOOLEAN:
        return b"\1" if value else b"\0"
    return _text(value)
