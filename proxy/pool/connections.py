"""The connections of a pool: how they are opened within limits, made ready, and how they end.

`pool.Pool` adds who gets them.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from proxy.config.settings import PoolSettings
from proxy.pool.backend import Backend
from proxy.pool.connecting import open_backend
from proxy.pool.exchange import Exchange
from proxy.pool.limits import Limit
from proxy.pool.own_query import ask
from proxy.pool.settings_state import DEFAULTS, SettingsState, intern_settings, read_back_all
from proxy.tasks import spawn
from proxy.topology.node import Node
from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.passwords import ServerSecret
from proxy.wire.server_login import ServerLogin

log = structlog.get_logger(__name__)

_NO_DATABASE: Final = errors.INVALID_CATALOG_NAME
"""Tried again at once: it may have been made just now."""
_JITTER: Final = 0.1
"""Part of max_lifetime by which a connection may end earlier, so that not all end at once."""


@dataclass(frozen=True, slots=True)
class Login:
    """How the pool logs in: `secret` gives what is known of the user at the time."""

    user: str
    secret: Callable[[], ServerSecret | None]


class Connections:
    """See the module's docstring."""

    def __init__(
        self,
        node: Node,
        database: str,
        login: Login,
        settings: PoolSettings,
        limits: Sequence[Limit] = (),
        connect_query: str = "",
    ) -> None:
        self.node = node
        self.database = database
        self.login = login
        self.settings = settings
        self.backends: set[Backend] = set()
        self.base: SettingsState = DEFAULTS
        """What `connect_query` sets on each connection."""
        self.welcome: dict[bytes, bytes] | None = None
        """ParameterStatus values of a fresh login."""
        self._limits = list(limits)
        self._connect_query = connect_query
        self._connecting = 0
        self._last_error: PgError | None = None
        self._retry_at = 0.0
        self._closing = False
        self._cold = False
        """The database may be there no more: no connection but for those who wait."""
        self.retired = False
        """Nobody new comes, who waits is served."""
        self.paused = False
        self._held = False
        self._renewed_at = float("-inf")
        """Connections made before `reconnect` was called last are to go."""

    @property
    def size(self) -> int:
        """Connections that there are or are being opened."""
        return len(self.backends) + self._connecting

    def _open(self, most: int) -> bool:
        """Begin to open a connection if there may be `most` and limits admit one more."""
        if self.size >= most or not self._may_open():
            return False
        failed = self._last_error
        if failed is not None and failed.sqlstate != _NO_DATABASE and self._too_early():
            if not self.backends and not self._connecting:
                self._refuse_all(failed)
            return False
        for limit in self._limits:
            if not limit.admits(self):
                limit.starve(self)
                return False
        for limit in self._limits:
            limit.content(self)
            limit.opening()
        self._connecting += 1
        spawn(self._connect(), f"connect {self.node.name}")
        return True

    def _too_early(self) -> bool:
        return time.monotonic() < self._retry_at

    def _may_open(self) -> bool:
        """Whether there is any sense in a further connection, as things are."""
        return not (self.paused or self._held or (self._closing and not self.retired))

    def hindrance(self) -> str:
        """The setting of a limit that keeps the pool from growing; "" without one."""
        return next((one.name for one in self._limits if one.reached), "")

    async def _connect(self) -> None:
        failure: PgError | None = None
        try:
            # Without an application_name of Penstock's: a client that gives none has none.
            backend = await self.open({}, self._lost, self._connect_query)
        except PgError as error:
            failure = error
        self._connecting -= 1
        if failure is not None:
            self._ended()
            self._connect_failed(failure)
            return
        self._last_error = None
        self._cold = False
        if backend.closed:
            self._ended()
            self.grow()
            return
        self._give_birth(backend)
        self.backends.add(backend)
        self.welcome = dict(backend.parameters)
        self._connected(backend)

    async def open(
        self,
        parameters: Mapping[str, str],
        on_lost: Callable[[Backend], None],
        connect_query: str = "",
    ) -> Backend:
        """A new connection, logged in with these start-up parameters besides user and database.

        It is the caller's and does not count as one of the pool's; `on_lost` hears of its end.
        Raises PgError.
        """
        address = self.node.address

        def login() -> ServerLogin:
            own = {"database": address.database, **parameters}
            return ServerLogin(self.login.user, self.login.secret(), own)

        backend: Backend | None = None
        try:
            async with asyncio.timeout(self.settings.connect_timeout or None):
                backend = await open_backend(self.node, login, on_lost)
                if connect_query:
                    await self._prepare(backend, connect_query)
        except (OSError, TimeoutError) as error:
            if backend is not None:
                backend.close()
            raise PgError(
                errors.CONNECTION_FAILURE,
                f"can't connect to {self.node.name} at {address}: "
                f"{str(error) or 'no answer in time'}",
                "check that the server runs and that the address in the configuration is right",
            ) from error
        except PgError:
            if backend is not None:
                backend.close()
            raise
        return backend

    def _give_birth(self, backend: Backend) -> None:
        """Its age counts from somewhat earlier, but not from before the last `reconnect`."""
        early = random.random() * _JITTER * self.settings.max_lifetime
        born = backend.connected_at - early
        if backend.connected_at >= self._renewed_at > born:
            born = self._renewed_at
        backend.born = born

    async def _prepare(self, backend: Backend, connect_query: str) -> None:
        """Run the database's connect_query, and learn what it has set. Raises PgError."""
        try:
            await ask(backend, connect_query.encode())
            answer = await ask(backend, read_back_all([]))
        except PgError as error:
            raise PgError(
                error.sqlstate,
                f'connect_query of database "{self.database}" failed on {self.node.name}: '
                f"{error.message}",
                error.hint,
            ) from error
        backend.settings = self.base = settings_of(answer)

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
        self._retry_at = time.monotonic() + self.settings.login_retry
        if not self.backends and not self._connecting:
            self._refuse_all(error)

    def _lost(self, backend: Backend) -> None:
        """A connection has ended, by whomever."""
        if backend in self.backends:
            self.backends.discard(backend)
            self._forget_backend(backend)
            self._ended()
            self.grow()

    def _ended(self) -> None:
        for limit in self._limits:
            limit.gone()

    # What the pool does with them

    def _connected(self, backend: Backend) -> None:
        """A connection is ready to be lent."""

    def _forget_backend(self, backend: Backend) -> None:
        """It is no more."""

    def _refuse_all(self, error: PgError) -> None:
        """Nobody can be served now."""

    def grow(self) -> None:
        """Open what is needed, as far as may be."""

    # What a limit that is shared with other pools asks for

    def idle_longest(self) -> float | None:
        """Since when the longest unused connection that can be spared is; None without one."""
        return None

    def spare(self) -> None:
        """Close that connection."""

    def heed(self) -> None:
        """Another pool is starved: give back what is not needed from now on."""

    def surrender(self) -> None:
        """Close the next connection that comes back, needed or not."""


def settings_of(answer: Exchange) -> SettingsState:
    """The settings that an answer to `read_back_all` tells of."""
    return intern_settings(
        {
            row[0].decode().lower(): row[1]
            for row in answer.rows
            if row[0] is not None and row[1] is not None
        }
    )
