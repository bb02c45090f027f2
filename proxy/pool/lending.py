"""Who gets a pool's connections: the queue, loans and returns, trying and cleaning in between.

The path of a loan, `acquire` and `release`, looks at no limit, time-out or order of an operator:
whatever keeps connections from simply going back sets `_oldest`, and what was born before takes the
long way of `_put_away`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from proxy.config.settings import PoolSettings
from proxy.net import fast_path
from proxy.net.channel import poller
from proxy.pool.backend import Backend, Borrower
from proxy.pool.connections import Connections, Login, settings_of
from proxy.pool.exchange import Exchange
from proxy.pool.limits import Limit
from proxy.pool.own_query import OwnQuery
from proxy.pool.settings_state import DEFAULTS, read_back_all
from proxy.topology.counters import Counters
from proxy.topology.node import Node
from proxy.wire.errors import PgError
from proxy.wire.messages import query

DISCARD_ALL: Final = "DISCARD ALL"
_NEVER: Final = float("-inf")
_ALWAYS: Final = float("inf")


class Lending(Connections):
    """See the module's docstring."""

    def __init__(
        self,
        node: Node,
        database: str,
        login: Login,
        settings: PoolSettings,
        counters: Counters,
        limits: Sequence[Limit],
        connect_query: str,
    ) -> None:
        super().__init__(node, database, login, settings, limits, connect_query)
        self.counters = counters
        self._idle: list[Backend] = []
        """The first are the longest unused."""
        self._next = -1
        """Which of them is lent: the one used last, so that others may be closed as idle. Where it
        is lent for a whole session, the one that has rested longest: a client that connects anew
        expects another server process, and its number not to be that of the session it left."""
        self._stale: list[Backend] = []
        """Idle for longer than check_delay: to be tried before they are lent."""
        self._aside: list[Backend] = []
        """Kept through a hold, lent to nobody."""
        self._resting = self._idle
        """Where an idle backend goes."""
        self._own: dict[Backend, OwnQuery] = {}
        """Backends that are being tried or cleaned."""
        self._trying = 0
        self._waiting: OrderedDict[Borrower, float] = OrderedDict()
        self._now = time.monotonic()
        """As of the last sweep: precise enough for lifetimes, and free."""
        self._oldest = _NEVER
        """Connections born before don't simply go back when they are released."""
        self._aged = _NEVER
        """Connections born before are to be closed."""
        self._surrendering = False
        self.fast_groups: list[int] = []
        """Groups of the fast path (see `net.fast_path`) that hold connections of this pool."""
        self._adopt()

    def _adopt(self) -> None:
        """Go by `settings`, which are new."""
        always = bool(self.settings.check_query) and not self.settings.check_delay
        self._resting = self._stale if always else self._idle
        self._next = 0 if self.settings.mode == "session" else -1
        self._look_out()
        self.uncrowd()

    @property
    def idle_count(self) -> int:
        return len(self._idle) + len(self._stale) + len(self._aside)

    @property
    def stale_count(self) -> int:
        """Of the idle connections, those that will be tried before they are lent."""
        return len(self._stale)

    @property
    def tested_count(self) -> int:
        """Connections that are being tried or cleaned."""
        return len(self._own)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def waiting(self) -> Iterator[tuple[float, Borrower]]:
        """(time.monotonic() since when, who) of those in the queue, the first come first."""
        return iter([(since, borrower) for borrower, since in self._waiting.items()])

    # Loans and returns

    def acquire(self, borrower: Borrower) -> Backend | None:
        """A backend at once, or None: the borrower hears later, unless it forgets."""
        if self._idle and not self._waiting:
            backend = self._idle.pop(self._next)
            backend.in_use = True
            self.node.in_use += 1
            self.counters.lends += 1
            return backend
        if self.fast_groups and (self._recall_one() or self.recall()):
            return self.acquire(borrower)
        self._waiting[borrower] = time.monotonic()
        self.grow()
        return None

    def put_first(self, backend: Backend) -> bool:
        """Lend this backend at the next `acquire`; false if it isn't free."""
        self.recall()
        if self._waiting or backend not in self._idle:
            return False
        self._idle.remove(backend)
        self._idle.insert(len(self._idle) if self._next else 0, backend)
        return True

    def _recall_one(self) -> bool:
        """Have back one connection that is idle on the fast path, if nobody waits; whether it may
        be lent now."""
        if self._waiting:
            return False
        for group in self.fast_groups:
            taken = fast_path.take_last(group)
            if taken is not None:
                _return(taken)
                break
        return bool(self._idle)

    def recall(self, all_of_them: bool = True) -> bool:
        """Have back what is idle on the fast path, and all others as they become free if they are
        wanted too; whether one may be lent now."""
        for group in self.fast_groups:
            while (taken := fast_path.recall(group, all_of_them)) is not None:
                _return(taken)
        return bool(self._idle) and not self._waiting

    def may_go_on(self, backend: Backend) -> bool:
        """Whether a backend that has done its work may be lent to anybody at once, untried."""
        free = not (backend.pending_cancels or backend.closed)
        return free and backend.born >= self._oldest and self._resting is self._idle

    def next_waiting(self) -> Borrower | None:
        """Who is the next in the queue."""
        return next(iter(self._waiting), None)

    def take_waiting(self, borrower: Borrower) -> None:
        """It will be served by other means from now on; what it has waited counts."""
        self.counters.wait_seconds += time.monotonic() - self._waiting.pop(borrower)

    def forget(self, borrower: Borrower) -> None:
        """The borrower no longer waits."""
        self._waiting.pop(borrower, None)

    def release(self, backend: Backend) -> None:
        """Take back a backend that is idle outside a transaction, and lend it on."""
        self._returned(backend)
        if backend.closed:
            return
        if backend.born < self._oldest:
            self._put_away(backend)
            return
        if backend.pending_cancels:
            return  # `cancel_arrived` brings it back
        self._lend_or_keep(backend)

    def cancel_arrived(self, backend: Backend) -> None:
        """A cancel request for this backend has been taken by its server."""
        backend.pending_cancels -= 1
        if backend.pending_cancels or backend.in_use or backend.closed:
            return
        if backend in self.backends:  # a replication client's is nobody else's, ever
            self.release(backend)

    def discard(self, backend: Backend) -> None:
        """Take back a backend whose state can't be cleaned, and close it."""
        self._returned(backend)
        backend.close()

    def _returned(self, backend: Backend) -> None:
        backend.owner = None
        if backend.in_use:
            backend.in_use = False
            self.node.in_use -= 1

    def _lend_or_keep(self, backend: Backend) -> None:
        if self._waiting:
            borrower, since = self._waiting.popitem(last=False)
            backend.in_use = True
            self.node.in_use += 1
            self.counters.lends += 1
            self.counters.wait_seconds += time.monotonic() - since
            borrower.backend_lent(backend)
        else:
            backend.idle_since = self._now
            self._resting.append(backend)
            if self.fast_groups:
                self.uncrowd()

    def uncrowd(self) -> None:
        """A connection is to be had now, or may be opened: who waits on the fast path may not know
        of it there."""
        for group in list(self.fast_groups):
            for descriptor in fast_path.uncrowd(group):
                poller().take_back(descriptor)

    def must_close(self, backend: Backend) -> bool:
        """Whether this connection is closed as soon as it is released."""
        return self._closing or self.paused or backend.born < self._aged

    def _put_away(self, backend: Backend) -> None:
        """A connection that may not simply be lent on as things are."""
        serves = bool(self._waiting) and not self.paused and not self._held
        if self.retired and serves and not backend.pending_cancels:
            self._lend_or_keep(backend)
        elif self.must_close(backend):
            backend.close()
        elif self._held:
            if not backend.pending_cancels:  # `cancel_arrived` brings it back
                self._aside.append(backend)
        elif self._surrendering:
            self._surrendering = False
            backend.close()
        elif not self._waiting and self._others_starve():
            backend.close()
        elif not backend.pending_cancels:
            self._lend_or_keep(backend)
        self._look_out()

    def _others_starve(self) -> bool:
        return any(limit.starving for limit in self._limits)

    def _look_out(self) -> None:
        """Decide which connections have to be put away when they are released."""
        lifetime = self.settings.max_lifetime
        self._aged = self._renewed_at
        if lifetime and self._now - lifetime > self._aged:
            self._aged = self._now - lifetime
        stopped = self._closing or self.paused or self._held
        closely = stopped or self._surrendering or self._others_starve()
        self._oldest = _ALWAYS if closely else self._aged
        if closely:
            self.recall()

    # Trying and cleaning

    def _try_stale(self) -> bool:
        """See whether a connection that was idle for long still works; it is lent if so."""
        if not self._stale:
            return False
        backend = self._stale.pop()
        self._trying += 1
        self._ask(backend, self.settings.check_query.encode(), lambda _: self._tried(backend))
        return True

    def _tried(self, backend: Backend) -> None:
        self._trying -= 1
        if self._waiting or backend.born < self._oldest:
            self.release(backend)
        else:
            backend.idle_since = self._now
            self._idle.append(backend)

    def clean(self, backend: Backend, sql: str) -> None:
        """Take back a backend that is idle outside a transaction, whose state `sql` cleans."""
        if backend.closed or backend.pending_cancels or self._closing or not sql:
            self.discard(backend)
            return
        backend.owner = None
        self._ask(backend, sql.encode(), lambda _: self._cleaned(backend, sql))

    def _cleaned(self, backend: Backend, sql: str) -> None:
        if sql.strip(" ;").upper() == DISCARD_ALL:
            backend.settings = DEFAULTS
            backend.prepared.clear()
            backend.sequences = None
            self.release(backend)
        else:
            custom = sorted(name for name in backend.settings.values if "." in name)
            self._ask(backend, read_back_all(custom), lambda found: self._learnt(backend, found))

    def _learnt(self, backend: Backend, answer: Exchange) -> None:
        backend.settings = settings_of(answer)
        self.release(backend)

    def _ask(self, backend: Backend, sql: bytes, done: Callable[[Exchange], None]) -> None:
        """Run a query of Penstock's own; a backend where that fails is closed."""

        def answered(outcome: Exchange | PgError) -> None:
            if isinstance(outcome, PgError):
                return  # the backend is gone, `_forget_backend` was called
            if outcome.error is not None:
                backend.close()
                return
            del self._own[backend]
            done(outcome)

        self._own[backend] = OwnQuery(backend, query(sql), answered)

    # What becomes of connections

    def grow(self) -> None:
        """Try idle connections and open new ones for those who wait."""
        while len(self._waiting) > self._connecting + self._trying and self._may_open():
            if not self._try_stale() and not self._open(self.settings.size):
                break

    def _connected(self, backend: Backend) -> None:
        if backend.born < self._oldest:
            self._put_away(backend)
        else:
            self._lend_or_keep(backend)
        self.grow()

    def _forget_backend(self, backend: Backend) -> None:
        own = self._own.pop(backend, None)
        if own is not None and not backend.in_use:
            self._trying -= 1
        self._returned(backend)
        for place in (self._idle, self._stale, self._aside):
            if backend in place:
                place.remove(backend)
        if self.fast_groups:
            self.uncrowd()

    def _refuse_all(self, error: PgError) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        for borrower in waiting:
            borrower.backend_refused(error)

    def _all_idle(self) -> list[Backend]:
        return [*self._stale, *self._idle, *self._aside]


def _return(taken: tuple[object, bytes]) -> None:
    """What was taken from the fast path leaves it."""
    backend, request = taken
    assert isinstance(backend, Backend)
    backend.returned(request)
