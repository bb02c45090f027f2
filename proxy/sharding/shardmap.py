"""The shard map that the configuration gives: tables, key columns and PostgreSQL's hash."""

from dataclasses import dataclass

from proxy.config.settings import ShardedTable, ShardingSettings
from proxy.routing.route import ShardRefused
from proxy.sharding.hash import shard_of
from proxy.sharding.keys import (
    TYPES_BY_NAME,
    Key,
    KeyType,
    UnreadableKey,
    key_from_binary,
    key_from_number,
    key_from_text,
    parameter_type,
)
from proxy.sql.statement import Literal, TableRef


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str | None
    name: str
    column: str
    type: KeyType


class HashShardMap:
    """Implements `proxy.routing.shards.ShardMap` for `[sharding]` of one database.

    A table configured by its bare name is sharded in every schema; "schema.name" is sharded there,
    and where a statement leaves the schema out.
    """

    def __init__(self, settings: ShardingSettings) -> None:
        self._tables: dict[str, list[_Table]] = {}
        if settings.enabled:
            for table in map(_table, settings.tables):
                self._tables.setdefault(table.name, []).append(table)
        self.count = len(settings.shards) if settings.enabled else 0
        self.tables = frozenset(self._tables)

    def key_column(self, table: TableRef) -> str | None:
        found = self._find(table)
        return found.column if found else None

    def shard_of_literal(self, table: TableRef, value: Literal) -> int | None:
        if value.text is None:
            return None
        sharded = self._sharded(table)
        read = key_from_text if value.quoted else key_from_number
        try:
            return self._shard(read(value.text, sharded.type))
        except UnreadableKey as error:
            raise _refused(sharded, f"the value {value.text[:40]!r}", error) from None

    def shard_of_parameter(
        self, table: TableRef, value: bytes | None, binary: bool, oid: int, cast: str | None
    ) -> int | None:
        if value is None:
            return None
        sharded = self._sharded(table)
        key = sharded.type
        try:
            # The common case first: no OID and no cast, or just the key's own type.
            sent_as = key if oid == key.oid and cast is None else parameter_type(oid, cast, key)
            if binary:
                return self._shard(key_from_binary(value, sent_as, key))
            return self._shard(key_from_text(_decoded(value), key))
        except UnreadableKey as error:
            raise _refused(sharded, "a parameter", error) from None

    def _shard(self, key: Key) -> int | None:
        return None if key is None else shard_of(key, self.count)

    def _find(self, table: TableRef) -> _Table | None:
        for each in self._tables.get(table.name, ()):
            if each.schema is None or table.schema is None or each.schema == table.schema:
                return each
        return None

    def _sharded(self, table: TableRef) -> _Table:
        found = self._find(table)
        if found is None:
            raise KeyError(f"{table} is not a sharded table")
        return found


def _table(settings: ShardedTable) -> _Table:
    schema, _, name = settings.name.rpartition(".")
    return _Table(schema or None, name, settings.key, TYPES_BY_NAME[settings.type])


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UnreadableKey("it is not valid UTF-8") from None


def _refused(table: _Table, what: str, error: UnreadableKey) -> ShardRefused:
    return ShardRefused(
        error.sqlstate,
        f"{what} for the shard key {table.name}.{table.column} ({table.type.name}) "
        f"can't be read: {error}",
        f"Give {table.column} as a {table.type.name}: a constant, or a parameter of that type.",
    )
