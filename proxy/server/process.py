"""One Penstock process: everything started in order, and stopped in the reverse."""

import asyncio
import signal
import time
from collections.abc import Iterator

import structlog
from aiohttp import web

from proxy.admin.console.console import NAMES as CONSOLES
from proxy.admin.console.console import AdminConsole
from proxy.admin.console.gather import Insight
from proxy.admin.http import ListenError, bound_address, start_http, stop_http
from proxy.admin.metrics import Observed, PoolRow
from proxy.cache.service import CacheService, start_cache
from proxy.config.settings import AuthSettings, Settings
from proxy.config.types import HostPort
from proxy.net.listener import Listener, listen
from proxy.server.databases import Database, make_database
from proxy.session import relay, states
from proxy.session.login import LoginProtocol, Reception
from proxy.session.registry import Registry
from proxy.tasks import spawn
from proxy.topology.counters import Counters
from proxy.wire import errors
from proxy.wire.client_login import Credentials
from proxy.wire.errors import PgError
from proxy.wire.scram import make_verifier

log = structlog.get_logger(__name__)

_SWEEP_SECONDS = 1.0
_FIRST_ROUND_SECONDS = 3.0


class Process:
    """A running proxy. `start`, then `stop`; or `run`, which waits for a signal between."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.databases: dict[str, Database] = {}
        self.registry = Registry(self._client_left, self._cancel_asked)
        self.address: HostPort | None = None
        self.http_address: HostPort | None = None
        self.cache: CacheService | None = None
        self._console: AdminConsole | None = None
        self._listener: Listener | None = None
        self._http: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._stopping = False

    def _client_left(self) -> None:
        self.counters.clients -= 1

    def _cancel_asked(self) -> None:
        self.counters.cancels += 1

    async def start(self) -> None:
        """Connect, watch and listen. Raises ListenError if an address can't be had."""
        settings = self.settings
        self.cache = start_cache(settings.cache, settings.databases)
        results = self.cache.results if self.cache else None
        for name in settings.databases:
            database = make_database(name, settings, results, self.counters)
            self.databases[name] = database
            await database.start()
        await asyncio.gather(
            *(one.monitor.first_round(_FIRST_ROUND_SECONDS) for one in self.databases.values())
        )
        await self._listen()
        self._sweeper = spawn(self._sweep(), "pool sweeper")
        log.info(
            "listening",
            sql=str(self.address),
            http=str(self.http_address) if self.http_address else "off",
            databases=sorted(self.databases),
            hot_path=_form(),
        )

    async def _listen(self) -> None:
        settings = self.settings.server
        self._console = console = AdminConsole(self._insight())
        reception = Reception(
            databases={name: one.context for name, one in self.databases.items()},
            consoles={name: console for name in CONSOLES if name not in self.databases},
            credentials=_credentials(self.settings.auth),
            counters=self.counters,
            registry=self.registry,
            max_clients=settings.max_client_connections,
            login_timeout=settings.login_timeout,
        )
        host, port = settings.listen
        try:
            self._listener = listen(host, port, lambda: LoginProtocol(reception))
        except OSError as error:
            raise ListenError(
                f"can't listen on {settings.listen} (server.listen): {error.strerror or error}"
            ) from error
        self.address = HostPort(*self._listener.address)
        if settings.http_listen is not None:
            runner = await start_http(settings.http_listen, self._observed())
            self._http = runner
            self.http_address = bound_address(runner)

    def _observed(self) -> Observed:
        cache = self.cache
        return Observed(
            self.counters,
            [one.context.topology for one in self.databases.values()],
            pools=self._pool_rows,
            cache=cache.results.statistics if cache else None,
            cache_up=(lambda: cache.up) if cache else None,
            stopping=lambda: self._stopping,
        )

    def _insight(self) -> Insight:
        return Insight(
            self.settings,
            self.counters,
            self.registry,
            contexts=lambda: [one.context for one in self.databases.values()],
            pools=lambda: [pool for one in self.databases.values() for pool in one.pools],
            cache=self.cache,
        )

    def _pool_rows(self) -> Iterator[PoolRow]:
        for database in self.databases.values():
            yield from database.pools.rows()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for database in self.databases.values():
                for pool in database.pools:
                    pool.sweep(now)

    async def stop(self) -> None:
        """Take no more clients, let what runs finish within server.shutdown_timeout, and close."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        deadline = time.monotonic() + self.settings.server.shutdown_timeout
        while self._busy() and time.monotonic() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        for session in self.registry:
            session.fatal(
                PgError(errors.ADMIN_SHUTDOWN, "terminating connection: Penstock is shutting down")
            )
        if self._console is not None:
            self._console.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._http is not None:
            await stop_http(self._http)
        for database in self.databases.values():
            await database.stop()
        if self.cache is not None:
            await self.cache.close()
        await asyncio.sleep(0)

    def _busy(self) -> bool:
        return any(session.state != states.IDLE for session in self.registry)

    async def run(self) -> None:
        """Start, wait for SIGINT or SIGTERM, stop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await self.start()
        await stop.wait()
        log.info("stopping", clients=len(self.registry))
        await self.stop()
        log.info("stopped")


def _credentials(settings: AuthSettings) -> Credentials | None:
    if settings.method == "trust":
        return None
    return Credentials(
        {
            user.name: make_verifier(user.password.get_secret_value())
            for user in settings.users
            if user.password is not None
        }
    )


def _form() -> str:
    """Whether the hot path runs compiled here (see setup.py)."""
    return "interpreted" if str(relay.__file__).endswith(".py") else "compiled"
