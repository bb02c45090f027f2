"""A write as it waits in Redis: table, columns and values in PostgreSQL's binary format.

Values were read from the server itself, in the client's settings, before the write was acknowledged
(see `check`): applying them later depends on no setting any more.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, NamedTuple

from proxy.sql.quoting import identifier


class Position(NamedTuple):
    """Where a write stands among all that one Redis has ever taken; compares in their order.

    `generation` is raised whenever another server, or the same one started anew, takes on: what
    clock it has is of no matter then."""

    generation: int
    milliseconds: int
    sequence: int

    @property
    def id(self) -> bytes:
        """As Redis names it."""
        return b"%d-%d" % (self.milliseconds, self.sequence)


NOWHERE = Position(0, 0, 0)


def position_of(generation: int, stream_id: bytes) -> Position:
    """From what Redis says."""
    milliseconds, _, sequence = stream_id.partition(b"-")
    return Position(generation, int(milliseconds), int(sequence or 0))


@dataclass(frozen=True, slots=True)
class Cell:
    """A column's value, None for NULL. `adds`: +1 or -1 where it is added to what is there."""

    column: str
    type_oid: int
    value: bytes | None
    adds: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One write: an INSERT, or with `keys` an UPDATE. `epochs`: what it invalidates."""

    table_oid: int
    cells: tuple[Cell, ...]
    keys: tuple[Cell, ...]
    epochs: tuple[str, ...]

    def encode(self) -> bytes:
        """As bytes."""
        return json.dumps(
            {
                "table": self.table_oid,
                "cells": [_plain(cell) for cell in self.cells],
                "keys": [_plain(cell) for cell in self.keys],
                "epochs": self.epochs,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Entry":
        """The opposite of `encode`. Raises ValueError."""
        try:
            read = json.loads(data)
            return cls(
                int(read["table"]),
                tuple(map(_cell, read["cells"])),
                tuple(map(_cell, read["keys"])),
                tuple(map(str, read["epochs"])),
            )
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"no entry of write-back: {error!r}") from None


def _plain(cell: Cell) -> list[Any]:
    value = None if cell.value is None else b64encode(cell.value).decode()
    return [cell.column, cell.type_oid, value, cell.adds]


def _cell(plain: Sequence[Any]) -> Cell:
    column, oid, value, adds = plain
    return Cell(str(column), int(oid), None if value is None else b64decode(value), int(adds))


def key_member(index_oid: int, values: Sequence[bytes | None]) -> bytes | None:
    """How a key that a waiting INSERT takes is named in Redis; None where it takes none, as NULLs
    differ from each other."""
    digest = sha1(usedforsecurity=False)
    for value in values:
        if value is None:
            return None
        digest.update(len(value).to_bytes(8))
        digest.update(value)
    return b"%d:%s" % (index_oid, digest.hexdigest().encode())


def statement(entry: Entry, table: str) -> str:
    """The SQL that applies it to `table`, a name as SQL spells it; the parameters are the values
    of cells and keys, in order."""
    names = [identifier(cell.column) for cell in entry.cells]
    if not entry.keys:
        places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})"
    changes = [
        f"{name} = {_sum(name, cell.adds)}${number}"
        for number, (name, cell) in enumerate(zip(names, entry.cells, strict=True), 1)
    ]
    conditions = [
        f"{identifier(cell.column)} = ${number}"
        for number, cell in enumerate(entry.keys, len(names) + 1)
    ]
    return f"UPDATE {table} SET {', '.join(changes)} WHERE {' AND '.join(conditions)}"


def _sum(name: str, adds: int) -> str:
    return f"{name} {'+' if adds > 0 else '-'} " if adds else ""
