"""One connection to a node, and the one question that is asked over it again and again."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog

from proxy.topology.connect import LOST, Connection, Deadline, Login, Prepared, connect, reason
from proxy.topology.node import Address
from proxy.topology.positions import WalLayout
from proxy.topology.reading import Identity, Reading

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_IDENTITY = """
SELECT (SELECT system_identifier FROM pg_control_system()) AS system,
       pg_size_bytes(current_setting('wal_segment_size')) AS segment_size,
       current_setting('wal_block_size')::int AS page_size
"""

# A replica's timeline is that of its stream. The control file's is that of what was made durable,
# minutes ago perhaps: it serves where there is no stream, or no right to see it
# (pg_read_all_stats).
_READING = """
SELECT recovery,
       CASE WHEN NOT recovery THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END AS inserted,
       CASE WHEN NOT recovery THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END AS flushed,
       CASE WHEN recovery THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END AS replayed,
       CASE WHEN recovery THEN pg_is_wal_replay_paused() ELSE false END AS paused,
       CASE WHEN recovery THEN
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
       END AS commit_age,
       CASE WHEN recovery THEN coalesce(
           (SELECT received_tli FROM pg_stat_wal_receiver),
           (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)
            FROM pg_control_checkpoint() c, pg_control_recovery() r))
       ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
       END AS timeline
FROM (SELECT pg_is_in_recovery() AS recovery OFFSET 0) AS state
"""

# A transaction that has written WAL flushes, when it commits, all WAL before it.
_FLUSH = "SELECT pg_logical_emit_message(true, 'penstock', '')"


class Unreachable(Exception):
    """The node can't be asked; the text says why. `is_there`: not for want of its database."""

    is_there = True


class Probe:
    """An open connection to one node, made by `open`. Of no more use after `Unreachable`."""

    def __init__(
        self,
        connection: Connection,
        statement: Prepared,
        identity: Identity,
        patience: float,
    ) -> None:
        self.identity = identity
        self._connection = connection
        self._statement = statement
        self._patience = patience
        self._timeline = 0
        self._may_flush = True

    @classmethod
    async def open(cls, address: Address, login: Login, patience: float) -> "Probe":
        """Connect. An answer that takes longer than `patience` seconds, now or later, is a failure.

        Raises `Unreachable`.
        """
        try:
            connection = await connect(address, login, patience, "monitor")
        except TimeoutError as error:
            raise Unreachable(f"no connection within {patience:g} s") from error
        except LOST as error:
            unreachable = Unreachable(reason(error))
            unreachable.is_there = not isinstance(error, asyncpg.InvalidCatalogNameError)
            raise unreachable from error
        try:
            row = await _answer(connection, patience, lambda: connection.fetchrow(_IDENTITY))
            assert row is not None  # no FROM, so always one row
            statement = await _answer(
                connection,
                patience,
                lambda: connection.prepare(_READING, name="penstock_monitor"),
            )
        except BaseException:
            connection.terminate()
            raise
        layout = WalLayout(row["segment_size"], row["page_size"])
        return cls(connection, statement, Identity(row["system"], layout), patience)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Have `callback` called as soon as the connection ends."""
        self._connection.add_termination_listener(lambda _: callback())

    async def read(self) -> Reading:
        """Ask once. Raises `Unreachable`."""
        asked_at = time.monotonic()
        row = await _answer(self._connection, self._patience, self._statement.fetchrow)
        assert row is not None
        # Never falls while a server runs, also where the stream that told it has ended since.
        self._timeline = max(self._timeline, row["timeline"])
        return Reading(
            asked_at=asked_at,
            round_trip=time.monotonic() - asked_at,
            in_recovery=row["recovery"],
            timeline=self._timeline,
            inserted=row["inserted"],
            flushed=row["flushed"],
            replayed=row["replayed"],
            paused=row["paused"],
            commit_age=row["commit_age"],
        )

    async def flush(self) -> None:
        """Have a primary flush its WAL. Raises `Unreachable`; does nothing where not permitted."""
        if not self._may_flush:
            return
        try:
            await _answer(
                self._connection, self._patience, lambda: self._connection.execute(_FLUSH)
            )
        except Unreachable as error:
            if not isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
                raise
            self._may_flush = False
            log.warning("unflushed WAL will keep reads off replicas for seconds", error=str(error))

    def close(self) -> None:
        """Drop the connection."""
        self._connection.terminate()


async def _answer(connection: Connection, patience: float, ask: Callable[[], Awaitable[_T]]) -> _T:
    deadline = Deadline(connection, patience)
    try:
        with deadline:
            return await ask()
    except LOST as error:
        if deadline.passed:
            text = f"no answer within {patience:g} s"
        elif isinstance(error, asyncpg.InterfaceError) and connection.is_closed():
            text = "the connection was lost"
        else:
            text = reason(error)
        raise Unreachable(text) from error
