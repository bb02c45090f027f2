"""Puts writes into the stream, and has Redis say that they are safe there, over a connection of
its own: WAITAOF and WAIT hold up what comes behind them.

A generation begins with each start of a server and each change of servers: see `entry.Position`.
Who connects claims one, unless another process has done so on this server's life already; a write
is taken only with the generation that is current. So writes of two servers never get positions
that can be mistaken for each other, whatever their clocks say.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from secrets import token_hex
from typing import Any, Final

import hiredis
import structlog

from proxy.cache.commands import pack
from proxy.cache.connection import Connection
from proxy.cache.endpoint import Endpoint, dial, log_in
from proxy.cache.errors import CacheError, LinkLost
from proxy.cache.writeback.entry import Position, position_of
from proxy.cache.writeback.store import State, Store, state_of
from proxy.config.cache_settings import WriteBackSettings
from proxy.tasks import spawn

log = structlog.get_logger(__name__)

_MOST_AT_ONCE: Final = 500
_PAUSE: Final = 0.5

_APPEND: Final = b"""\
if redis.call('HGET', KEYS[2], 'generation') ~= ARGV[1] then return {'generation'} end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then return {'full'} end
for i = 4, #ARGV do
  if redis.call('ZSCORE', KEYS[3], ARGV[i]) then return {'pending'} end
end
local id = redis.call('XADD', KEYS[1], '*', 'g', ARGV[1], 'd', ARGV[2])
local milliseconds = string.match(id, '^%d+')
for i = 4, #ARGV do redis.call('ZADD', KEYS[3], milliseconds, ARGV[i]) end
return {'', id}
"""
"""ARGV: generation, entry, the most that may wait, keys that it takes."""

_APPEND_SHA: Final = sha1(_APPEND, usedforsecurity=False).hexdigest().encode()

_CLAIM: Final = b"""\
local now = redis.call('HMGET', KEYS[1], 'stream', 'run', 'generation')
if (now[1] or '') == ARGV[1] and (now[2] or '') == ARGV[2] then
  redis.call('HSET', KEYS[1], 'stream', ARGV[3], 'run', ARGV[4], 'generation', ARGV[5])
end
return redis.call('HMGET', KEYS[1], 'stream', 'run', 'generation')
"""
"""ARGV: stream and run as they were; stream, run and generation as they are to be."""

REFUSALS: Final = {
    b"generation": "redis was started anew",
    b"full": "too many writes wait",
    b"pending": "a write of the same key waits",
}


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write. `position`: where it is, None where that isn't known; `safe`: it is
    as durable as was asked for."""

    position: Position | None
    safe: bool


@dataclass(frozen=True, slots=True)
class Declined:
    """It is not in Redis, and won't be; why."""

    reason: str


Outcome = Written | Declined

Claim = Callable[[str, int], Awaitable[int]]
"""(the stream's name, the least that it must exceed) -> a generation that was never given before.
Raises PgError."""


@dataclass(frozen=True, slots=True)
class _Request:
    entry: bytes
    members: Sequence[bytes]
    done: Callable[[Outcome], None]


class Writer:
    """See the module's docstring. `place`: the server that the cache uses now."""

    def __init__(
        self,
        store: Store,
        settings: WriteBackSettings,
        place: Callable[[], Endpoint | None],
        claim: Claim,
        timeout: float,
    ) -> None:
        self.obstacle: str | None = "not connected yet"
        """Why no write is taken now."""
        self._store = store
        self._settings = settings
        self._place = place
        self._claim = claim
        self._timeout = timeout
        self._queue: list[_Request] = []
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._generation = 0
        self._where: Endpoint | None = None
        self._waits: tuple[bytes, ...] = ()

    def start(self) -> None:
        """Connect, and stay connected until `close`."""
        if self._task is None:
            self._task = spawn(self._run(), "write-back writer")

    async def close(self) -> None:
        """Stop; what has not been sent is declined."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._lose("shutting down")

    def append(
        self, entry: bytes, members: Sequence[bytes], done: Callable[[Outcome], None]
    ) -> None:
        """Put an entry into the stream; `done` is called once, at once where it is declined."""
        if self.obstacle is not None:
            done(Declined(self.obstacle))
            return
        self._queue.append(_Request(entry, members, done))
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._connect()
                self._note(None)
                while self.obstacle is None:
                    await self._wake.wait()
                    self._wake.clear()
                    if self._queue and self.obstacle is None:
                        await self._send()
            except Exception as error:  # whatever it is: come again
                self._lose(str(error) or repr(error))
            await asyncio.sleep(_PAUSE)

    def _note(self, obstacle: str | None) -> None:
        if obstacle != self.obstacle:
            if obstacle is None:
                log.info("writes are written back")
            else:
                log.warning("writes are not written back for now", why=obstacle)
        self.obstacle = obstacle

    def _lose(self, reason: str) -> None:
        """The connection is of no more use."""
        self._note(reason)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lose(reason)
        queue, self._queue = self._queue, []
        for request in queue:
            request.done(Declined(reason))
        self._wake.set()

    # Connecting

    async def _connect(self) -> None:
        """Raises CacheError, hiredis.ReplyError, OSError and PgError."""
        where = self._place()
        if where is None:
            raise CacheError("redis is away")
        connection = Connection(self._patience, self._broke, _heard)
        self._connection = connection
        async with asyncio.timeout(self._patience):
            await dial(connection, where)
            await log_in(connection, where)
            run = await self._look_at(connection)
            await connection.call(b"SCRIPT", b"LOAD", _APPEND)
            state = state_of(
                await connection.call(b"HMGET", self._store.state, b"stream", b"run", b"generation")
            )
        while not (state.stream and state.generation and state.run == run):
            state = await self._claimed(connection, state, run)
        self._generation = state.generation
        self._where = where

    @property
    def _patience(self) -> float:
        return self._settings.wait + 4 * self._timeout

    def _broke(self, error: LinkLost) -> None:
        if self._connection is not None:
            self._connection = None
            self._lose(str(error))

    async def _look_at(self, connection: Connection) -> str:
        """The server's life. Raises CacheError where it does not keep what it is given."""
        told = b""
        for section in (b"server", b"replication", b"persistence", b"memory"):
            reply = await connection.call(b"INFO", section)
            if not isinstance(reply, bytes):
                raise CacheError(f"this is no Redis: it answers INFO by {reply!r:.40}")
            told += reply
        run = _field(told, b"run_id")
        if not run:
            raise CacheError("redis does not tell its run_id")
        if _field(told, b"role") != "master":
            raise CacheError("this Redis is a replica, and the primary is needed")
        policy = _field(told, b"maxmemory_policy")
        if policy.startswith("allkeys") and _field(told, b"maxmemory") != "0":
            raise CacheError(f"maxmemory-policy is {policy}: redis may evict writes that wait")
        await self._choose_wait(connection, _field(told, b"aof_enabled") == "1")
        return run

    async def _choose_wait(self, connection: Connection, has_log: bool) -> None:
        """How to have it said that writes are safe. Raises CacheError."""
        settings = self._settings
        replicas, milliseconds = b"%d" % settings.replicas, b"%d" % round(settings.wait * 1000)
        if not settings.disk:
            self._waits = (b"WAIT", replicas, milliseconds)
            return
        if not has_log:
            raise CacheError("redis keeps no append-only file (appendonly no), and disk is asked")
        try:
            await connection.call(b"WAITAOF", b"0", b"0", b"1")
            self._waits = (b"WAITAOF", b"1", replicas, milliseconds)
            return
        except hiredis.ReplyError as error:
            unknown = error
        try:
            told = await connection.call(b"CONFIG", b"GET", b"appendfsync")
        except hiredis.ReplyError:
            told = []
        if b"always" not in (told.values() if isinstance(told, dict) else told):
            raise CacheError(
                f"redis can't say when its append-only file is on disk ({unknown}), and "
                "appendfsync is not always"
            )
        self._waits = (b"WAIT", replicas, milliseconds) if settings.replicas else ()

    async def _claimed(self, connection: Connection, state: State, run: str) -> State:
        """Begin a generation, or learn of the one that another process has begun."""
        stream = state.stream or token_hex(16)
        generation = await self._claim(stream, state.generation)
        reply = await connection.call(
            *(b"EVAL", _CLAIM, b"1", self._store.state),
            *(state.stream.encode(), state.run.encode()),
            *(stream.encode(), run.encode(), b"%d" % generation),
        )
        return state_of(reply)

    # Writing

    async def _send(self) -> None:
        """Send what waits, all before one WAITAOF, and tell what became of it."""
        requests, self._queue = self._queue[:_MOST_AT_ONCE], self._queue[_MOST_AT_ONCE:]
        if self._queue:
            self._wake.set()
        connection = self._connection
        if connection is None or self._place() != self._where:
            self._queue = requests + self._queue
            self._lose("redis is away")
            return
        replies = [self._request(connection, self._command(one)) for one in requests]
        waited = self._request(connection, pack(*self._waits)) if self._waits else None
        answers = [await one for one in replies]
        safe = _is_safe(self._waits, None if waited is None else await waited)
        safe = safe and self._place() == self._where
        for request, answer in zip(requests, answers, strict=True):
            request.done(self._outcome(answer, safe))

    def _command(self, request: _Request) -> bytes:
        store = self._store
        return pack(
            *(b"EVALSHA", _APPEND_SHA, b"3", store.stream, store.state, store.keys),
            *(b"%d" % self._generation, request.entry, b"%d" % self._settings.most_waiting),
            *request.members,
        )

    def _request(self, connection: Connection, command: bytes) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(reply: Any) -> None:
            if not answer.done():
                answer.set_result(reply)

        connection.request(command, answered)
        return answer

    def _outcome(self, answer: Any, safe: bool) -> Outcome:
        if isinstance(answer, hiredis.ReplyError):  # the script has not run, or changed nothing
            return Declined(f"redis refused: {answer}")
        if isinstance(answer, Exception) or not isinstance(answer, list):
            return Written(None, False)
        if answer[0]:
            if answer[0] == b"generation":
                self._lose(REFUSALS[answer[0]])
            return Declined(REFUSALS.get(answer[0], "redis refused"))
        return Written(position_of(self._generation, answer[1]), safe)


def _is_safe(waits: tuple[bytes, ...], reply: Any) -> bool:
    if not waits:
        return True
    if waits[0] == b"WAIT":
        return isinstance(reply, int) and reply >= int(waits[1])
    return isinstance(reply, list) and reply[0] >= int(waits[1]) and reply[1] >= int(waits[2])


def _field(told: bytes, name: bytes) -> str:
    found = re.search(rb"^" + name + rb":(.*?)\r?$", told, re.M)
    return found[1].decode() if found else ""


def _heard(channel: bytes, message: bytes) -> None:
    pass  # it listens to nothing
