"""The shard map that the configuration gives: tables, key columns and PostgreSQL's hash."""

from dataclasses import dataclass

from proxy.config.settings import ShardingSettings
from proxy.routing.route import ShardRefused
from proxy.sharding.hash import shard_of
from proxy.sharding.keys import (
    TYPES_BY_NAME,
    Key,
    KeyType,
    UnreadableKey,
    key_from_constant,
    key_from_parameter,
)
from proxy.sql.statement import Literal, TableRef


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    column: str
    type: KeyType


class HashShardMap:
    """Implements `proxy.routing.shards.ShardMap` for `[sharding]` of one database.

    A sharded table is known by its bare name: a table of that name is sharded in every schema.
    """

    def __init__(self, settings: ShardingSettings) -> None:
        tables = settings.tables if settings.enabled else ()
        self._tables = {
            table.name: _Table(table.name, table.key, TYPES_BY_NAME[table.type]) for table in tables
        }
        self.count = len(settings.shards) if settings.enabled else 0
        self.tables = frozenset(self._tables)

    def key_column(self, table: TableRef) -> str | None:
        found = self._tables.get(table.name)
        return found.column if found else None

    def shard_of_literal(self, table: TableRef, value: Literal) -> int | None:
        if value.text is None:
            return None
        sharded = self._tables[table.name]
        try:
            return self._shard(key_from_constant(value.text, value.quoted, sharded.type))
        except UnreadableKey as error:
            raise _refused(sharded, f"the value {value.text[:40]!r}", error) from None

    def shard_of_parameter(
        self, table: TableRef, value: bytes | None, binary: bool, oid: int, cast: str | None
    ) -> int | None:
        if value is None:
            return None
        sharded = self._tables[table.name]
        try:
            return self._shard(key_from_parameter(value, binary, oid, cast, sharded.type))
        except UnreadableKey as error:
            raise _refused(sharded, "a parameter", error) from None

    def _shard(self, key: Key) -> int | None:
        return None if key is None else shard_of(key, self.count)


def _refused(table: _Table, what: str, error: UnreadableKey) -> ShardRefused:
    return ShardRefused(
        error.sqlstate,
        f"{what} for the shard key {table.name}.{table.column} ({table.type.name}) "
        f"can't be read: {error}",
        f"Give {table.column} as a {table.type.name}: a constant, or a parameter of that type.",
    )
