"""What the feed says to Redis, over the link that the cache has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.cache.commands import pack
from proxy.cache.feed.position import Position
from proxy.cache.replies import reply_to
from proxy.cache.results import ResultCache

_ALIVE_MILLISECONDS = 5000


@dataclass(frozen=True, slots=True)
class Told:
    """What Redis holds of a database's feed."""

    position: Position | None
    consumer: str | None
    """Who reads from the slot; None: nobody has said so lately."""
    off: str | None
    """Why the feed was turned off for good."""


class FeedStore:
    """Of one database. Methods raise CacheUnavailable where Redis is away or refuses."""

    def __init__(self, results: ResultCache, database: str) -> None:
        self._results = results
        self._database = database
        keys = results.keys(database)
        self._position = keys.feed("position")
        self._alive = keys.feed("alive")
        self._off = keys.feed("off")

    async def read(self) -> Told:
        """Everything."""
        reply = await self._call(b"MGET", self._position, self._alive, self._off)
        position, alive, off = reply
        return Told(Position.decode(position), _text(alive), _text(off))

    async def publish(self, position: Position) -> None:
        """Tell how far the feed has come."""
        await self._call(b"SET", self._position, position.encode())

    async def sign(self, consumer: str) -> None:
        """A sign of life; it is good for a few seconds."""
        milliseconds = b"%d" % _ALIVE_MILLISECONDS
        await self._call(b"SET", self._alive, consumer.encode(), b"PX", milliseconds)

    async def leave(self) -> None:
        """No more signs of life will come."""
        await self._call(b"DEL", self._alive)

    async def turn_off(self, reason: str) -> None:
        """Nobody consumes from now on, until `penstock cache feed setup`."""
        await self._call(b"SET", self._off, reason.encode())

    async def move(self, names: frozenset[str], source: str) -> None:
        """Move these epochs; `source`: see `statistics.SOURCES`."""

        def start(done: Callable[[Any], None]) -> None:
            self._results.try_move(self._database, names, source, done)

        await reply_to(start)

    async def _call(self, *arguments: bytes) -> Any:
        return await reply_to(lambda done: self._results.request(pack(*arguments), done))


def _text(stored: bytes | None) -> str | None:
    return None if stored is None else stored.decode("utf-8", "replace")
