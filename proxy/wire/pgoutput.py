"""What the output plugin pgoutput says of a transaction: decoders, bytes to values.

Protocol version 1, which later versions only add to: streamed and prepared transactions come only
where they are asked for. Rows are decoded where somebody asks for them (`tuples`).

Source: PostgreSQL documentation, "Logical Replication Message Formats".
"""

import struct
from dataclasses import dataclass
from typing import Final

from proxy.wire.errors import ProtocolViolation

_BEGIN: Final = struct.Struct(">QqI")
_COMMIT: Final = struct.Struct(">BQQq")
_UINT32: Final = struct.Struct(">I")
_MESSAGE: Final = struct.Struct(">BQ")
_COLUMN_TYPE: Final = struct.Struct(">Ii")

_LARGEST_TUPLE: Final = 1664
"""Columns of a row at most (MaxTupleAttributeNumber)."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins; all up to its Commit belongs to it."""

    final_lsn: int
    """Where its commit record begins."""
    committed_at: int
    """Microseconds since 2000-01-01, by the server's clock."""
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction is complete."""

    commit_lsn: int
    end_lsn: int
    """Behind its commit record."""
    committed_at: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a transaction that was replicated to the server came from."""

    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class Column:
    """Of a relation."""

    key: bool
    name: str
    type_oid: int
    modifier: int


@dataclass(frozen=True, slots=True)
class Relation:
    """Describes a relation, before its first change and again when it may have changed."""

    oid: int
    schema: str
    """"pg_catalog" where the server sends nothing."""
    name: str
    identity: str
    """pg_class.relreplident: d, n, f or i."""
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """Describes a type that is not built in."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """A row was inserted ("I"), updated ("U") or deleted ("D"). `row`: the tuples, not decoded."""

    kind: str
    relation: int
    row: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """Relations were emptied together."""

    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Message:
    """From pg_logical_emit_message."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


Output = Begin | Commit | Origin | Relation | Type | Change | Truncate | Message


def decode(data: bytes) -> Output:
    """One message. Raises ProtocolViolation for what is malformed, or was not asked for."""
    reader = _Reader(data, 1)
    match data[:1]:
        case b"I" | b"U" | b"D":
            decoded: Output = _change(data, reader)
        case b"B":
            decoded = Begin(*reader.unpack(_BEGIN))
        case b"C":
            _, commit_lsn, end_lsn, at = reader.unpack(_COMMIT)
            decoded = Commit(commit_lsn, end_lsn, at)
        case b"R":
            decoded = _relation(reader)
        case b"T":
            decoded = _truncate(reader)
        case b"M":
            flags, lsn = reader.unpack(_MESSAGE)
            prefix = reader.text()
            decoded = Message(flags & 1 == 1, lsn, prefix, reader.counted())
        case b"O":
            decoded = Origin(reader.unpack(_LSN)[0], reader.text())
        case b"Y":
            decoded = Type(reader.uint32(), reader.text() or "pg_catalog", reader.text())
        case kind:
            raise ProtocolViolation(f"pgoutput sent a message of kind {kind!r}")
    reader.end()
    return decoded


_LSN: Final = struct.Struct(">Q")


class _Reader:
    """Reads on from a position; never past the end."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        start = self._position
        if len(self._data) - start < form.size:
            raise ProtocolViolation("a message of pgoutput ends too early")
        self._position = start + form.size
        values: tuple[int, ...] = form.unpack_from(self._data, start)
        return values

    def byte(self) -> int:
        return self.take(1)[0]

    def uint32(self) -> int:
        return self.unpack(_UINT32)[0]

    def take(self, count: int) -> bytes:
        start = self._position
        if len(self._data) - start < count:
            raise ProtocolViolation("a message of pgoutput ends too early")
        self._position = start + count
        return self._data[start : start + count]

    def counted(self) -> bytes:
        return self.take(self.uint32())

    def text(self) -> str:
        end = self._data.find(b"\0", self._position)
        if end < 0:
            raise ProtocolViolation("a text in a message of pgoutput has no end")
        found = self._data[self._position : end]
        self._position = end + 1
        return found.decode("utf-8", "surrogateescape")

    @property
    def ended(self) -> bool:
        return self._position >= len(self._data)

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._position)

    def end(self) -> None:
        if self._position != len(self._data):
            raise ProtocolViolation("a message of pgoutput is longer than it should be")


def _relation(reader: _Reader) -> Relation:
    oid, schema, name = reader.uint32(), reader.text(), reader.text()
    identity = chr(reader.byte())
    count = int.from_bytes(reader.take(2))
    if count > _LARGEST_TUPLE:
        raise ProtocolViolation(f"pgoutput described a relation of {count} columns")
    columns = []
    for _ in range(count):
        key = reader.byte() & 1 == 1
        column = reader.text()
        type_oid, modifier = reader.unpack(_COLUMN_TYPE)
        columns.append(Column(key, column, type_oid, modifier))
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def _change(data: bytes, reader: _Reader) -> Change:
    kind, relation = chr(data[0]), reader.uint32()
    row = reader.rest()
    if row[:1] not in _TUPLES[kind]:
        raise ProtocolViolation(f"pgoutput sent a row of kind {row[:1]!r} in {kind!r}")
    return Change(kind, relation, row)


_TUPLES: Final = {"I": (b"N",), "U": (b"K", b"O", b"N"), "D": (b"K", b"O")}
"""What the first tuple of a change may be."""


def tuples(change: Change) -> dict[str, list[bytes | None]]:
    """The change's tuples by their kind: K (the replica identity of the old row) or O (all of it),
    N (the new row). A value is its text; None is NULL, a value that was not sent, or one in binary.
    Raises ProtocolViolation."""
    reader = _Reader(change.row, 0)
    found: dict[str, list[bytes | None]] = {}
    while not reader.ended:
        kind = chr(reader.byte())
        count = int.from_bytes(reader.take(2))
        values: list[bytes | None] = []
        for _ in range(count):
            form = reader.byte()
            if form in b"nu":
                values.append(None)
            elif form in b"tb":
                value = reader.counted()
                values.append(value if form == _TEXT else None)
            else:
                raise ProtocolViolation(f"pgoutput sent a value of kind {chr(form)!r}")
        found[kind] = values
    return found


_TEXT: Final = ord("t")


def _truncate(reader: _Reader) -> Truncate:
    count, options = reader.uint32(), reader.byte()
    relations = reader.rest()
    if len(relations) != 4 * count:
        raise ProtocolViolation(f"pgoutput names {len(relations)} bytes of {count} relations")
    oids = struct.unpack(f">{count}I", relations)
    return Truncate(oids, options & 1 == 1, options & 2 == 2)
