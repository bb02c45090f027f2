"""A pool: one user's connections to one database on one node, lent first come, first served."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from proxy.config.settings import PoolSettings
from proxy.pool.backend import Backend, Borrower
from proxy.pool.connecting import open_backend
from proxy.tasks import spawn
from proxy.topology.counters import Counters
from proxy.topology.node import Node
from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.passwords import ServerSecret
from proxy.wire.server_login import ServerLogin

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Login:
    """How the pool logs in: `secret` gives what is known of the user at the time."""

    user: str
    secret: Callable[[], ServerSecret | None]


class Pool:
    """Lends backends. All decisions are made at once; only connecting waits."""

    def __init__(
        self,
        node: Node,
        database: str,
        login: Login,
        settings: PoolSettings,
        counters: Counters | None = None,
    ) -> None:
        self.counters = counters or Counters()
        self.node = node
        self.database = database
        self.login = login
        self.settings = settings
        self._idle: list[Backend] = []
        self.backends: set[Backend] = set()
        self._waiting: deque[tuple[float, Borrower]] = deque()
        self._connecting = 0
        self._last_error: PgError | None = None
        self._retry_at = 0.0
        self._closing = False
        self._now = time.monotonic()
        """As of the last sweep: precise enough for lifetimes, and free."""
        self._oldest = float("-inf")
        """Connections made before are too old; all are while none may be lent."""
        self._renewed_at = float("-inf")
        """Connections made before `reconnect` was called last are to go."""
        self._limit = float("-inf")
        """As `_oldest`, whether or not any may be lent."""
        self.paused = False
        self._held = False
        self.retired = False
        self._aside: list[Backend] = []
        """Kept through a hold, lent to nobody."""
        self.welcome: dict[bytes, bytes] | None = None
        """ParameterStatus values of a fresh login."""

    @property
    def idle_count(self) -> int:
        return len(self._idle) + len(self._aside)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def waiting(self) -> Iterator[tuple[float, Borrower]]:
        """(time.monotonic() since when, who) of those in the queue, the first come first."""
        return iter(list(self._waiting))

    @property
    def size(self) -> int:
        return len(self.backends) + self._connecting

    def acquire(self, borrower: Borrower) -> Backend | None:
        """A backend at once, or None: the borrower hears later, unless it forgets."""
        if self._idle and not self._waiting:
            backend = self._idle.pop()
            backend.in_use = True
            self.node.in_use += 1
            self.counters.lends += 1
            return backend
        self._waiting.append((time.monotonic(), borrower))
        self._grow()
        return None

    def put_first(self, backend: Backend) -> bool:
        """Lend this backend at the next `acquire`; false if it isn't free."""
        if self._waiting or backend not in self._idle:
            return False
        self._idle.remove(backend)
        self._idle.append(backend)
        return True

    def forget(self, borrower: Borrower) -> None:
        """The borrower no longer waits."""
        self._waiting = deque(item for item in self._waiting if item[1] is not borrower)

    def release(self, backend: Backend) -> None:
        """Take back a backend that is idle outside a transaction, and lend it on."""
        self._returned(backend)
        if backend.closed:
            return
        if self._closing or self._too_old(backend):
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
        if self._too_old(backend):
            self._put_away(backend)
        else:
            self._lend_or_keep(backend)

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
            since, borrower = self._waiting.popleft()
            backend.in_use = True
            self.node.in_use += 1
            self.counters.lends += 1
            self.counters.wait_seconds += time.monotonic() - since
            borrower.backend_lent(backend)
        else:
            backend.idle_since = self._now
            self._idle.append(backend)

    def _too_old(self, backend: Backend) -> bool:
        return backend.connected_at < self._oldest

    def _grow(self) -> None:
        wanted = len(self._waiting) - self._connecting
        room = self.settings.size - self.size
        if wanted <= 0 or room <= 0 or (self._closing and not self.retired):
            return
        if self.paused or self._held:
            return
        if self._last_error is not None and time.monotonic() < self._retry_at:
            if not self.backends and not self._connecting:
                self._refuse_all(self._last_error)
            return
        self._connecting += 1
        spawn(self._connect(), f"connect {self.node.name}")

    async def _connect(self) -> None:
        try:
            backend = await self.open({"application_name": "penstock"}, self._lost)
        except PgError as error:
            self._connecting -= 1
            self._connect_failed(error)
        else:
            self._connecting -= 1
            self._connected(backend)

    async def open(
        self, parameters: Mapping[str, str], on_lost: Callable[[Backend], None]
    ) -> Backend:
        """A new connection, logged in with these start-up parameters besides user and database.

        It is the caller's and does not count as one of the pool's; `on_lost` hears of its end.
        Raises PgError.
        """
        address = self.node.address

        def login() -> ServerLogin:
            own = {"database": address.database, **parameters}
            return ServerLogin(self.login.user, self.login.secret(), own)

        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                backend = await open_backend(self.node, login, on_lost)
        except (OSError, TimeoutError) as error:
            raise PgError(
                errors.CONNECTION_FAILURE,
                f"can't connect to {self.node.name} at {address}: {error or 'no answer in time'}",
                "check that the server runs and that the address in the configuration is right",
            ) from error
        return backend

    def _connected(self, backend: Backend) -> None:
        self._last_error = None
        if backend.closed:
            self._grow()
            return
        self.backends.add(backend)
        self.welcome = dict(backend.parameters)
        if self._closing or self._too_old(backend):
            self._put_away(backend)
        else:
            self._lend_or_keep(backend)
        self._grow()

    def _connect_failed(self, error: PgError) -> None:
        log.warning(
            "can't open a server connection",
            node=self.node.name,
            address=str(self.node.address),
            database=self.database,
            user=self.login.user,
            sqlstate=error.sqlstate,
            error=error.message,
        )
        self._last_error = error
        self._retry_at = time.monotonic() + 0.2
        if not self.backends and not self._connecting:
            self._refuse_all(error)

    def _refuse_all(self, error: PgError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, borrower in waiting:
            borrower.backend_refused(error)

    def _lost(self, backend: Backend) -> None:
        self.backends.discard(backend)
        self._returned(backend)
        if backend in self._idle:
            self._idle.remove(backend)
        elif backend in self._aside:
            self._aside.remove(backend)
        self._grow()

    def sweep(self, now: float) -> None:
        """Refuse those who waited too long, close what is idle or old, grow. Called each second."""
        self._now = now
        self._set_oldest()
        while self._waiting and now - self._waiting[0][0] > self.settings.wait_timeout:
            _, borrower = self._waiting.popleft()
            borrower.backend_refused(
                self._stopped_too_long()
                if self.paused or self._held
                else PgError(
                    errors.CANNOT_CONNECT_NOW,
                    f"no server connection was free within {self.settings.wait_timeout:g} s: "
                    f'all {self.settings.size} of user "{self.login.user}" on {self.node.name} '
                    f"are busy",
                    "raise pool.size, shorten transactions, or raise pool.wait_timeout",
                )
            )
        timeout = self.settings.idle_timeout
        for backend in list(self._idle):
            if (timeout and now - backend.idle_since > timeout) or self._too_old(backend):
                self._idle.remove(backend)
                backend.close()
        while self._idle and self.size > self.settings.size:
            self._idle[0].close()
        self._grow()

    # What an operator asks for. All of it works by `_oldest`: what is too old is not lent on but
    # put away, so that the way of a query asks nothing more.

    def pause(self) -> None:
        """Lend nothing more: close idle connections now and lent ones when they come back."""
        self.paused = True
        self._set_oldest()
        self._close_idle()

    def hold(self) -> None:
        """Lend nothing more, but keep all connections open."""
        self._held = True
        self._set_oldest()
        self._aside += self._idle
        self._idle.clear()

    def resume(self) -> None:
        """Lend again after `pause` or `hold`."""
        self.paused = self._held = False
        self._set_oldest()
        aside, self._aside = self._aside, []
        for backend in aside:
            self._put_away(backend) if self._too_old(backend) else self._lend_or_keep(backend)
        self._grow()

    def reconnect(self) -> None:
        """Replace every connection: idle ones now, lent ones when they come back."""
        self._renewed_at = time.monotonic()
        self._set_oldest()
        self._close_idle()
        self._grow()

    def retire(self) -> None:
        """Nobody new will come. Those who wait are still served, and connections then closed."""
        self.retired = self._closing = True
        self._close_idle()

    def kill(self, error: PgError) -> None:
        """Close every connection at once; who holds or waits for one is told `error`."""
        for backend in list(self.backends):
            backend.sever(error)
        self._refuse_all(error)

    def configure(self, settings: PoolSettings) -> None:
        """Go by these from now on. Connections beyond a lower `size` are closed by the sweep."""
        self.settings = settings
        self._last_error = None  # the reason may be gone
        self._set_oldest()
        self._grow()

    @property
    def released(self) -> bool:
        """Whether no connection is lent, nor being made."""
        return not self._connecting and not any(one.in_use for one in self.backends)

    def must_close(self, backend: Backend) -> bool:
        """Whether this connection is closed as soon as it is released."""
        return self._closing or self.paused or backend.connected_at < self._limit

    def _set_oldest(self) -> None:
        lifetime = self.settings.max_lifetime
        self._limit = self._renewed_at
        if lifetime and self._now - lifetime > self._limit:
            self._limit = self._now - lifetime
        self._oldest = float("inf") if self.paused or self._held else self._limit

    def _put_away(self, backend: Backend) -> None:
        """A connection that is not to be lent on as things are."""
        if self.retired and self._waiting and not self.paused and not self._held:
            self._lend_or_keep(backend)
        elif self._held and not self.must_close(backend):
            if not backend.pending_cancels:  # `cancel_arrived` brings it back
                self._aside.append(backend)
        else:
            backend.close()

    def _close_idle(self) -> None:
        for backend in [*self._idle, *self._aside]:
            backend.close()

    def _stopped_too_long(self) -> PgError:
        return PgError(
            errors.CANNOT_CONNECT_NOW,
            f'database "{self.database}" was {"paused" if self.paused else "suspended"} for longer '
            f"than {self.settings.wait_timeout:g} s",
            "the administrator has to RESUME it; or raise pool.wait_timeout",
        )

    def close(self) -> None:
        """Close idle connections now and lent ones when they come back."""
        self._closing = True
        self._close_idle()
