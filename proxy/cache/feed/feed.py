"""The change feed of one database in one process: consumes the slot, or follows who does.

PostgreSQL lets one connection read from a slot. Of all processes on one Redis (workers, and proxies
of the group) one consumes; the others follow what it publishes there.

What may be trusted, and by whom. The consumer publishes a position P in the primary's WAL: the
epochs of every transaction whose commit record begins before P have been moved (`progress`). Each
process samples the primary's insert position by itself, for its replicas' sake: a sample that began
at the moment s lies behind every write acknowledged before s. So once P has reached that sample,
everything acknowledged before s has been invalidated: `fresh_until` is s. No clock is compared with
another, a lower P or a later s is always safe, and it doesn't matter who consumes or whether
anybody does: while nobody does, P stands still, samples go on as soon as anything is written, and
the cache is passed by. On a primary where nothing is written it stays in use, rightly.

A position is of one system and timeline. After a promotion it says nothing until the slot, there or
made anew, is read from on the new one.
"""

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

import structlog

from proxy.cache.errors import CacheUnavailable
from proxy.cache.feed import slot
from proxy.cache.feed.consumer import (
    Consumer,
    FeedCounters,
    Sampled,
    SlotTooLarge,
    Surroundings,
    TurnedOff,
    Watched,
)
from proxy.cache.feed.gathering import KeyOf
from proxy.cache.feed.position import Position
from proxy.cache.feed.store import FeedStore, Told
from proxy.cache.keys import EVERYTHING
from proxy.cache.results import ResultCache
from proxy.cache.statistics import BY_SCHEMA
from proxy.cache.trust import UNKNOWN, FeedTrust
from proxy.config.cache_settings import FeedSettings
from proxy.pool.connections import Connections
from proxy.pool.replication_stream import open_connection
from proxy.tasks import spawn
from proxy.wire.errors import PgError, ProtocolViolation

log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_LEAVE_SECONDS: Final = 1.0
_GUARD_SECONDS: Final = 10.0

OFF: Final = "the change feed was turned off: see the log and penstock cache feed status"
ON_DEMAND: Final = "a database that is served on demand has no change feed"


@dataclass(frozen=True, slots=True)
class FeedState:
    """What metrics and the console show."""

    database: str
    role: str
    """consumer, follower, starting or off."""
    trusted: bool
    """Whether the cache is in use, as far as the feed is concerned."""
    doubt: str | None
    lag_seconds: float | None
    """Age of the oldest write that may not have been invalidated yet; None: not known."""
    lag_bytes: int | None
    slot_bytes: int | None
    transactions: int
    changes: int
    takeovers: int
    restarts: int
    error: str | None


class Feed:
    """See the module's docstring. `connections`: how the primary is logged in to, asked anew for
    each connection. `interval`: seconds between looks at what is told. `key_of`: how tables are
    invalidated by key."""

    def __init__(
        self,
        database: str,
        settings: FeedSettings,
        results: ResultCache,
        connections: Callable[[], Connections],
        catalogue: Watched,
        samples: Sampled,
        interval: float,
        key_of: KeyOf = lambda _: None,
    ) -> None:
        self.database = database
        self.settings = settings
        self.trust = FeedTrust(settings.max_lag)
        self._results = results
        self._samples = samples
        self._catalogue = catalogue
        self._store = FeedStore(results, database)
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{token_hex(4)}"
        self._around = Surroundings(
            slot.slot_name(settings.slot, database),
            settings,
            connections,
            self._store,
            catalogue,
            samples,
            interval,
            self._owner,
            self._consumed,
            key_of,
            FeedCounters(),
        )
        self._position: Position | None = None
        self._schema: int | None = None
        self._role = "starting"
        self._error: str | None = None
        self._off_wanted: str | None = None
        """Why it is to be turned off, while Redis could not be told."""
        self._guarded_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to consume or to follow."""
        self._task = spawn(self._run(), f"change feed {self.database}")

    async def stop(self) -> None:
        """End it; another process may take over at once."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._role == "consumer":
            with contextlib.suppress(CacheUnavailable, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._store.leave()

    def sampled(self) -> None:
        """The primary's position was sampled, or `_position` is another."""
        position = self._position
        if position is None:
            return
        lineage = position.lineage
        self.trust.fresh_until = self._samples.fresh_until(
            lineage.system, lineage.timeline, position.lsn
        )

    def schema_differs(self) -> None:
        """The catalogue's watch has found the schema changed."""
        self._results.move(self.database, frozenset((EVERYTHING,)), _nothing, BY_SCHEMA)

    def state(self) -> FeedState:
        """As of now."""
        counters, trust, position = self._around.counters, self.trust, self._position
        doubt = trust.doubt(0.0)
        newest = lag = None
        if position is not None:
            newest = self._samples.newest(position.lineage.system, position.lineage.timeline)
            lag = None if newest is None else max(0, newest - position.lsn)
        known = trust.fresh_until != UNKNOWN
        return FeedState(
            self.database,
            self._role,
            doubt is None,
            doubt,
            max(0.0, time.monotonic() - trust.fresh_until) if known else None,
            lag,
            counters.slot_bytes,
            counters.transactions,
            counters.changes,
            counters.takeovers,
            counters.restarts,
            self._error,
        )

    # Consuming and following

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            wait = self._around.interval
            try:
                told = await self._told()
                if told is None:
                    wait = pause
                elif told.off is not None:
                    self._be_off(told.off)
                    wait = _FIRST_PAUSE
                elif told.consumer is not None and told.consumer != self._owner:
                    self._follow()
                    pause = _FIRST_PAUSE
                else:
                    await self._consume()
            except TurnedOff:
                self._role = "starting"
            except SlotTooLarge as error:
                self._role = "starting"
                await self._give_up(int(error.args[0]))
            except PgError as error:
                self._role = "starting"
                if error.sqlstate == slot.IN_USE:  # whoever has it will give a sign soon
                    wait = _FIRST_PAUSE * (1 + random.random())
                    await self._guard()
                else:
                    began = self._report(f"{error.message} ({error.sqlstate})", error.hint)
                    pause = _FIRST_PAUSE if began else min(2 * pause, _LONGEST_PAUSE)
                    wait = pause
            except CacheUnavailable:
                self._role = "starting"
                wait = _FIRST_PAUSE
            except ProtocolViolation as error:
                self._role = "starting"
                self._report(f"the server sent what can't be understood: {error}", "")
                wait = pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception as error:  # the cache is passed by meanwhile: come again
                self._role = "starting"
                log.exception("the change feed failed", database=self.database)
                self._report(repr(error), "")
                wait = _LONGEST_PAUSE
            await asyncio.sleep(wait)

    async def _told(self) -> Told | None:
        """What Redis says; None if it can't be asked."""
        try:
            if self._off_wanted is not None:
                await self._store.turn_off(self._off_wanted)
                self._off_wanted = None
            told = await self._store.read()
        except CacheUnavailable:
            await self._guard()
            return None
        if told.position is not None:
            self._take(told.position)
        return told

    def _take(self, position: Position) -> None:
        """A position that was published. The catalogue is doubted before the position counts."""
        if self._schema is not None and position.schema != self._schema:
            self._catalogue.invalidate()
        self._schema = position.schema
        self._position = position
        self.sampled()

    def _consumed(self, position: Position) -> None:
        self._schema = position.schema
        self._position = position
        self.sampled()
        if self._role != "consumer":
            self._role = "consumer"
            self._well()
            log.info("the change feed is read here", database=self.database, slot=self._around.name)

    async def _consume(self) -> None:
        if self._off_wanted is not None:
            return
        self.trust.obstacle = None
        await Consumer(self._around).run()

    def _follow(self) -> None:
        if self._role != "follower":
            self._role = "follower"
            log.info("the change feed is read by another process", database=self.database)
        self._well()

    def _well(self) -> None:
        self._error = None
        self.trust.obstacle = None

    def _be_off(self, reason: str) -> None:
        self._role = "off"
        self._error = reason
        self.trust.obstacle = OFF

    def _report(self, text: str, hint: str) -> bool:
        """Note why it doesn't work; logs changes only, and says whether this is one."""
        if text == self._error:
            return False
        self._error = text
        log.warning(
            "the change feed can't be read: the cache is passed by once there are writes",
            database=self.database,
            slot=self._around.name,
            error=text,
            hint=hint,
        )
        return True

    # The slot must not fill the primary's disk

    async def _guard(self) -> None:
        """Nobody here consumes: look at the slot all the same, now and then."""
        limit, now = self.settings.max_slot_size, time.monotonic()
        if not limit or now - self._guarded_at < _GUARD_SECONDS:
            return
        self._guarded_at = now
        with contextlib.suppress(PgError):
            side = await open_connection(self._around.connections(), "penstock feed", False)
            try:
                found = await slot.look_at_slot(side, self._around.name)
            finally:
                side.close()
            if found is not None and found.retained > limit:
                await self._give_up(found.retained)

    async def _give_up(self, retained: int) -> None:
        """Drop the slot, and have nobody make it again."""
        reason = (
            f"its slot {self._around.name} kept {retained} bytes of WAL on the primary, more than "
            f"cache.feed.max_slot_size ({self.settings.max_slot_size}), and was dropped"
        )
        log.error(
            "the change feed is turned off, and the cache with it",
            database=self.database,
            why=reason,
            hint="find out what kept it from being read, then run: penstock cache feed setup",
        )
        self._be_off(reason)
        self._off_wanted = reason
        try:
            side = await open_connection(self._around.connections(), "penstock feed", False)
            try:
                await slot.drop_slot(side, self._around.name)
            finally:
                side.close()
        except PgError as error:
            log.error(
                "the slot of the change feed could not be dropped",
                slot=self._around.name,
                error=error.message,
                hint="drop it by hand: SELECT pg_drop_replication_slot(…)",
            )


def _nothing() -> None:
    pass
