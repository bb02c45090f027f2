"""What routing needs of the shard map. `proxy.sharding.shardmap` implements it."""

from typing import Protocol

from proxy.sql.statement import Literal, TableRef


class ShardMap(Protocol):
    """Which tables are sharded, by which column, and where a key's rows are.

    The look-ups return the shard's number from 0, or None for a value that no row can have (NULL,
    out of the key's range). They raise `proxy.routing.route.ShardRefused` for a value that can't be
    read as the key's type.
    """

    @property
    def count(self) -> int:
        """How many shards there are; 0 when sharding is off."""

    @property
    def tables(self) -> frozenset[str]:
        """Bare names of the sharded tables."""

    def key_column(self, table: TableRef) -> str | None:
        """The key column of `table`, or None if it is not sharded."""

    def shard_of_literal(self, table: TableRef, value: Literal) -> int | None:
        """The shard of a constant written in the statement."""

    def shard_of_parameter(
        self, table: TableRef, value: bytes | None, binary: bool, oid: int, cast: str | None
    ) -> int | None:
        """The shard of a bound value: its bytes and format, its type's OID as in Parse (0 unknown)
        and the type of a cast written around the parameter."""


class NoShards:
    """The map of a database without sharded tables."""

    count = 0
    tables: frozenset[str] = frozenset()

    def key_column(self, table: TableRef) -> str | None:
        return None

    def shard_of_literal(self, table: TableRef, value: Literal) -> int | None:
        return None

    def shard_of_parameter(
        self, table: TableRef, value: bytes | None, binary: bool, oid: int, cast: str | None
    ) -> int | None:
        return None
