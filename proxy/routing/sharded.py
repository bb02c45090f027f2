"""Statements on sharded tables: pinned to one shard by their key, or refused."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.routing.plan import Refusal, ShardKey, ShardPlan
from proxy.routing.route import ShardRefused
from proxy.routing.shards import ShardMap
from proxy.sql.statement import Kind, Literal, Parameter, Scan, Statement, TableRef

FEATURE_NOT_SUPPORTED = "0A000"
PROTOCOL_VIOLATION = "08P01"

_KEYED_KINDS = frozenset((Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.EXPLAIN))
_OPAQUE_KINDS = frozenset(
    {Kind.UNKNOWN, Kind.DDL, Kind.DO, Kind.CALL, Kind.UTILITY, Kind.PREPARE, Kind.DECLARE}
    | {Kind.COPY_FROM, Kind.COPY_TO, Kind.LOCK, Kind.TRUNCATE}
)
"""Their tables may not be among the scans, so a sharded table's name in the text counts."""
_OTHER_WAY = {
    Kind.UNKNOWN: "The statement could not be parsed, so its shard is not known: write it more "
    "simply.",
    Kind.DDL: "Connect to each shard and run it there.",
    Kind.UTILITY: "Connect to each shard and run it there.",
    Kind.TRUNCATE: "Connect to each shard and run it there.",
    Kind.LOCK: "Connect to the shard and lock it there.",
    Kind.COPY_FROM: "Use INSERT with the key in each row, or connect to each shard.",
    Kind.COPY_TO: "Use SELECT with the key, or connect to each shard.",
    Kind.PREPARE: "Use a prepared statement of the protocol (Parse) instead of SQL's PREPARE.",
    Kind.DECLARE: "Run the SELECT itself instead of a cursor.",
    Kind.MERGE: "Use INSERT … ON CONFLICT, UPDATE or DELETE with the key.",
}


@dataclass(frozen=True, slots=True)
class _Bound:
    """One parameter that pins a scan."""

    table: TableRef
    column: str
    parameter: Parameter
    stored: bool
    """It is a row's value, so that NULL has a shard too."""


def shard_plan(
    statements: tuple[Statement, ...],
    hidden: tuple[frozenset[str], ...],
    text: str,
    shards: ShardMap,
) -> ShardPlan | Refusal | None:
    """How the statements are pinned to a shard; None if they touch no sharded table.

    `hidden` are the relations that each statement reads through views. Raises nothing: what can't
    be pinned is a `Refusal`.
    """
    if not shards.tables:
        return None
    touched = [_touched(*each, text, shards) for each in zip(statements, hidden, strict=True)]
    if not any(touched):
        return None
    table = next(filter(None, touched))
    if len(statements) > 1:
        return _refuse(
            f"{table} is sharded, and a query string of {len(statements)} statements can't be "
            "pinned to one shard",
            "Send the statements one by one.",
        )
    try:
        return _pin(statements[0], table, shards)
    except ShardRefused as error:
        return Refusal(error.sqlstate, error.message, error.hint)


def _touched(
    statement: Statement, hidden: frozenset[str], text: str, shards: ShardMap
) -> str | None:
    """The name of a sharded table that the statement touches, if any."""
    for scan in statement.scans:
        if shards.key_column(scan.table) is not None:
            return str(scan.table)
    if behind := sorted(name for name in hidden if shards.key_column(TableRef(name)) is not None):
        return behind[0]
    if statement.kind in _OPAQUE_KINDS and not statement.scans:
        return _mentioned(text, shards.tables)
    return None


def _mentioned(text: str, tables: Iterable[str]) -> str | None:
    for table in sorted(tables):
        if re.search(rf"(?<![\w$]){re.escape(table)}(?![\w$])", text, re.IGNORECASE):
            return table
    return None


def _pin(statement: Statement, table: str, shards: ShardMap) -> ShardPlan | Refusal:
    if statement.kind not in _KEYED_KINDS:
        verb = "this statement" if statement.kind is Kind.UNKNOWN else _verb(statement.kind)
        return _refuse(
            f"{table} is sharded, and {verb} can't be pinned to one shard",
            _OTHER_WAY.get(statement.kind, "Connect to the shard and run it there."),
        )
    scans = [(scan, shards.key_column(scan.table)) for scan in statement.scans]
    if refusal := _unfit(statement, scans, table):
        return refusal
    keys: list[ShardKey] = []
    for scan, column in scans:
        values = scan.values_of(column) if column is not None else None
        if column is None or values is None:
            return _unpinned(statement, scan, column)
        keys.append(ShardKey(str(scan.table), column, values))
    return _plan(statement, [scan for scan, _ in scans], tuple(keys), shards)


def _unfit(
    statement: Statement, scans: list[tuple[Scan, str | None]], table: str
) -> Refusal | None:
    """What no key could make good."""
    if not any(column for _, column in scans):
        return _refuse(
            f"the statement reads {table}, which is sharded, through a view",
            f"Select from {table} itself, with its key.",
        )
    others = sorted({str(scan.table) for scan, column in scans if column is None})
    if others:
        return _refuse(
            f"{table} is sharded and {', '.join(others)} is not: they are on different servers",
            "Query the sharded table on its own, and the other tables in a second statement.",
        )
    moved = sorted({c for s, c in scans if c in statement.assigned and s.written and c is not None})
    if moved:
        return _refuse(
            f"{moved[0]} is the shard key of {table} and can't be changed: the row would be on "
            "the wrong shard",
            "Delete the row and insert it with its new key.",
        )
    return None


def _unpinned(statement: Statement, scan: Scan, column: str | None) -> Refusal:
    if statement.kind is Kind.INSERT and scan.written:
        return _refuse(
            f"the rows for {scan.table} have no known {column}, which is its shard key",
            f"Write INSERT INTO {scan.table} (…, {column}, …) VALUES (…) with {column} as a "
            "constant or a parameter in each row.",
        )
    return _refuse(
        f"the statement is not limited to one {column} of {scan.table}, which is its shard key",
        f"Add {column} = <a constant or parameter> to the WHERE clause, for each occurrence of "
        f"{scan.table}.",
    )


def _plan(
    statement: Statement, scans: list[Scan], keys: tuple[ShardKey, ...], shards: ShardMap
) -> ShardPlan:
    fixed: set[int] = set()
    bound: list[_Bound] = []
    for scan, key in zip(scans, keys, strict=True):
        stored = scan.written and statement.kind not in (Kind.UPDATE, Kind.DELETE)
        for value in key.values:
            if isinstance(value, Literal):
                shard = shards.shard_of_literal(scan.table, value)
                if shard is not None or stored:
                    fixed.add(shard or 0)
            else:
                bound.append(_Bound(scan.table, key.column, value, stored))
    resolver = _Resolver(keys[0].table, keys[0].column, frozenset(fixed), tuple(bound), shards)
    shard = resolver((), (), ()) if not bound else None
    if len(fixed) > 1:
        raise resolver.spread(fixed)
    return ShardPlan(keys, shard, resolver)


@dataclass(frozen=True, slots=True)
class _Resolver:
    """`ShardPlan.resolve` for one statement."""

    table: str
    column: str
    fixed: frozenset[int]
    """Shards of the literals."""
    bound: tuple[_Bound, ...]
    shards: ShardMap

    def __call__(
        self, values: tuple[bytes | None, ...], formats: tuple[int, ...], oids: tuple[int, ...]
    ) -> int:
        if len(formats) > 1 and len(formats) != len(values):
            raise ShardRefused(
                PROTOCOL_VIOLATION,
                f"Bind has {len(formats)} parameter formats but {len(values)} parameters",
                "Send no format code, one, or one for each parameter.",
            )
        if not self.fixed and len(self.bound) == 1:  # the common case, without a set
            return self._shard(self.bound[0], values, formats, oids) or 0
        found = set(self.fixed)
        for bound in self.bound:
            shard = self._shard(bound, values, formats, oids)
            if shard is not None:
                found.add(shard)
            elif bound.stored:
                found.add(0)  # NULL hashes to 0; what is out of range the server refuses
        if len(found) > 1:
            raise self.spread(found)
        # Where no row can match, any shard gives the right answer: none.
        return found.pop() if found else 0

    def _shard(
        self,
        bound: _Bound,
        values: tuple[bytes | None, ...],
        formats: tuple[int, ...],
        oids: tuple[int, ...],
    ) -> int | None:
        index = bound.parameter.index - 1
        if not 0 <= index < len(values):
            raise ShardRefused(
                PROTOCOL_VIOLATION,
                f"the shard key {bound.table}.{bound.column} is ${index + 1}, but Bind has "
                f"{len(values)} parameters",
                f"Bind a value for ${index + 1}.",
            )
        code = 0 if not formats else formats[0] if len(formats) == 1 else formats[index]
        oid = oids[index] if index < len(oids) else 0
        return self.shards.shard_of_parameter(
            bound.table, values[index], code == 1, oid, bound.parameter.type
        )

    def spread(self, found: Iterable[int]) -> ShardRefused:
        """The error for values that are on several shards."""
        numbers = " and ".join(map(str, sorted(found)))
        return ShardRefused(
            FEATURE_NOT_SUPPORTED,
            f"the values of {self.column} in this statement on {self.table} are on shards "
            f"{numbers}",
            f"Send one statement for each value of {self.column}.",
        )


def _verb(kind: Kind) -> str:
    return "a schema change" if kind is Kind.DDL else kind.value.upper().replace("_", " ")


def _refuse(message: str, hint: str) -> Refusal:
    return Refusal(FEATURE_NOT_SUPPORTED, message, hint)
