"""A pool: one user's connections to one database on one node, lent first come, first served."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from proxy.config.settings import PoolSettings
from proxy.net.listener import connect
from proxy.pool.backend import Backend, Borrower
from proxy.tasks import spawn
from proxy.topology.node import Node
from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.server_login import ServerLogin

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Login:
    """How the pool logs in."""

    user: str
    password: str | None


class Pool:
    """Lends backends. All decisions are made at once; only connecting waits."""

    def __init__(self, node: Node, database: str, login: Login, settings: PoolSettings) -> None:
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
        """Connections made before are too old."""
        self.welcome: dict[bytes, bytes] | None = None
        """ParameterStatus values of a fresh login."""

    @property
    def idle_count(self) -> int:
        return len(self._idle)

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
            return backend
        self._waiting.append((time.monotonic(), borrower))
        self._grow()
        return None

    def forget(self, borrower: Borrower) -> None:
        """The borrower no longer waits."""
        self._waiting = deque(item for item in self._waiting if item[1] is not borrower)

    def release(self, backend: Backend) -> None:
        """Take back a backend that is idle outside a transaction, and lend it on."""
        self._returned(backend)
        if backend.closed:
            return
        if self._closing or self._too_old(backend):
            backend.close()
            return
        if backend.pending_cancels:
            return  # `cancel_arrived` brings it back
        self._lend_or_keep(backend)

    def cancel_arrived(self, backend: Backend) -> None:
        """A cancel request for this backend has been taken by its server."""
        backend.pending_cancels -= 1
        if not backend.pending_cancels and not backend.in_use and not backend.closed:
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
            _, borrower = self._waiting.popleft()
            backend.in_use = True
            self.node.in_use += 1
            borrower.backend_lent(backend)
        else:
            backend.idle_since = self._now
            self._idle.append(backend)

    def _too_old(self, backend: Backend) -> bool:
        return backend.connected_at < self._oldest

    def _grow(self) -> None:
        wanted = len(self._waiting) - self._connecting
        room = self.settings.size - self.size
        if wanted <= 0 or room <= 0 or self._closing:
            return
        if self._last_error is not None and time.monotonic() < self._retry_at:
            if not self.backends and not self._connecting:
                self._refuse_all(self._last_error)
            return
        self._connecting += 1
        spawn(self._connect(), f"connect {self.node.name}")

    async def _connect(self) -> None:
        ready: asyncio.Future[Backend] = asyncio.get_running_loop().create_future()

        def on_ready(backend: Backend) -> None:
            if not ready.done():
                ready.set_result(backend)

        def on_lost(backend: Backend, error: PgError) -> None:
            if ready.done():
                self._lost(backend)
            else:
                ready.set_exception(error)

        address = self.node.address
        login = ServerLogin(
            self.login.user,
            self.login.password,
            {"database": address.database, "application_name": "penstock"},
        )
        backend = Backend(self.node, login, on_ready, on_lost)
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                await connect(address.host, address.port, backend)
                await ready
        except (OSError, TimeoutError) as error:
            self._connecting -= 1
            ready.cancel()
            backend.close()
            self._connect_failed(
                PgError(
                    errors.CONNECTION_FAILURE,
                    f"can't connect to {self.node.name} at {address}: "
                    f"{error or 'no answer in time'}",
                    "check that the server runs and that the address in the configuration is right",
                )
            )
        except PgError as error:
            self._connecting -= 1
            self._connect_failed(error)
        else:
            self._connecting -= 1
            self._connected(backend)

    def _connected(self, backend: Backend) -> None:
        self._last_error = None
        if backend.closed:
            return
        self.backends.add(backend)
        self.welcome = dict(backend.parameters)
        if self._closing:
            backend.close()
            return
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
        self._grow()

    def sweep(self, now: float) -> None:
        """Refuse those who waited too long, close what is idle or old, grow. Called each second."""
        self._now = now
        lifetime = self.settings.max_lifetime
        self._oldest = now - lifetime if lifetime else float("-inf")
        while self._waiting and now - self._waiting[0][0] > self.settings.wait_timeout:
            _, borrower = self._waiting.popleft()
            borrower.backend_refused(
                PgError(
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
        self._grow()

    def close(self) -> None:
        """Close idle connections now and lent ones when they come back."""
        self._closing = True
        for backend in self._idle:
            backend.close()
        self._idle.clear()
