"""Reads one slot from its beginning to the loss of the connection, and invalidates what it tells.

    stream ──▶ Gathering ──▶ Progress ──snapshot──▶ move epochs ──▶ publish ──▶ confirm
               (on arrival)            (one round at a time)

A position is confirmed to the server only after Redis has it, so what the server forgets has been
invalidated. What can't be invalidated, as Redis is away, waits; the server is read from no more
once much of it does.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from proxy.cache.errors import CacheUnavailable
from proxy.cache.feed import slot
from proxy.cache.feed.gathering import Gathering, KeyOf, epochs_touched
from proxy.cache.feed.position import Position, follows
from proxy.cache.feed.progress import Pending, Progress
from proxy.cache.feed.store import FeedStore
from proxy.cache.keys import EVERYTHING, SCHEMA
from proxy.cache.statistics import BY_FEED
from proxy.config.cache_settings import FeedSettings
from proxy.pool.backend import Backend
from proxy.pool.connections import Connections
from proxy.pool.replication_stream import ReplicationStream, open_connection
from proxy.sql.catalogue import Catalogue
from proxy.topology.health import Lineage
from proxy.wire import errors, pgoutput
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.framing import uint32_at
from proxy.wire.replication import Keepalive, decode_stream, standby_status

log = structlog.get_logger(__name__)

_MOST_WAITING: Final = 10_000
"""Transactions that wait for their invalidation, beyond which the server is not read from."""
_STATUS_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.005
_AWAY_SECONDS: Final = 0.1
_EPOCH: Final = 946_684_800
"""2000-01-01, from which PostgreSQL counts, in Unix time."""

_EVERYTHING_ALONE: Final = frozenset((EVERYTHING,))
_WITH_SCHEMA: Final = frozenset((EVERYTHING, SCHEMA))
_XLOG_DATA: Final = ord("w")
_CHANGES: Final = b"IUD"
_KIND_AT: Final = 25
"""Of a change within XLogData: the kind, then the relation, then at least a tuple's kind."""


class SlotTooLarge(Exception):
    """The slot keeps more WAL than it may: so many bytes."""


class TurnedOff(Exception):
    """Another process, or an operator, has turned the feed off; the text says why."""


class Watched(Protocol):
    """What the feed needs of the database's catalogue."""

    @property
    def current(self) -> Catalogue: ...

    def invalidate(self) -> None: ...


class Sampled(Protocol):
    """What the feed needs of the database's monitor."""

    def fresh_until(self, system: int, timeline: int, lsn: int) -> float: ...

    def newest(self, system: int, timeline: int) -> int | None: ...


@dataclass(slots=True)
class FeedCounters:
    """What one process has consumed since its start."""

    transactions: int = 0
    changes: int = 0
    takeovers: int = 0
    """Times that this process began to read from the slot."""
    restarts: int = 0
    """Times that what happened meanwhile was not known, so that everything was invalidated."""
    slot_bytes: int | None = None
    """WAL that the server keeps for the slot; None where another process looks after it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a consumer works with. `published`: told each position that Redis has acknowledged."""

    name: str
    """Of the slot."""
    settings: FeedSettings
    connections: Callable[[], Connections]
    store: FeedStore
    catalogue: Watched
    samples: Sampled
    interval: float
    """Seconds between looks at whether the server has more."""
    owner: str
    published: Callable[[Position], None]
    key_of: KeyOf
    counters: FeedCounters = field(default_factory=FeedCounters)


class Consumer:
    """One connection's worth of consuming; `run` ends with an exception, always: PgError,
    CacheUnavailable, SlotTooLarge, TurnedOff or ProtocolViolation."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._counters = around.counters
        self._gathering = Gathering(around.key_of)
        self._progress = Progress(0)
        self._wake = asyncio.Event()
        self._stream: ReplicationStream | None = None
        self._lineage = Lineage(0, 0)
        self._published: Position | None = None
        self._broken: ProtocolViolation | None = None
        self._publication = ""
        self._alarmed = False
        self._status_at = 0.0
        self._look_at = 0.0
        self._sign_at = 0.0

    async def run(self) -> None:
        """Connect, and consume."""
        around = self._around
        connections = around.connections()
        streaming = await open_connection(connections, "penstock feed", replication=True)
        try:
            side = await open_connection(connections, "penstock feed", replication=False)
            try:
                await self._start(streaming, side)
                await self._consume(side)
            finally:
                side.close()
        finally:
            if self._stream is not None:
                self._stream.close()
            streaming.close()
            self._counters.slot_bytes = None

    async def _start(self, streaming: Backend, side: Backend) -> None:
        around = self._around
        if slot.server_major(side) < slot.OLDEST_SERVER:
            raise PgError(
                errors.FEATURE_NOT_SUPPORTED,
                f"the change feed needs PostgreSQL {slot.OLDEST_SERVER} or later",
                "set cache.feed.enabled = false for this database",
            )
        self._lineage = await slot.identify(streaming)
        await self._provide_slot(streaming, side)
        command = slot.start_command(around.name, around.settings.publication)
        self._stream = stream = ReplicationStream(streaming, command, self._received)
        await stream.started()
        # The slot is ours now, so nobody else moves it on.
        found = await slot.look_at_slot(side, around.name)
        if found is None:
            raise PgError(errors.UNDEFINED_OBJECT, f'replication slot "{around.name}" has gone')
        told = (await around.store.read()).position
        progress = self._progress
        self._progress = Progress(found.confirmed, 0 if told is None else told.schema)
        self._progress.adopt(progress)
        if not follows(told, self._lineage, found.confirmed):
            self._counters.restarts += 1
            snapshot = await slot.take_snapshot(side)
            self._progress.distrust(snapshot.xmax)
            log.warning(
                "the change feed begins anew: everything is invalidated",
                database=side.node.address.database,
                slot=around.name,
            )
        self._counters.takeovers += 1

    async def _provide_slot(self, streaming: Backend, side: Backend) -> None:
        name, database = self._around.name, side.node.address.database
        found = await slot.look_at_slot(side, name)
        if found is not None and found.wal_status == "lost":
            await slot.drop_slot(side, name)
            found = None
        if found is None:
            publication = self._around.settings.publication
            if not await slot.publication_state(side, publication):
                raise PgError(
                    errors.UNDEFINED_OBJECT,
                    f'database {database} has no publication "{publication}"',
                    "run: penstock cache feed setup",
                )
            await slot.create_slot(streaming, name)
        elif (found.plugin, found.database) != (slot.PLUGIN, database):
            raise PgError(
                errors.OBJECT_NOT_IN_PREREQUISITE_STATE,
                f'replication slot "{name}" is of database {found.database} and plugin '
                f"{found.plugin}",
                "choose another cache.feed.slot",
            )

    # What the server sends

    def _received(self, data: bytes) -> None:
        """One CopyData. Changes of rows are most of what comes: no more than needed is decoded."""
        try:
            if data[0] == _XLOG_DATA and len(data) > _KIND_AT + 5 and data[_KIND_AT] in _CHANGES:
                relation = uint32_at(data, _KIND_AT + 1)
                if relation not in self._gathering.keyed:
                    self._gathering.change(relation)
                    return
            self._take(data)
        except (ProtocolViolation, IndexError) as error:
            self._broken = ProtocolViolation(str(error))
            if self._stream is not None:
                self._stream.hold(True)
            self._wake.set()

    def _take(self, data: bytes) -> None:
        message = decode_stream(data)
        if isinstance(message, Keepalive):
            if not self._gathering.in_transaction:
                self._progress.reached(message.end)
            if message.reply_requested:
                self._send_status()
            self._wake.set()
            return
        transaction = self._gathering.take(pgoutput.decode(message.payload))
        if transaction is None:
            return
        self._counters.transactions += 1
        self._counters.changes += transaction.changes
        self._progress.committed(transaction)
        if self._stream is not None and self._progress.waiting > _MOST_WAITING:
            self._stream.hold(True)
        self._wake.set()

    def _send_status(self, *, reply: bool = False) -> None:
        if self._stream is not None:
            confirmed = 0 if self._published is None else self._published.lsn
            now = int((time.time() - _EPOCH) * 1_000_000)
            self._stream.send(standby_status(confirmed, confirmed, confirmed, now, reply=reply))

    # What is done about it

    async def _consume(self, side: Backend) -> None:
        stream = self._stream
        assert stream is not None
        pause = 0.0
        while stream.lost is None:
            if self._broken is not None:
                raise self._broken
            self._wake.clear()
            try:
                pause = await self._round(side)
            except CacheUnavailable:
                pause = _AWAY_SECONDS
            await self._keep_up(side)
            if stream.lost is None and not self._wake.is_set():
                await self._wait(stream, pause)
        raise stream.lost

    async def _wait(self, stream: ReplicationStream, pause: float) -> None:
        stream.ended.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass
        finally:
            stream.ended.remove_done_callback(self._ended)

    def _ended(self, _: asyncio.Future[None]) -> None:
        self._wake.set()

    async def _round(self, side: Backend) -> float:
        """Invalidate what can be, tell of it, confirm it; how long to wait for the next round if
        nothing comes."""
        pause = self._around.interval
        progress = self._progress
        if progress.waiting:
            due = progress.due(await slot.take_snapshot(side))
            if due:
                await self._move(due)
            if progress.waiting:  # not visible yet
                pause = _RETRY_SECONDS
            elif self._stream is not None:
                self._stream.hold(False)
        await self._publish()
        return pause

    async def _move(self, due: list[Pending]) -> None:
        around = self._around
        relations: set[str] = set()
        for one in due:
            relations |= one.relations
        if any(one.schema_changed for one in due):
            around.catalogue.invalidate()
            names = _WITH_SCHEMA
        else:
            names = epochs_touched(relations, around.catalogue.current)
            if names == _EVERYTHING_ALONE:  # what the catalogue doesn't know is new
                for one in due:
                    one.schema_changed = True
                around.catalogue.invalidate()
                names = _WITH_SCHEMA
        await around.store.move(names, BY_FEED)
        self._progress.moved(due)

    async def _publish(self) -> None:
        lsn = self._progress.position
        if lsn is None:
            return
        position = Position(self._lineage, lsn, self._progress.schema)
        if position != self._published:
            await self._around.store.publish(position)
            self._published = position
        self._around.published(position)

    async def _keep_up(self, side: Backend) -> None:
        """What is to be done now and then."""
        now = time.monotonic()
        samples, lineage = self._around.samples, self._lineage
        newest = samples.newest(lineage.system, lineage.timeline)
        behind = newest is not None and (self._progress.position or 0) < newest
        if now - self._status_at >= (self._around.interval if behind else _STATUS_SECONDS):
            self._status_at = now
            self._send_status(reply=True)
        if now - self._sign_at >= _STATUS_SECONDS:
            self._sign_at = now
            try:
                if self._published is not None:  # Redis may have lost it
                    await self._around.store.publish(self._published)
                await self._around.store.sign(self._around.owner)
                off = (await self._around.store.read()).off
                if off is not None:
                    raise TurnedOff(off)
            except CacheUnavailable:
                pass
        if now - self._look_at >= _LOOK_SECONDS:
            self._look_at = now
            await self._look(side)

    async def _look(self, side: Backend) -> None:
        """Is the slot too large, does the publication still cover what it did?"""
        settings, name = self._around.settings, self._around.name
        found = await slot.look_at_slot(side, name)
        if found is not None:
            self._counters.slot_bytes = found.retained
            self._alarm(found.retained)
            if settings.max_slot_size and found.retained > settings.max_slot_size:
                raise SlotTooLarge(found.retained)
        publication = await slot.publication_state(side, settings.publication)
        if publication != self._publication:
            if self._publication:
                self._progress.restructured()
            self._publication = publication
        if not publication:
            raise PgError(
                errors.UNDEFINED_OBJECT,
                f'publication "{settings.publication}" has gone',
                "run: penstock cache feed setup",
            )

    def _alarm(self, retained: int) -> None:
        limit = self._around.settings.max_slot_size
        alarming = bool(limit) and retained > limit // 2
        if alarming and not self._alarmed:
            log.warning(
                "the slot of the change feed keeps much WAL on the primary",
                slot=self._around.name,
                bytes=retained,
                max_slot_size=limit,
            )
        self._alarmed = alarming
