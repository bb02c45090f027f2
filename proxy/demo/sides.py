"""The two ways to the same data that are compared: through Penstock, and straight to PostgreSQL."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from proxy.sharding.hash import shard_of

try:
    import psycopg
except ImportError:  # only the demonstration's second driver: it does with one
    HAS_PSYCOPG = False
else:
    HAS_PSYCOPG = True


class Side:
    """One way. Through Penstock it has one connection string; without Penstock the application
    must know the primary and every shard, and where each key lives."""

    def __init__(self, number: int, dsn: str, shard_dsns: Sequence[str] = ()) -> None:
        self.number = number
        """0 or 1, for work that must not touch the other side's rows."""
        self.dsn = dsn
        self._shard_dsns = shard_dsns
        self._connection: asyncpg.Connection
        self._shards: list[asyncpg.Connection] = []
        self._prepared: dict[tuple[asyncpg.Connection, str], Any] = {}
        self._closing = AsyncExitStack()
        self.psycopg: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    @property
    def connection(self) -> asyncpg.Connection:
        """To Penstock, or to the primary."""
        return self._connection

    async def __aenter__(self) -> "Side":
        self._connection = await self.open()
        self._shards = [await self.open(dsn) for dsn in self._shard_dsns]
        if HAS_PSYCOPG:
            self.psycopg = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
            self._closing.push_async_callback(self.psycopg.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    async def open(self, dsn: str | None = None) -> asyncpg.Connection:
        """A further connection, closed with this side; default: where `connection` goes."""
        connection = await asyncpg.connect(dsn or self.dsn)
        self._closing.callback(connection.terminate)
        return connection

    async def prepare(self, sql: str, keyed: bool) -> None:
        """Prepare it wherever it may be run, so that only executions are measured.

        `keyed`: it is about a sharded table.
        """
        for connection in self._shards if keyed and self._shards else [self._connection]:
            self._prepared[connection, sql] = await connection.prepare(sql)

    async def fetch(self, sql: str, *arguments: object, key: int | None = None) -> list[Any]:
        """Run what `prepare` prepared. `key`: of the row of a sharded table that it is about."""
        connection = self._connection
        if key is not None and self._shards:
            connection = self._shards[shard_of(key, len(self._shards))]
        rows: list[Any] = await self._prepared[connection, sql].fetch(*arguments)
        return rows
