"""Write-back of one database in one process: takes writes, applies them, and holds up readers.

A write is acknowledged when Redis has it safely and what it invalidates has been invalidated. From
then on whoever reads its table waits (`barrier`) until it has been applied: so nobody, at whichever
proxy on this Redis, sees a row as it was before a write that was acknowledged. Results in the cache
need no barrier: they went with their epochs.

Whoever can't ask Redis doesn't know what waits there. Then statements that may depend on it wait
too, and are refused in the end: a clear error, not a stale row.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from proxy.cache.codec import Codec
from proxy.cache.errors import CacheUnavailable
from proxy.cache.results import ResultCache
from proxy.cache.writeback.applier import Applier
from proxy.cache.writeback.check import Check, Unsuited, check
from proxy.cache.writeback.entry import NOWHERE, Entry, Position
from proxy.cache.writeback.state import WriteBackState
from proxy.cache.writeback.store import Store
from proxy.cache.writeback.target import Target
from proxy.cache.writeback.writer import Declined, Outcome, Writer
from proxy.config.cache_settings import WriteBackSettings
from proxy.pool.connections import Connections
from proxy.routing.writing_back import is_written_back
from proxy.sql.single_row import single_row
from proxy.tasks import spawn
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

_IDLE_SECONDS: Final = 1.0
"""Between looks for what others have left."""
_PAUSE: Final = 0.2
_MOST_CHECKS: Final = 1000
"""Questions that are remembered."""
_LONGEST_PAUSE: Final = 5.0
_DEADLOCK: Final = PgError(
    errors.DEADLOCK_DETECTED,
    "deadlock detected: the transaction waits for acknowledged writes, and one of them for a row "
    "that a transaction holds",
    "try the transaction again",
)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The client may be told that its write is done."""


Answer = Acknowledged | Declined | PgError
"""What becomes of a write: done, to be run on PostgreSQL, or not known."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A statement that waits until all up to `position` has been applied."""

    position: Position
    done: Callable[[PgError | None], None]
    writes: bool = False
    """It is a write itself, and must know that it was applied, not only that it waits no more."""
    holds: bool = False
    """Its transaction may hold what the writes wait for."""


class WriteBack:
    """See the module's docstring. `globs`: of the tables that rules name. Needs a running loop."""

    def __init__(
        self,
        database: str,
        settings: WriteBackSettings,
        globs: tuple[str, ...],
        results: ResultCache,
        codec: Codec,
        connections: Callable[[], Connections],
        timeout: float,
    ) -> None:
        self.database = database
        self.targets: tuple[Target, ...] = ()
        """The tables that the catalogue has by these names, as last looked at."""
        self._settings = settings
        self._globs = globs
        self._results = results
        self._store = Store(results, database, codec)
        self._applier = Applier(self._store, connections, settings.batch)
        self._claims = Applier(self._store, connections, settings.batch)
        self._writer = Writer(
            self._store, settings, lambda: results.place, self._claims.claim, timeout
        )
        self._checks: dict[tuple[bytes, tuple[int, ...]], Check] = {}
        self._names: frozenset[str] | None = None
        """Of the relations that are to be looked at."""
        self._applied_upto = NOWHERE
        self._waiters: list[_Waiter] = []
        self._wake = asyncio.Event()
        self._due = False
        self._task: asyncio.Task[None] | None = None
        self._error: str | None = "not connected yet"
        self._written = self._applied = self._rejected = self._barriers = 0
        self._declined: dict[str, int] = {}

    # Life

    def start(self) -> None:
        """Begin to take writes and to apply them."""
        if self._task is None:
            self._task = spawn(self._run(), f"write-back {self.database}")

    async def stop(self) -> None:
        """Take no more, apply what waits as far as that can be done, and end."""
        await self._writer.close()
        if self._task is not None:
            await self._drain()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for applier in (self._applier, self._claims):
            await applier.close()
        waiters, self._waiters = self._waiters, []
        for one in waiters:
            one.done(_refusal("Penstock is shutting down"))

    async def _drain(self) -> None:
        ended: asyncio.Future[PgError | None] = asyncio.get_running_loop().create_future()
        self.barrier(ended.set_result)
        error = await ended
        if error is not None:
            log.error(
                "acknowledged writes may wait in redis",
                database=self.database,
                error=str(error),
                hint="they are applied when Penstock is started again with this configuration",
            )

    def know(self, names: frozenset[str] | None) -> None:
        """The relations that the catalogue has, by bare names; None: it is to be looked at anew."""
        self._names, self.targets = names, ()
        self._checks.clear()
        self._wake.set()

    def check(self, text: bytes, oids: Sequence[int]) -> Check:
        """The question about a write; the last ones are remembered. Raises Unsuited."""
        key = text, tuple(oids)
        known = self._checks.get(key)
        if known is None:
            row = single_row(text.decode())
            if row is None:
                raise Unsuited("it is no INSERT of constants, and no UPDATE by equalities")
            if len(self._checks) >= _MOST_CHECKS:
                self._checks.clear()
            known = self._checks[key] = check(row, self.targets, oids)
        return known

    @property
    def state(self) -> WriteBackState:
        """For operators."""
        obstacle = self._writer.obstacle
        return WriteBackState(
            self.database,
            obstacle,
            self._error,
            self._written,
            self._applied,
            self._rejected,
            self._barriers,
            tuple(sorted(self._declined.items())),
        )

    def decline(self, reason: str) -> None:
        """Count a write that goes to PostgreSQL directly."""
        self._declined[reason] = self._declined.get(reason, 0) + 1

    # Writes

    @property
    def obstacle(self) -> str | None:
        """Why no write is taken now; None if they are."""
        if self._task is None:
            return "write-back is not running"
        return self._writer.obstacle

    def write(
        self,
        entry: Entry,
        members: Sequence[bytes],
        planned: bytes,
        done: Callable[[Answer], None],
    ) -> None:
        """Take a write; `done` is called once. `planned`: as for `ResultCache.move`."""

        def written(outcome: Outcome) -> None:
            if isinstance(outcome, Declined):
                done(outcome)
            elif outcome.safe:
                self._invalidate(entry, planned, done)
                self._flush_soon()
            elif outcome.position is None:
                done(_unknown("the connection to Redis was lost"))
            else:
                waiter = _Waiter(outcome.position, applied, writes=True)
                self._wait_for(waiter, self._settings.patience)

        def applied(error: PgError | None) -> None:
            if error is not None:
                done(_unknown(error.message))
            else:
                self._invalidate(entry, planned, done)

        self._writer.append(self._store.encode(entry), members, written)

    def _invalidate(self, entry: Entry, planned: bytes, done: Callable[[Answer], None]) -> None:
        self._written += 1
        names = frozenset(entry.epochs)
        self._results.move(
            self.database, names, lambda: done(Acknowledged()), planned=planned or None
        )

    # Readers

    def barrier(self, done: Callable[[PgError | None], None], *, holds: bool = False) -> None:
        """Call `done` when all that was acknowledged before has been applied, or with the error
        that refuses who asks.

        `holds`: it is in a transaction. A write that waits for one of its rows, and it for the
        write, would wait for ever: it is told of a deadlock, as PostgreSQL does."""
        deadline = time.monotonic() + self._settings.patience
        spawn(self._look(deadline, done, holds), "write-back barrier")

    async def _look(
        self, deadline: float, done: Callable[[PgError | None], None], holds: bool
    ) -> None:
        while True:
            try:
                last = await self._store.last()
                break
            except CacheUnavailable as error:
                if time.monotonic() > deadline or self._task is None:
                    done(_refusal(str(error)))
                    return
                await asyncio.sleep(_PAUSE)
        if last is None or last <= self._applied_upto:
            done(None)
            return
        self._barriers += 1
        self._wait_for(_Waiter(last, done, holds=holds), deadline - time.monotonic())

    def _wait_for(self, waiter: _Waiter, patience: float) -> None:
        if self._task is None:
            waiter.done(_refusal("Penstock is shutting down"))
            return
        self._waiters.append(waiter)
        asyncio.get_running_loop().call_later(patience, self._expire, waiter)
        self._due = True
        self._wake.set()

    def _flush_soon(self) -> None:
        if not self._due:
            asyncio.get_running_loop().call_later(self._settings.interval, self._flush)

    def _flush(self) -> None:
        self._due = True
        self._wake.set()

    # Applying

    async def _run(self) -> None:
        pause = _PAUSE
        self._writer.start()
        while True:
            try:
                await self._round()
                self._note(None)
                pause = _PAUSE
            except Exception as error:  # whatever it is: others wait for what comes behind it
                if not isinstance(error, PgError | CacheUnavailable):
                    log.exception("writes can't be applied", database=self.database)
                self._note(str(error) or repr(error))
                if isinstance(error, PgError) and error.sqlstate == errors.LOCK_NOT_AVAILABLE:
                    self._break_deadlocks()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE if not self._waiters else _PAUSE)
                self._due = True
                continue
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(max(_IDLE_SECONDS, self._settings.interval)):
                await self._wake.wait()
        except TimeoutError:
            self._due = True
        self._wake.clear()

    async def _round(self) -> None:
        """Look at the tables if the catalogue is new, and apply what is due."""
        names = self._names
        if names is not None:
            wanted = frozenset(name for name in names if is_written_back(self._globs, name))
            found = await self._applier.targets(wanted)
            if self._names is names:
                self.targets, self._names = found, None
                self._checks.clear()
        while self._due:
            self._due = False
            more = True
            while more:
                waited = list(self._waiters)
                done = await self._applier.apply()
                self._applied += done.count
                self._rejected += done.rejected
                self._applied_upto = max(self._applied_upto, done.upto)
                more = done.more
                self._release(waited, done.upto, everything=not more)

    def _release(self, waited: list[_Waiter], upto: Position, *, everything: bool) -> None:
        """Let those go on whose writes have been applied. `everything`: all that waited in Redis
        when these began to wait has been, also where what they wait for is lost.

        A generation is applied in order, so what lies before `upto` in the same one has been. Of
        an earlier one it may have been lost with its server."""
        left = [one for one in waited if one in self._waiters]
        free = [one for one in left if everything or one.position <= upto]
        self._waiters = [one for one in self._waiters if one not in free]
        for one in free:
            same = one.position.generation == upto.generation and one.position <= upto
            one.done(None if same or not one.writes else _refusal("Redis has lost it"))

    def _break_deadlocks(self) -> None:
        """A write can't have a row that a transaction holds."""
        holding = [one for one in self._waiters if one.holds]
        self._waiters = [one for one in self._waiters if not one.holds]
        for one in holding:
            one.done(_DEADLOCK)

    def _expire(self, waiter: _Waiter) -> None:
        """By its own time: whatever applies the writes may stand still."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            waiter.done(_refusal(self._error or "it takes too long"))

    def _note(self, error: str | None) -> None:
        if error != self._error and error is not None:
            log.warning("writes can't be applied", database=self.database, error=error)
        elif error is None and self._error is not None:
            log.info("writes are applied as they come", database=self.database)
        self._error = error


def _refusal(why: str) -> PgError:
    return PgError(
        errors.CANNOT_CONNECT_NOW,
        f"acknowledged writes that this statement may depend on can't be applied now: {why}",
        "they wait in Redis and are not lost; try again, and see SHOW CACHE",
    )


def _unknown(why: str) -> PgError:
    return PgError(
        errors.TRANSACTION_RESOLUTION_UNKNOWN,
        f"it is not known whether the write will be applied: {why}",
        "read the row before writing it again",
    )
