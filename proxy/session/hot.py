"""Write-through: results that are in demand are read again after a write, before its writer knows.

A rule with `strategy = "write-through"` has the statements remembered that clients have asked the
cache for. When a write has ended and the epochs of its tables have moved, those of them that read
these tables run again, each as its client sent it and in its client's settings (see `refresh`), by
the same path as a client's miss: what guards a fill guards these. The writer waits for them, but no
longer than the rule says; what isn't done by then is given up, and a miss for who asks.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from proxy.cache.keys import EVERYTHING
from proxy.cache.statistics import Statistics
from proxy.pool.settings_state import SettingsState
from proxy.routing.plan import CachePlan
from proxy.session.batch import Batch
from proxy.session.client import Client

CAPACITY: Final = 1000
"""Statements that are remembered for each database; the longest unused go first."""
_LONGEST: Final = 16 * 1024
"""Bytes of a request that is remembered."""
_MOST_IN_VAIN: Final = 3
"""After so many refreshes without anybody's asking a statement is forgotten."""


class Request:
    """A statement as a client has sent it, and all of the client that decides the answer."""

    __slots__ = ("batch", "in_vain", "key", "reads", "reported", "settings", "terms", "user")

    def __init__(
        self, key: bytes, client: Client, batch: Batch, terms: CachePlan, reads: tuple[str, ...]
    ) -> None:
        self.key = key
        self.user = client.user
        self.settings: SettingsState = client.settings
        self.reported = dict(client.reported)
        self.batch = batch
        self.terms = terms
        self.reads = reads
        """Names of the epochs that the result depends on."""
        self.in_vain = 0
        """Refreshes since somebody asked for it."""


Run = Callable[[Request, Callable[[bool], None]], None]
"""Runs a request for the cache's sake, and calls back once when that has come to its end, or to
that of the time that its rule gives it: False then, and where it can't be run now."""


class HotResults:
    """What to refresh after a write to one database. `run`: see `Run`."""

    def __init__(self, statistics: Statistics, run: Run) -> None:
        self._run = run
        self._statistics = statistics
        self._requests: OrderedDict[bytes, Request] = OrderedDict()
        """The longest unused first."""
        self._readers: dict[str, dict[bytes, None]] = {}
        """Keys of `_requests` by the epochs that they depend on."""

    def __len__(self) -> int:
        return len(self._requests)

    def note(
        self, key: bytes, client: Client, batch: Batch, terms: CachePlan, reads: tuple[str, ...]
    ) -> None:
        """A client has asked for this; `key` stands for all that decides the answer."""
        known = self._requests.get(key)
        if known is not None and known.terms is terms and known.reads == reads:
            known.in_vain = 0
            self._requests.move_to_end(key)
            return
        if known is not None:
            self._forget(known)
        if len(batch.payload) > _LONGEST:
            return
        if len(self._requests) >= CAPACITY:
            self._forget(next(iter(self._requests.values())))
        self._requests[key] = Request(key, client, batch, terms, reads)
        for name in reads:
            self._readers.setdefault(name, {})[key] = None

    def touch(self, key: bytes) -> None:
        """A client has got this from the process's memory."""
        known = self._requests.get(key)
        if known is not None:
            known.in_vain = 0
            self._requests.move_to_end(key)

    def refresh(self, moved: frozenset[str], done: Callable[[], None]) -> None:
        """Read again what depends on epochs that have moved; `done` is called once, when all that
        has come to its end."""
        requests = self._affected(moved)
        if not requests:
            done()
            return
        refreshing = _Refreshing(len(requests), self._statistics, done)
        for request in requests:
            self._run(request, refreshing.ended)

    def _affected(self, moved: frozenset[str]) -> list[Request]:
        keys: Iterable[bytes] = self._requests
        if EVERYTHING not in moved:
            keys = {key for name in moved for key in self._readers.get(name, ())}
            if not keys:
                return []
        used_last = [one for key, one in reversed(self._requests.items()) if key in keys]
        chosen: list[Request] = []
        places: dict[str, int] = {}
        for request in used_last:
            rule, most = request.terms.rule, request.terms.refresh_entries
            if request.in_vain >= _MOST_IN_VAIN:
                self._forget(request)
            elif places.get(rule, 0) < most:
                places[rule] = places.get(rule, 0) + 1
                request.in_vain += 1
                chosen.append(request)
        return chosen

    def _forget(self, request: Request) -> None:
        del self._requests[request.key]
        for name in request.reads:
            readers = self._readers.get(name)
            if readers is not None:
                readers.pop(request.key, None)
                if not readers:
                    del self._readers[name]


class _Refreshing:
    """The requests that one write has set off."""

    def __init__(self, count: int, statistics: Statistics, done: Callable[[], None]) -> None:
        self._left = count
        self._statistics = statistics
        self._done = done

    def ended(self, in_time: bool) -> None:
        """One of them."""
        if in_time:
            self._statistics.refreshed += 1
        else:
            self._statistics.refreshed_late += 1
        self._left -= 1
        if not self._left:
            self._done()
