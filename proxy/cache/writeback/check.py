"""The question that is put to the primary before a write is acknowledged: would it succeed?

It is asked as the client, in the client's settings, and has the server itself turn the values into
those of the columns' types: what can't be turned, and what the client may not write, fails here,
and the statement then goes the ordinary way, on which the client gets the server's own error.
Constants are parameters of the question, so that it is the same for all statements of a shape.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.cache.writeback.entry import Cell, Entry, key_member
from proxy.cache.writeback.target import Column, Target, Unique, may_be_key
from proxy.sql.quoting import identifier, literal
from proxy.sql.single_row import (
    BOOLEAN,
    NULL,
    NUMBER,
    PARAMETER,
    STRING,
    Assignment,
    SingleRow,
    Value,
)

_INTEGERS: Final = {"int2": 1 << 15, "int4": 1 << 31, "int8": 1 << 63}
_NUMERIC: Final = frozenset({*_INTEGERS, "float4", "float8", "numeric"})
_DECIMAL: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INTEGER: Final = re.compile(r"[+-]?\d{1,18}")
_TEXT: Final = 25
_MOST_ADDED: Final = 1_000_000
"""Larger sums go the ordinary way: what waits together must not overflow a column."""
_CASTS: Final = {
    "bigint": 20, "bool": 16, "boolean": 16, "bytea": 17, "date": 1082, "decimal": 1700,
    "float4": 700, "float8": 701, "int": 23, "int2": 21, "int4": 23, "int8": 20, "integer": 23,
    "json": 114, "jsonb": 3802, "numeric": 1700, "real": 700, "smallint": 21, "text": 25,
    "timestamp": 1114, "timestamptz": 1184, "uuid": 2950, "varchar": 1043,
}  # fmt: skip
"""Type OIDs by the words for them. Source: PostgreSQL, pg_type.dat."""
_FAMILIES: Final = (
    frozenset({20, 21, 23, 700, 701, 1700}),
    frozenset({25, 1043}),
    frozenset({1082, 1114, 1184}),
)
"""Types of which an assignment takes one for the other as an explicit cast does."""
_KEY_FAMILIES: Final = (frozenset({20, 21, 23}), frozenset({25, 1043}))


class Unsuited(Exception):
    """The statement is not written back; the text says why."""


class Given(NamedTuple):
    """A parameter of the question: the client's of that `number`, or a constant where it is 0."""

    number: int
    constant: bytes
    oid: int
    """As in Parse."""


@dataclass(frozen=True, slots=True)
class Check:
    """A question about one statement, and how to read the answer."""

    sql: str
    given: tuple[Given, ...]
    target: Target
    row: SingleRow
    columns: tuple[Column, ...]
    """Of `row.assigned`, in order."""
    unique: tuple[Unique, ...]
    """Whose keys an INSERT gives whole."""

    def entry(
        self, answer: Sequence[bytes | None], epochs: frozenset[str]
    ) -> tuple[Entry, list[bytes]]:
        """The write, and the keys that it takes. Raises Unsuited."""
        oid, allowed, fits, found = answer[:4]
        if oid is None or int.from_bytes(oid) != self.target.oid:
            raise Unsuited("its table is another one here")
        if allowed != b"\1":
            raise Unsuited("the client may not write to the table")
        if fits != b"\1":
            raise Unsuited("a value does not fit its column")
        if self.row.inserts and found != b"\0":
            raise Unsuited("there is a row with its key already")
        if not self.row.inserts and found != b"\1":
            raise Unsuited("there is no row with its key")
        values = answer[4:]
        cells = tuple(
            Cell(column.name, column.type_oid, value, one.adds)
            for column, value, one in zip(self.columns, values, self.row.assigned, strict=False)
        )
        keys = tuple(
            Cell(one.column, _key_oid(self.target.columns[one.column]), value)
            for one, value in zip(self.row.keys, values[len(cells) :], strict=True)
        )
        given = {cell.column: cell.value for cell in cells}
        taken = [
            key_member(one.oid, [given[column] for column in one.columns]) for one in self.unique
        ]
        entry = Entry(self.target.oid, cells, keys, tuple(sorted(epochs)))
        return entry, [member for member in taken if member is not None]


def check(row: SingleRow, targets: Sequence[Target], parameter_oids: Sequence[int]) -> Check:
    """The question about a statement; `parameter_oids`: as in Parse, 0 for those left open. Raises
    Unsuited."""
    target = _target(row, targets)
    assigned = _named(row, target)
    row = SingleRow(row.schema, row.table, row.source, assigned, row.keys)
    columns = tuple(_column(target, one.column) for one in assigned)
    unique = tuple(_whole_keys(row, target)) if row.inserts else ()
    if row.inserts:
        _check_omitted(row, target)
    else:
        _check_update(row, target)
    values = _Values(parameter_oids)
    sources = [
        values.source(one.value, column, _FAMILIES)
        for one, column in zip(assigned, columns, strict=True)
    ]
    typed = [f"({one})::{column.shown}" for one, column in zip(sources, columns, strict=True)]
    keys = [_key(one.value, target.columns[one.column], values) for one in row.keys]
    fits = " AND ".join(["true", *_fits(assigned, columns, sources, typed)])
    sql = (
        f"SELECT {literal(row.source)}::regclass::oid, "
        f"has_table_privilege({literal(row.source)}::regclass, "
        f"'{'INSERT' if row.inserts else 'UPDATE'}') "
        "AND current_setting('transaction_read_only') = 'off', "
        f"{fits}, {_found(row, unique, assigned, columns, typed, keys)}"
        + "".join(f", {one}" for one in (*typed, *keys))
    )
    return Check(sql, tuple(values.given), target, row, columns, unique)


def _target(row: SingleRow, targets: Sequence[Target]) -> Target:
    found = [
        one
        for one in targets
        if one.name == row.table and (row.schema is None or one.schema == row.schema)
    ]
    if len(found) != 1:
        raise Unsuited(f"there are {len(found)} tables of its name")
    if found[0].obstacle is not None:
        raise Unsuited(f"of its table: {found[0].obstacle}")
    return found[0]


def _named(row: SingleRow, target: Target) -> tuple[Assignment, ...]:
    """What is assigned, with the columns' names where an INSERT leaves them to their order."""
    if row.assigned[0].column:
        named = row.assigned
    elif len(row.assigned) > len(target.columns):
        raise Unsuited("it gives more values than the table has columns")
    else:
        named = tuple(
            Assignment(name, one.value)
            for name, one in zip(target.columns, row.assigned, strict=False)
        )
    if len({one.column for one in named}) != len(named):
        raise Unsuited("it names a column twice")
    return named


def _column(target: Target, name: str) -> Column:
    found = target.columns.get(name)
    if found is None:
        raise Unsuited(f"the table has no column {name}")
    if found.obstacle is not None:
        raise Unsuited(f"of the column {name}: {found.obstacle}")
    return found


def _check_omitted(row: SingleRow, target: Target) -> None:
    given = {one.column for one in row.assigned}
    for column in target.columns.values():
        if column.name not in given and not column.omissible:
            raise Unsuited(f"it leaves out {column.name}, whose default depends on the time")
    for one in target.unique:
        omitted = [name for name in one.columns if name not in given]
        if not omitted and not one.plain:
            raise Unsuited("a unique index of the table is partial, deferred, or on expressions")
        if omitted and not any(target.columns[name].fresh for name in omitted):
            raise Unsuited("it leaves out a part of a unique key that has a constant default")


def _whole_keys(row: SingleRow, target: Target) -> Iterator[Unique]:
    given = {one.column for one in row.assigned}
    for one in target.unique:
        if set(one.columns) <= given:
            for name in one.columns:
                if not may_be_key(target.columns[name]):
                    raise Unsuited(f"{name} is part of a key, and equal values of it may differ")
            yield one


def _check_update(row: SingleRow, target: Target) -> None:
    names = {one.column for one in row.keys}
    if len(names) != len(row.keys):
        raise Unsuited("it names a key column twice")
    if not any(one.plain and one.columns and set(one.columns) == names for one in target.unique):
        raise Unsuited("what it compares are not the columns of a unique key")
    for name in names:
        if not may_be_key(_column(target, name)):
            raise Unsuited(f"{name} is part of a key, and equal values of it may differ")
    held = {name for one in target.unique for name in one.columns}
    if any(not one.plain for one in target.unique):
        raise Unsuited("a unique index of the table is partial, deferred, or on expressions")
    changed = held & {one.column for one in row.assigned}
    if changed:
        raise Unsuited(f"it changes {min(changed)}, which is part of a key")


def _key(value: Value, column: Column, values: "_Values") -> str:
    """The value that a key is compared with."""
    if value.kind == NUMBER and not _INTEGER.fullmatch(value.text or ""):
        raise Unsuited("a key is compared with what is no whole number")
    source = values.source(value, column, _KEY_FAMILIES)
    return f"({source})::{'text' if column.type == 'varchar' else column.shown}"


def _key_oid(column: Column) -> int:
    return _TEXT if column.type == "varchar" else column.type_oid


class _Values:
    """The values of a statement as parameters of the question."""

    def __init__(self, parameter_oids: Sequence[int]) -> None:
        self._oids = parameter_oids
        self._seen: set[int] = set()
        self.given: list[Given] = []

    def source(self, value: Value, column: Column, families: Sequence[frozenset[int]]) -> str:
        """The value as SQL. Raises Unsuited where an assignment may refuse what a cast takes."""
        declared = 0
        if value.kind == PARAMETER:
            if value.parameter in self._seen:
                raise Unsuited("it uses a parameter twice")
            self._seen.add(value.parameter)
            if 0 < value.parameter <= len(self._oids):
                declared = self._oids[value.parameter - 1]
        cast = _cast(value, declared, families)
        if value.kind == NUMBER and column.type not in _NUMERIC:
            raise Unsuited(f"{column.name} is given a number")
        if value.kind == BOOLEAN and column.type != "bool":
            raise Unsuited(f"{column.name} is given a boolean")
        kind = cast or declared
        if kind and not _alike(kind, column.type_oid, families):
            raise Unsuited(f"{column.name} is given a value of another type")
        source = self._place(value, declared)
        return f"({source})::{value.cast}" if value.cast else source

    def _place(self, value: Value, declared: int) -> str:
        text = value.text
        if value.kind in (NULL, BOOLEAN):
            return str(text)
        if text is None or (value.kind == NUMBER and not _DECIMAL.fullmatch(text)):
            raise Unsuited("a constant is written in an unusual way")
        constant = b"" if value.kind == PARAMETER else text.encode()
        self.given.append(Given(value.parameter, constant, declared))
        place = f"${len(self.given)}"
        return f"{place}::numeric" if value.kind == NUMBER else place


def _cast(value: Value, declared: int, families: Sequence[frozenset[int]]) -> int:
    """The OID of the type that the statement casts it to; 0 for none. Raises Unsuited."""
    if not value.cast:
        return 0
    cast = _CASTS.get(value.cast, 0)
    if not cast or value.kind not in (PARAMETER, STRING, NULL):
        raise Unsuited(f"it casts to {value.cast}")
    if declared and not _alike(declared, cast, families):
        raise Unsuited(f"it casts a parameter of another type to {value.cast}")
    return cast


def _alike(one: int, other: int, families: Sequence[frozenset[int]]) -> bool:
    return one == other or any({one, other} <= family for family in families)


def _fits(
    assigned: Sequence[Assignment],
    columns: Sequence[Column],
    sources: Sequence[str],
    typed: Sequence[str],
) -> Iterator[str]:
    for one, column, source, value in zip(assigned, columns, sources, typed, strict=True):
        if one.adds:
            if column.type not in _INTEGERS:
                raise Unsuited(f"it adds to {column.name}, which is no integer")
            yield f"({value}) BETWEEN -{_MOST_ADDED} AND {_MOST_ADDED}"
        elif column.not_null:
            yield f"({value}) IS NOT NULL"
        if column.length is not None:
            yield f"coalesce(length(({source})::text) <= {column.length}, true)"


def _found(
    row: SingleRow,
    unique: Sequence[Unique],
    assigned: Sequence[Assignment],
    columns: Sequence[Column],
    typed: Sequence[str],
    keys: Sequence[str],
) -> str:
    """Whether there is a row with the key; for sums, one where they leave room for more."""
    if row.inserts:
        given = {one.column: value for one, value in zip(assigned, typed, strict=True)}
        looks = [
            _exists(row, [f"{identifier(name)} = {given[name]}" for name in one.columns])
            for one in unique
        ]
        return " OR ".join(looks) or "false"
    conditions = [
        f"{identifier(one.column)} = {key}" for one, key in zip(row.keys, keys, strict=True)
    ]
    for one, column, value in zip(assigned, columns, typed, strict=True):
        if one.adds:
            half = _INTEGERS[column.type] // 2
            name = identifier(column.name)
            conditions.append(
                f"coalesce({name}::numeric {'+' if one.adds > 0 else '-'} {value} "
                f"BETWEEN -{half} AND {half}, {'false' if column.not_null else 'true'})"
            )
    return _exists(row, conditions)


def _exists(row: SingleRow, conditions: Sequence[str]) -> str:
    return f"EXISTS (SELECT FROM {row.source} WHERE {' AND '.join(conditions)})"
