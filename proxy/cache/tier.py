"""Results in this process's memory: the answers as bytes, before Redis is asked at all.

An answer is kept with the version of the `View` that it was read from; what invalidates raises the
version, however many answers there are of it. Whether an answer may be served at all is
`trusted_until`, which `members` sets: at 0 the tier is off.

What stays is decided by S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
SOSP 2023): new answers wait in a small queue, and only those asked for there reach the large one.
Text that is asked for once can't push out what is asked for often.
"""

from collections import OrderedDict
from sys import getsizeof
from typing import Final, NamedTuple

from proxy.cache.keys import EVERYTHING
from proxy.cache.statistics import RuleCounters, Statistics

_SMALL_SHARE: Final = 10
"""Per cent of the memory for the small queue."""
_MOST_USES: Final = 3
_OVERHEAD: Final = 320
"""Bytes of an entry's object, its places in the queue and the dictionary, and its numbers."""
_GHOST: Final = 160
"""Bytes for remembering an answer that left the small queue unused."""
_MOST_CONTEXTS: Final = 100_000
_MOST_VIEWS: Final = 50_000


class View:
    """All answers read from the same tables of one database."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0


class Answer:
    """One stored answer."""

    __slots__ = (
        "counters",
        "expires",
        "payload_from",
        "reply",
        "size",
        "terms",
        "uses",
        "version",
        "view",
    )

    def __init__(
        self,
        reply: bytes,
        payload_from: int,
        terms: object,
        view: View,
        counters: RuleCounters,
        expires: float,
        size: int,
    ) -> None:
        self.reply = reply
        """The whole answer outside a transaction, ReadyForQuery included."""
        self.payload_from = payload_from
        """Where in it the stored result begins."""
        self.terms = terms
        """What the statement's plan said of caching when it was kept."""
        self.view = view
        self.version = view.version
        self.counters = counters
        self.expires = expires
        self.size = size
        self.uses = 0


class Right(NamedTuple):
    """To keep an answer that Redis vouches for in reply to a command sent when it was given."""

    view: View
    version: int
    expires: float


class Tier:
    """See the module's docstring. `limit`: bytes, 0 keeps nothing. All times are of one clock, the
    caller's."""

    def __init__(self, limit: int, statistics: Statistics) -> None:
        self.limit = limit
        self.trusted_until = 0.0
        """Until then no answer here is older than a write that anybody was told of."""
        self._statistics = statistics
        self._small: OrderedDict[bytes, Answer] = OrderedDict()
        self._main: OrderedDict[bytes, Answer] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._small_size = 0
        self._main_size = 0
        self._views: dict[tuple[str, frozenset[str]], View] = {}
        self._readers: dict[tuple[str, str], list[View]] = {}
        self._contexts: dict[bytes, bytes] = {}
        self._last_context = 0

    # Reading

    def context(self, content: bytes) -> bytes:
        """A short name for the part of a key that many answers share; never given twice."""
        name = self._contexts.get(content)
        if name is None:
            if len(self._contexts) >= _MOST_CONTEXTS:
                self._contexts.clear()
            self._last_context += 1
            name = self._contexts[content] = self._last_context.to_bytes(6, "big")
        return name

    def get(self, key: bytes, terms: object, now: float) -> Answer | None:
        """The answer under `key` that is right for a statement on these `terms`, counted as a hit;
        None if there is none that may be served now."""
        if now >= self.trusted_until:
            return None
        answer = self._main.get(key)
        if answer is None:
            answer = self._small.get(key)
            if answer is None:
                return None
        if answer.version != answer.view.version or answer.expires <= now:
            self._remove(key)
            return None
        if answer.terms is not terms and answer.terms != terms:
            return None
        if answer.uses < _MOST_USES:
            answer.uses += 1
        statistics = self._statistics
        statistics.hits += 1
        statistics.memory_hits += 1
        statistics.bytes_served += len(answer.reply) - answer.payload_from - 6
        answer.counters.hits += 1
        return answer

    # Keeping

    def keep(
        self,
        key: bytes,
        reply: bytes,
        payload_from: int,
        terms: object,
        counters: RuleCounters,
        right: Right,
    ) -> None:
        """Keep an answer, unless something has been invalidated that it was read from since the
        right to it was given."""
        view = right.view
        if right.version != view.version:
            return
        size = _OVERHEAD + getsizeof(key) + getsizeof(reply)
        self._remove(key)
        if size * _SMALL_SHARE > self.limit:
            return  # it would push out too much of the rest
        answer = Answer(reply, payload_from, terms, view, counters, right.expires, size)
        mark = hash(key)
        if mark in self._ghosts:
            del self._ghosts[mark]
            self._main[key] = answer
            self._main_size += size
        else:
            self._small[key] = answer
            self._small_size += size
        self._make_room()

    def view(self, database: str, reads: frozenset[str]) -> View:
        """The view of what reads these tables."""
        view = self._views.get((database, reads))
        if view is None:
            if len(self._views) >= _MOST_VIEWS:
                self._forget()
            view = self._views[database, reads] = View()
            for name in {EVERYTHING} | reads:
                self._readers.setdefault((database, name), []).append(view)
        return view

    def _remove(self, key: bytes) -> None:
        answer = self._main.pop(key, None)
        if answer is not None:
            self._main_size -= answer.size
            return
        answer = self._small.pop(key, None)
        if answer is not None:
            self._small_size -= answer.size

    def _make_room(self) -> None:
        while self.size > self.limit:
            if self._small_size * 100 > self.limit * _SMALL_SHARE or not self._main:
                self._leave_small()
            else:
                self._leave_main()
            if len(self._ghosts) > len(self._main) + len(self._small):
                self._ghosts.popitem(last=False)
        statistics = self._statistics
        statistics.memory_bytes = self.size
        statistics.memory_entries = len(self._main) + len(self._small)

    def _leave_small(self) -> None:
        key, answer = self._small.popitem(last=False)
        self._small_size -= answer.size
        if answer.version != answer.view.version:
            return
        if answer.uses > 1:
            answer.uses = 0
            self._main[key] = answer
            self._main_size += answer.size
        else:
            self._statistics.evictions += 1
            self._ghosts[hash(key)] = None

    def _leave_main(self) -> None:
        key, answer = self._main.popitem(last=False)
        if answer.version != answer.view.version:
            self._main_size -= answer.size
        elif answer.uses:
            answer.uses -= 1
            self._main[key] = answer
        else:
            self._statistics.evictions += 1
            self._main_size -= answer.size

    @property
    def size(self) -> int:
        """Bytes in use, the bookkeeping included; what is outdated counts until it is dropped."""
        return self._small_size + self._main_size + len(self._ghosts) * _GHOST

    # Invalidation

    def invalidate(self, database: str, names: frozenset[str]) -> None:
        """No answer that was read from one of the tables `names` is served any more; "*" is the
        whole database."""
        for name in names:
            for view in self._readers.get((database, name), ()):
                view.version += 1

    def empty(self) -> None:
        """Forget everything, and serve nothing until trusted again."""
        self.trusted_until = 0.0
        self._forget()

    def _forget(self) -> None:
        for view in self._views.values():
            view.version += 1  # rights to it are worth nothing: it will hear of nothing any more
        self._views.clear()
        self._readers.clear()
        self._small.clear()
        self._main.clear()
        self._ghosts.clear()
        self._small_size = self._main_size = 0
        self._statistics.memory_bytes = self._statistics.memory_entries = 0
