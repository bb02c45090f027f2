"""What waits for its turn in Redis, over the link that the cache has.

<base>b:stream   the writes, a stream: fields g (their generation) and d (the entry)
<base>b:state    a hash: stream (its name in PostgreSQL), run (of the server that took the last
                 generation's), generation
<base>b:keys     keys that waiting INSERTs take, a sorted set by the time of their writing
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.cache.codec import Codec
from proxy.cache.commands import pack
from proxy.cache.errors import CacheUnavailable
from proxy.cache.replies import reply_to
from proxy.cache.results import ResultCache
from proxy.cache.statistics import BY_WRITE
from proxy.cache.writeback.entry import Entry, Position, position_of

_TRIM: Final = b"""\
if redis.call('HGET', KEYS[2], 'generation') ~= ARGV[1] then return 0 end
redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[2])
if ARGV[3] ~= '' then redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[3]) end
return 1
"""
"""ARGV: generation, the first id that stays, the time up to which keys are let go, or nothing."""

KEYS_KEPT_SECONDS: Final = 60.0
"""For so long after a write was applied its key counts as waiting: who has looked into PostgreSQL
before sees it there."""


class State(NamedTuple):
    """See the module's docstring; "" and 0 where nothing is stored."""

    stream: str
    run: str
    generation: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A write in the stream."""

    position: Position
    entry: Entry


class Store:
    """Of one database. Methods raise CacheUnavailable where Redis is away or refuses."""

    def __init__(self, results: ResultCache, database: str, codec: Codec) -> None:
        keys = results.keys(database)
        self.stream = keys.write_back("stream")
        self.state = keys.write_back("state")
        self.keys = keys.write_back("keys")
        self._results = results
        self._database = database
        self._codec = codec
        self._applied: deque[tuple[float, Position]] = deque()

    async def read_state(self) -> State:
        """What is known of the stream."""
        reply = await self._call(b"HMGET", self.state, b"stream", b"run", b"generation")
        return state_of(reply)

    async def last(self) -> Position | None:
        """The last write that waits; None if none does."""
        reply = await self._call(b"XREVRANGE", self.stream, b"+", b"-", b"COUNT", b"1")
        return _position(reply[0]) if reply else None

    async def first(self, most: int) -> list[Waiting]:
        """The oldest that wait, in order. Raises CacheUnavailable for one that can't be read."""
        reply = await self._call(b"XRANGE", self.stream, b"-", b"+", b"COUNT", b"%d" % most)
        return [self._waiting(one) for one in reply]

    def _waiting(self, one: Any) -> Waiting:
        position, fields = _position(one), one[1]
        data = self._codec.decode(self.stream, fields[fields.index(b"d") + 1], b"")
        if data.payload is None:
            raise CacheUnavailable(
                f"the write {position.id.decode()} can't be read ({data.reason}): was "
                "encryption_key changed while writes waited?"
            )
        try:
            return Waiting(position, Entry.decode(data.payload))
        except ValueError as error:
            raise CacheUnavailable(f"the write {position.id.decode()}: {error}") from None

    def encode(self, entry: Entry) -> bytes:
        """As it is kept in the stream."""
        return b"".join(self._codec.encode(self.stream, b"", entry.encode()))

    async def remove(self, generation: int, upto: Position, now: float) -> None:
        """Writes up to this position have been applied. `now`: time.monotonic()."""
        self._applied.append((now, upto))
        released = b""
        while self._applied and self._applied[0][0] <= now - KEYS_KEPT_SECONDS:
            released = b"%d" % self._applied.popleft()[1].milliseconds
        first = b"%d-%d" % (upto.milliseconds, upto.sequence + 1)
        names = (self.stream, self.state, self.keys)
        arguments = (b"%d" % generation, first, released)
        await self._call(b"EVAL", _TRIM, b"3", *names, *arguments)

    async def move(self, epochs: Iterable[str]) -> None:
        """Invalidate what depends on these."""
        names = frozenset(epochs)
        await reply_to(lambda done: self._results.try_move(self._database, names, BY_WRITE, done))

    async def _call(self, *arguments: bytes) -> Any:
        return await reply_to(lambda done: self._results.request(pack(*arguments), done))


def state_of(reply: Any) -> State:
    """From the reply to HMGET of stream, run and generation."""
    stream, run, generation = reply
    return State((stream or b"").decode(), (run or b"").decode(), int(generation or 0))


def _position(one: Any) -> Position:
    identifier, fields = one
    return position_of(int(fields[fields.index(b"g") + 1]), identifier)
