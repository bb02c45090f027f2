"""One Penstock process: everything started in order, and stopped in the reverse."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import structlog
from aiohttp import web

from proxy.admin.console.console import NAMES as CONSOLES
from proxy.admin.console.console import AdminConsole
from proxy.admin.console.control import Stop
from proxy.admin.console.gather import Insight
from proxy.admin.http import ListenError, bound_address, start_http, stop_http
from proxy.admin.metrics import Observed, PoolRow
from proxy.auth.load import load_auth
from proxy.auth.state import AuthState
from proxy.cache.feed.feed import FeedState
from proxy.cache.service import CacheService, start_cache
from proxy.cache.writeback.state import WriteBackState
from proxy.config.pooling import (
    WILDCARD,
    database_caps,
    database_settings,
    times_out,
    user_caps,
)
from proxy.config.settings import Settings
from proxy.config.types import HostPort
from proxy.net.contexts import TlsError
from proxy.net.listener import Listener, open_channel
from proxy.pool.pool import Pool
from proxy.server import collector, systemd
from proxy.server.databases import Database
from proxy.server.descriptors import TooFewDescriptors, provide
from proxy.server.ending import Ending
from proxy.server.entries import open_entries
from proxy.server.limits import Limits
from proxy.server.ondemand import OnDemand
from proxy.server.operations import Operations
from proxy.server.running import Seat
from proxy.server.security import Security
from proxy.server.signals import SIGNALS
from proxy.server.vacancies import Vacancies
from proxy.session import fast_rings, relay, timeouts
from proxy.session.admission import Admission
from proxy.session.analyst import analyst
from proxy.session.context import DatabaseContext
from proxy.session.login import Console, Reception
from proxy.session.opening import Entrance, Opening
from proxy.session.registry import Registry
from proxy.tasks import spawn
from proxy.topology.counters import Counters
from proxy.topology.node import DatabaseTopology
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

_KEPT_CAPS = 4096
_SWEEP_SECONDS = 1.0
_PATIENCE = 0.5
"""Seconds for which queries stay on the fast path through a sweep."""
_FIRST_ROUND_SECONDS = 3.0
_LAST_ANSWER_SECONDS = 0.02


class Process:
    """A running proxy. `start`, then `stop`; or `run`, which waits for a signal between.

    Raises ListenError if TLS can't be had as the settings want it.

    `read`: reads the configuration again, for RELOAD. `sockets`: listeners that are open already.
    `seat`: of one worker among several, which listens nowhere: `greet` gives it its clients.
    Raises AuthError if what authentication needs can't be had.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings] | None = None,
        sockets: systemd.Activated | None = None,
        seat: Seat | None = None,
    ) -> None:
        self.settings = settings
        """In force now."""
        self.auth = AuthState(load_auth(settings))
        self.counters = Counters()
        """What is not of a database."""
        self.databases: dict[str, Database] = {}
        """Those configured, and those made on demand."""
        self.limits = Limits(settings)
        self.on_demand = OnDemand(self)
        self.vacancies = Vacancies(self)
        self.registry = Registry(
            self._client_left,
            self._cancel_asked,
            0 if seat is None else seat.number,
            None if seat is None else seat.cancel_elsewhere,
            fast_rings.settle,
        )
        self.address: HostPort | None = None
        self.unix_path: Path | None = None
        self.http_address: HostPort | None = None
        self.cache: CacheService | None = None
        self.stopping: Ending | None = None
        self.security = _security(settings)
        self._read = read
        self.seat = seat
        self._sockets = sockets or systemd.Activated()
        self._leaving: list[Database] = []
        """Configured no more, but with clients."""
        self._topologies: list[DatabaseTopology] = []
        self.operations: Operations | None = None
        self.insight: Insight | None = None
        self._console: AdminConsole | None = None
        self._visitors: Console | None = None if seat is None else seat.console
        """Who takes clients of the console."""
        self._entrance: Entrance | None = None
        self._openings: dict[Opening, None] = {}
        self._listeners: Sequence[Listener] = ()
        self._http: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def _client_left(self) -> None:
        self.counters.clients -= 1

    def _cancel_asked(self) -> None:
        self.counters.cancels += 1

    def all_databases(self) -> list[Database]:
        """Also those that are configured no more and still have clients."""
        return [*self.databases.values(), *self._leaving]

    async def start(self) -> None:
        """Connect, watch and listen. Raises ListenError if an address can't be had."""
        settings = self.settings
        try:
            provide(settings)
        except TooFewDescriptors as error:
            raise ListenError(str(error)) from error
        try:
            self.cache = start_cache(settings.cache, set(settings.databases) - {WILDCARD})
        except TlsError as error:
            raise ListenError(str(error)) from error
        for name in settings.databases:
            if name != WILDCARD:
                await self.make_database(name, settings).start()
        await asyncio.gather(
            *(one.monitor.first_round(_FIRST_ROUND_SECONDS) for one in self.databases.values())
        )
        self.operations = operations = Operations(self, self._read)
        self.insight = self._insight(operations)
        if self.seat is None:
            self._console = AdminConsole(self.insight, self.registry)
            self._visitors = self._console
            await self._listen()
        else:
            self.receive(settings)
        self._sweeper = spawn(self._sweep(), "pool sweeper")
        analyst.open()
        collector.settle()
        log.info(
            "listening" if self.seat is None else "serving",
            sql=str(self.address),
            unix=str(self.unix_path) if self.unix_path else "off",
            client_tls=settings.client_tls.mode,
            http=str(self.http_address) if self.http_address else "off",
            databases=sorted(self.databases),
            hot_path=_form(),
        )

    def make_database(self, name: str, settings: Settings) -> Database:
        """Add a database, which is not watched yet."""
        results = self.cache.results if self.cache else None
        database = Database(name, settings, self.auth, results, self.security, self.limits)
        database.context.vacate = self.vacancies.begin
        database.context.sessions = self.registry
        self.databases[name] = database
        self._topologies.append(database.context.topology)
        if self.seat is not None:
            tell, told = self.seat.schema_changed, name
            database.catalogue.on_schema_change = lambda: tell(told)
        if self.operations is not None and self.operations.paused:
            database.pause()
        return database

    def leave_database(self, name: str) -> None:
        """Serve it no more; it ends when the last of its clients has left."""
        gone = self.databases.pop(name)
        self._topologies.remove(gone.context.topology)
        self._leaving.append(gone)

    async def change_databases(self, settings: Settings) -> None:
        """Add, change and remove databases. Clients of one that goes are left alone; it ends when
        the last of them has left."""
        self.limits.configure(settings)
        for name in list(self.databases):
            if database_settings(settings, name) is None:
                self.leave_database(name)
            else:
                await self.databases[name].apply(settings)
        for name in settings.databases:
            if name not in self.databases and name != WILDCARD:
                await self.make_database(name, settings).start()
        await self.on_demand.configure(settings)
        for session in self.registry:
            session.upstream.forget_pools()

    def renew_connections(self, databases: frozenset[str]) -> None:
        """Replace the connections to their servers; WILDCARD stands for those on demand."""
        for name, database in self.databases.items():
            if (name if name in self.settings.databases else WILDCARD) in databases:
                database.pools.reconnect()

    def schema_changed(self, name: str) -> None:
        """Another worker has passed a schema change on."""
        database = self.databases.get(name)
        if database is not None:
            database.context.prepared.retire()
            database.catalogue.invalidate()

    def receive(self, settings: Settings) -> None:
        """Logins that begin from now on go by these."""
        console = self._visitors
        assert console is not None
        reception = Reception(
            databases=self.on_demand.contexts,
            consoles={name: console for name in CONSOLES if name not in settings.databases},
            auth=self.auth,
            counters=self.counters,
            registry=self.registry,
            admission=Admission(
                settings.server.max_client_connections,
                frozenset(settings.auth.admins),
                settings.limits.admin_clients,
                of_database=lru_cache(_KEPT_CAPS)(lambda name: database_caps(settings, name)),
                of_user=lru_cache(_KEPT_CAPS)(lambda name: user_caps(settings, name)),
            ),
            max_openings=settings.server.max_opening_connections,
            login_timeout=settings.server.login_timeout,
        )
        self._entrance = Entrance(reception, self.security.clients, self._openings)

    def greet(self, connection: socket.socket) -> None:
        """Serve a client that was accepted here or by another process."""
        assert self._entrance is not None
        protocol = Opening(self._entrance)
        protocol.connection_made(open_channel(connection, protocol))

    async def _listen(self) -> None:
        self.receive(self.settings)
        entries = open_entries(self.settings, self._sockets.sql)
        try:
            await self._listen_for_http()
        except BaseException:
            entries.close()
            raise
        self.address, self.unix_path = entries.address, entries.path
        self._listeners = entries.listen(self.greet)

    async def _listen_for_http(self) -> None:
        settings = self.settings.server
        if settings.http_listen is not None:
            self._http = runner = await start_http(
                settings.http_listen, self.observed(), settings.reuse_port, self._sockets.http
            )
            self.http_address = bound_address(runner)

    def observed(self) -> Observed:
        cache = self.cache
        return Observed(
            self.counters,
            self._topologies,
            pools=self._pool_rows,
            cache=cache.results.statistics if cache else None,
            cache_up=(lambda: cache.up) if cache else None,
            stopping=lambda: self.stopping is not None,
            feeds=self.feed_states,
            write_backs=self._write_backs,
            by_database=self._counted,
        )

    def _insight(self, operations: Operations) -> Insight:
        return Insight(
            lambda: self.settings,
            self.counters,
            self.registry,
            contexts=self._contexts,
            pools=self._pools,
            control=operations,
            cache=self.cache,
            feeds=self.feed_states,
            consoles=lambda: () if self._console is None else self._console.states(),
        )

    def _pools(self) -> list[Pool]:
        fast_rings.settle()
        return [pool for one in self.all_databases() for pool in one.pools]

    def _contexts(self) -> list[DatabaseContext]:
        fast_rings.settle()
        return [one.context for one in self.databases.values()]

    def _counted(self) -> list[Counters]:
        fast_rings.settle()
        return [one.context.counters for one in self.all_databases()]

    def feed_states(self) -> list[FeedState]:
        """Of the databases that have a change feed."""
        return [one.feed.state() for one in self.databases.values() if one.feed is not None]

    def _write_backs(self) -> list[WriteBackState]:
        found = (one.context.write_back for one in self.databases.values())
        return [one.state for one in found if one is not None]

    def _pool_rows(self) -> Iterator[PoolRow]:
        fast_rings.settle()
        for database in self.databases.values():
            yield from database.pools.rows()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            fast_rings.settle(_PATIENCE)
            self.security.refresh()
            for database in self.all_databases():
                database.pools.sweep(now)
                database.context.listener.sweep(now)
            await self.on_demand.sweep(now)
            if times_out(self.settings):
                await timeouts.sweep(self.registry.unsettled(), time.perf_counter())
            if self._leaving:
                await self._part()

    async def _part(self) -> None:
        """Stop databases whose last client has left."""
        contexts = {id(session.context) for session in self.registry}
        for database in [one for one in self._leaving if id(one.context) not in contexts]:
            self._leaving.remove(database)
            self.counters.include(database.context.counters)
            await database.stop()
            log.info("database stopped", database=database.context.name)

    def shut_down(self, how: Stop, bounded: bool = False) -> None:
        """End the process, at once where an end is under way already. `bounded`: wait no longer
        than server.drain_timeout and server.shutdown_timeout."""
        if self.stopping is not None or how == "now":
            self.stopping = self.stopping or Ending(self, how)
            self.stopping.hurry = True
            # Whoever asked for it in the console has to be answered before the end begins.
            asyncio.get_running_loop().call_later(_LAST_ANSWER_SECONDS, self._over.set)
            return
        self.stopping = ending = Ending(self, how)
        log.info("stopping", how=how, clients=len(self.registry))
        systemd.stopping(how.replace("_", " "))
        self._stop_listening()
        spawn(self._wind_down(ending, bounded), "shutdown")

    async def _wind_down(self, ending: Ending, bounded: bool) -> None:
        server = self.settings.server
        if server.reuse_port and self._http is not None:
            runner, self._http = self._http, None
            await stop_http(runner)  # the process that comes after answers from now on
        if ending.how == "wait_for_clients":
            left = await ending.wait_for_clients(server.drain_timeout if bounded else None)
            if not left:
                await ending.wait_for_servers(server.shutdown_timeout)
        else:
            await ending.wait_for_servers(server.shutdown_timeout if bounded else None)
        self._over.set()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def stop(self) -> None:
        """Take no more clients, let what runs finish within server.shutdown_timeout, and close."""
        ending = self.stopping
        if ending is None:
            ending = self.stopping = Ending(self, "wait_for_servers")
            self._stop_listening()
            await ending.wait_for_servers(self.settings.server.shutdown_timeout)
        self._stop_listening()
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
        for database in self.all_databases():
            await database.stop()
        if self.cache is not None:
            await self.cache.close()
        analyst.close()
        await asyncio.sleep(0)

    async def run(self) -> None:
        """Start, wait for a signal or an administrator to end it, stop."""
        loop = asyncio.get_running_loop()
        for number, how in SIGNALS.items():
            loop.add_signal_handler(number, self.shut_down, how, True)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self.start()
        systemd.ready()
        await self.over()
        log.info("closing", clients=len(self.registry))
        systemd.stopping("closing")
        await self.stop()
        log.info("stopped")

    async def over(self) -> None:
        """Return when an administrator or a signal has ended the process."""
        await self._over.wait()

    def _reload(self) -> None:
        async def reload() -> None:
            if self.operations is not None:
                try:
                    await self.operations.reload()
                except PgError as error:  # what is wrong has been logged
                    log.error("SIGHUP changed nothing", error=error.message)

        spawn(reload(), "reload")


def _security(settings: Settings) -> Security:
    try:
        return Security(settings)
    except TlsError as error:
        raise ListenError(str(error)) from error


def _form() -> str:
    """Whether the hot path runs compiled here (see setup.py)."""
    return "interpreted" if str(relay.__file__).endswith(".py") else "compiled"
