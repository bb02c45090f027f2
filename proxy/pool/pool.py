"""A pool: one user's connections to one database on one node, lent first come, first served."""

import time
from collections.abc import Sequence
from typing import Final

from proxy.config.settings import PoolSettings
from proxy.pool.connections import Login
from proxy.pool.lending import DISCARD_ALL, Lending
from proxy.pool.limits import Limit
from proxy.topology.counters import Counters
from proxy.topology.node import Node
from proxy.wire import errors
from proxy.wire.errors import PgError

__all__ = ["DISCARD_ALL", "Login", "Pool"]

_STARVED_SECONDS: Final = 1.0
"""A wait for a limit's sake after which another pool must give up a connection."""


class Pool(Lending):
    """Lends backends. All decisions are made at once; only connecting waits."""

    def __init__(
        self,
        node: Node,
        database: str,
        login: Login,
        settings: PoolSettings,
        counters: Counters | None = None,
        limits: Sequence[Limit] = (),
        connect_query: str = "",
    ) -> None:
        counters = counters or Counters()
        super().__init__(node, database, login, settings, counters, limits, connect_query)
        self._vacant = False
        """The database is to be left alone."""
        self._told_until = float("-inf")
        """Who has waited since before has been told so."""
        for limit in self._limits:
            limit.pools[self] = None

    # Once a second

    def sweep(self, now: float) -> None:
        """Refuse those who waited too long, close what is idle or old, grow. Called each second."""
        self._now = now
        self._look_out()
        self._end_waits(now)
        self._end_own_queries(now)
        self._close_unused(now)
        self._set_aside(now)
        self.grow()
        if self._may_open():
            self._use_reserve(now)
            self._keep_warm()
            self._claim(now)

    def _end_waits(self, now: float) -> None:
        """Refuse who has waited too long, tell who has waited for long."""
        limit, notify = self.settings.wait_timeout, self.settings.wait_notify
        while limit and self._waiting:
            borrower, since = next(iter(self._waiting.items()))
            if now - since <= limit:
                break
            del self._waiting[borrower]
            borrower.backend_refused(self._waited_too_long())
        if notify and self._waiting:
            until = now - notify
            for since, borrower in self.waiting():
                if since > until:
                    break
                if since > self._told_until:
                    borrower.backend_delayed(now - since)
            self._told_until = max(self._told_until, until)

    def _waited_too_long(self) -> PgError:
        seconds = self.settings.wait_timeout
        if self.paused or self._held:
            return PgError(
                errors.CANNOT_CONNECT_NOW,
                f'database "{self.database}" was {"paused" if self.paused else "suspended"} for '
                f"longer than {seconds:g} s",
                "the administrator has to RESUME it; or raise pool.wait_timeout",
            )
        hindrance = self.hindrance()
        if hindrance and self.size < self.settings.size:
            busy, remedy = f"{hindrance} is reached", f"raise {hindrance}"
        else:
            busy, remedy = f"all {self.size} are busy", "raise pool.size"
        return PgError(
            errors.CANNOT_CONNECT_NOW,
            f'no server connection was free within {seconds:g} s for user "{self.login.user}" on '
            f"{self.node.name}: {busy}",
            f"{remedy}, shorten transactions, or raise pool.wait_timeout",
        )

    def _end_own_queries(self, now: float) -> None:
        limit = self.settings.connect_timeout
        for backend, query in list(self._own.items()):
            if limit and now - query.started > limit:
                backend.close()

    def _close_unused(self, now: float) -> None:
        timeout, most = self.settings.idle_timeout, self.settings.size + self.settings.reserve_size
        for backend in [*self._stale, *self._idle]:
            unused = timeout and now - backend.idle_since > timeout
            spared = unused and self.size > self.settings.min_size
            if self.must_close(backend) or spared or self.size > most:
                backend.close()

    def _set_aside(self, now: float) -> None:
        """Connections that are idle for so long that they have to be tried are lent last."""
        if self.settings.check_query:
            while self._idle and now - self._idle[0].idle_since > self.settings.check_delay:
                self._stale.append(self._idle.pop(0))

    def _use_reserve(self, now: float) -> None:
        """For each who has waited too long a connection beyond the pool's size."""
        delay, most = self.settings.reserve_timeout, self.settings.size + self.settings.reserve_size
        if not delay or self.size >= most:
            return
        patient = self._connecting
        for since, _ in self.waiting():
            if now - since <= delay:
                break
            if patient:
                patient -= 1
            elif not self._open(most):
                break

    def _keep_warm(self) -> None:
        """Hold min_size connections open, as far as nobody else needs the places."""
        least = 0 if self._vacant or self._cold else min(self.settings.min_size, self.settings.size)
        while self.size < least and self._last_error is None and not self.retired:
            if self.hindrance() or not self._open(least):
                break

    def _claim(self, now: float) -> None:
        """Get a connection of another pool if a limit keeps this one from growing for too long."""
        first = next(iter(self._waiting.values()), None)
        for limit in self._limits:
            if first is None:
                limit.content(self)
            elif now - first > _STARVED_SECONDS:
                limit.demand(self)

    # What a limit that is shared with other pools asks for

    def idle_longest(self) -> float | None:
        """Since when the longest unused connection is; None where somebody waits for one."""
        if self._waiting:
            return None
        return min((one.idle_since for one in self._all_idle()), default=None)

    def spare(self) -> None:
        """Close the connection that is unused for longest."""
        idle = self._all_idle()
        if idle:
            min(idle, key=lambda one: one.idle_since).close()

    def heed(self) -> None:
        """Another pool is starved: give back what is not needed from now on."""
        self._look_out()

    def surrender(self) -> None:
        """Close the next connection that comes back, needed or not."""
        self._surrendering = True
        self._look_out()

    # What an operator asks for

    def pause(self) -> None:
        """Lend nothing more: close idle connections now and lent ones when they come back."""
        self.paused = True
        self._look_out()
        self._close_idle()

    def hold(self) -> None:
        """Lend nothing more, but keep all connections open."""
        self._held = True
        self._look_out()
        self._aside = self._all_idle()
        self._stale.clear()
        self._idle.clear()

    def resume(self) -> None:
        """Lend again after `pause` or `hold`."""
        self.paused = self._held = False
        self._look_out()
        aside, self._aside = self._aside, []
        for backend in aside:
            self.release(backend)
        self.grow()

    def reconnect(self) -> None:
        """Replace every connection: idle ones now, lent ones when they come back."""
        self._renewed_at = time.monotonic()
        self._look_out()
        self._close_idle()
        self.grow()

    def vacate(self) -> None:
        """Close idle connections now and lent ones when they come back; open none but for those
        who wait, until `occupy`."""
        self._vacant = self._cold = True
        self._renewed_at = time.monotonic()
        self._look_out()
        self._close_idle()

    def occupy(self) -> None:
        """After `vacate`: keep connections warm again, once one could be opened."""
        self._vacant = False

    def retire(self) -> None:
        """Nobody new will come. Those who wait are still served, and connections then closed."""
        self.retired = self._closing = True
        self._look_out()
        self._close_idle()

    def kill(self, error: PgError) -> None:
        """Close every connection at once; who holds or waits for one is told `error`."""
        for backend in list(self.backends):
            backend.sever(error)
        self._refuse_all(error)

    def configure(self, settings: PoolSettings, connect_query: str = "") -> None:
        """Go by these from now on. Connections beyond a lower `size` are closed by the sweep."""
        self.settings = settings
        if connect_query != self._connect_query:
            self._connect_query = connect_query
            self._renewed_at = time.monotonic()
        self._last_error = None  # the reason may be gone
        self._adopt()
        self.grow()

    @property
    def released(self) -> bool:
        """Whether no connection is lent, nor being made."""
        return not self._connecting and not any(one.in_use for one in self.backends)

    def close(self) -> None:
        """Close idle connections now and lent ones when they come back."""
        self._closing = True
        self._look_out()
        self._close_idle()
        for limit in self._limits:
            limit.leave(self)

    def _close_idle(self) -> None:
        for backend in self._all_idle():
            backend.close()
