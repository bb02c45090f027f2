"""The process that stands before several workers: it takes connections and hands them over.

It serves the console and the HTTP pages for all, reads the configuration, hears signals, and
replaces a worker that dies. No query passes through it.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web
from prometheus_client.core import Metric

import proxy
from proxy.admin.console.console import AdminConsole
from proxy.admin.console.control import Stop
from proxy.admin.http import bound_address, start_http, stop_http
from proxy.admin.merging import merge
from proxy.config.settings import Settings
from proxy.net.channel import ChannelProtocol
from proxy.net.listener import Listener, open_channel
from proxy.server import systemd
from proxy.server.entries import open_entries
from proxy.server.fleet.control import FleetControl
from proxy.server.fleet.division import rounded_up, worker_settings
from proxy.server.fleet.door import Doorkeeper, door, hand_over
from proxy.server.fleet.overview import FleetOverview
from proxy.server.fleet.report import Report
from proxy.server.fleet.rpc import Handler, Peer, PeerFailed, PeerLost
from proxy.server.signals import SIGNALS
from proxy.session.registry import Registry
from proxy.tasks import spawn
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 1.0
_CLIENT: Final = b"client"
_LEAST_LIFE: Final = 5.0
_MOST_PAUSE: Final = 10.0


@dataclass(slots=True)
class Seated:
    """A worker that runs, or is about to."""

    number: int
    """From 1 on."""
    peer: Peer
    door: socket.socket
    process: asyncio.subprocess.Process
    since: float
    ready: bool = False
    clients: int = 0
    """As it said when it was asked last, and those handed over since."""


class Supervisor:
    """See the module's docstring. Implements `control.Fleet` and `admin.http.Pages`."""

    def __init__(
        self, settings: Settings, read: Callable[[], Settings], sockets: systemd.Activated
    ) -> None:
        self.settings = settings
        self._count = settings.server.workers
        self._sockets = sockets
        self._seats: dict[int, Seated] = {}
        self._pauses = dict.fromkeys(range(1, self._count + 1), 0.0)
        """Seconds to wait before a worker that died is started again."""
        self._control = FleetControl(self, read)
        self._registry = Registry(lambda: None, lambda: None)
        self._console: AdminConsole | None = None
        self._listeners: Sequence[Listener] = ()
        self._http: web.AppRunner | None = None
        self._ending: Stop | None = None
        self._hurry = asyncio.Event()
        self._over = asyncio.Event()

    # Fleet

    @property
    def stopping(self) -> bool:
        return self._ending is not None

    def workers(self) -> Sequence[Peer]:
        return [seat.peer for _, seat in sorted(self._seats.items()) if seat.ready]

    def worker(self, number: int) -> Peer | None:
        seat = self._seats.get(number)
        return seat.peer if seat is not None and seat.ready else None

    async def change(self, settings: Settings) -> None:
        seats = [seat for _, seat in sorted(self._seats.items()) if seat.ready]
        shares = [worker_settings(settings, seat.number - 1, self._count) for seat in seats]
        for name in ("rehearse", "change"):
            calls = (seat.peer.call(name, one) for seat, one in zip(seats, shares, strict=True))
            for answer in await asyncio.gather(*calls, return_exceptions=True):
                # A worker that dies now gets the new settings when it is started again.
                if isinstance(answer, BaseException) and not isinstance(answer, PeerLost):
                    raise answer

    # Start and end

    async def run(self) -> None:
        """Serve until a signal or an administrator ends it. Raises ListenError."""
        loop = asyncio.get_running_loop()
        await self._start()
        for number, how in SIGNALS.items():
            loop.add_signal_handler(number, self.shut_down, how, True)
        loop.add_signal_handler(signal.SIGHUP, lambda: spawn(self._reload(), "reload"))
        systemd.ready()
        looking = spawn(self._look(), "fleet watch")
        await self._over.wait()
        looking.cancel()
        await self._close()
        log.info("stopped")

    async def _start(self) -> None:
        entries = open_entries(self.settings, self._sockets.sql)
        try:
            await self._prepare()
        except BaseException:
            entries.close()
            raise
        self._listeners = entries.listen(self._hand_over)
        for name in rounded_up(self.settings):
            log.warning(
                "a pool is smaller than there are workers: it has one connection in each",
                pool=name,
                workers=self._count,
            )
        log.info(
            "listening",
            sql=str(entries.address),
            unix=str(entries.path) if entries.path else "off",
            client_tls=self.settings.client_tls.mode,
            http=str(bound_address(self._http)) if self._http else "off",
            databases=sorted(self.settings.databases),
            workers=self._count,
        )

    async def _prepare(self) -> None:
        """Start all that serves the clients to come."""
        server = self.settings.server
        if server.http_listen is not None:
            self._http = await start_http(
                server.http_listen, self, server.reuse_port, self._sockets.http
            )
        overview = FleetOverview(
            lambda: self.settings,
            self._control,
            self._gather,
            lambda: () if self._console is None else self._console.states(),
        )
        await asyncio.gather(*(self._seat(number) for number in self._pauses))
        self._console = AdminConsole(overview, self._registry)
        await overview.look("show stats")

    async def _seat(self, number: int) -> None:
        """Start one worker and have it serve."""
        own_door, its_door = door()
        own_calls, its_calls = socket.socketpair()
        descriptors = its_door.fileno(), its_calls.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "proxy.server.fleet.worker", *map(str, descriptors)),
            pass_fds=descriptors,
            stdin=asyncio.subprocess.DEVNULL,
            env=_environment(),
        )
        its_door.close()
        its_calls.close()
        handlers: dict[str, Handler] = {
            "cancel": self._cancel,
            "schema_changed": self._schema_changed,
            "occupancy": self._occupancy,
        }
        peer = Peer(handlers, lambda: self._lost(number))
        seat = Seated(number, peer, own_door, process, time.monotonic())
        self._seats[number] = seat
        await peer.open(own_calls)
        own_door.setblocking(False)
        settings = worker_settings(self.settings, number - 1, self._count)
        await peer.call("start", settings, number)
        await self._catch_up(seat)
        Doorkeeper(own_door, self._visited)
        seat.ready = True
        log.info("worker started", worker=number, pid=process.pid)

    async def _catch_up(self, seat: Seated) -> None:
        """Tell a worker what the console has told the others."""
        if self._control.paused:
            await seat.peer.call("pause", None)
        elif self._control.suspended:
            await seat.peer.call("suspend")
        for database in self._control.disabled & set(self.settings.databases):
            await seat.peer.call("enable", database, False)

    def _lost(self, number: int) -> None:
        seat = self._seats.pop(number, None)
        if seat is not None:
            seat.ready = False
            spawn(self._replace(seat), f"worker {number}")

    async def _replace(self, seat: Seated) -> None:
        code = await seat.process.wait()
        if self._ending is not None:
            if not self._seats:
                self._over.set()
            return
        lived = time.monotonic() - seat.since
        pause = (
            0.0 if lived > _LEAST_LIFE else min(_MOST_PAUSE, self._pauses[seat.number] * 2 + 0.5)
        )
        self._pauses[seat.number] = pause
        log.error("a worker died: its clients are gone", worker=seat.number, exit=code)
        await asyncio.sleep(pause)
        if self._ending is None:
            try:
                await self._seat(seat.number)
            except (PeerLost, PeerFailed, PgError) as error:
                log.error("a worker did not start", worker=seat.number, error=str(error))
                with suppress(ProcessLookupError):
                    self._seats[seat.number].process.kill()

    def shut_down(self, how: Stop, bounded: bool = False) -> None:
        """End the fleet, at once where an end is under way already."""
        first = self._ending is None
        if self._ending is not None:
            how = "now"
        self._ending = how
        if first:
            log.info("stopping", how=how)
            systemd.stopping(how.replace("_", " "))
            self._stop_listening()
        spawn(self._end_workers(how, bounded), "shutdown")

    async def _end_workers(self, how: Stop, bounded: bool) -> None:
        calls = (seat.peer.call("end", how, bounded) for seat in list(self._seats.values()))
        await asyncio.gather(*calls, return_exceptions=True)  # those that die have ended too
        if not self._seats:
            self._over.set()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _close(self) -> None:
        if self._console is not None:
            self._console.close()
        if self._http is not None:
            await stop_http(self._http)
        for seat in list(self._seats.values()):
            with suppress(ProcessLookupError):
                seat.process.kill()
            await seat.process.wait()

    async def _reload(self) -> None:
        try:
            await self._control.reload()
        except PgError as error:  # what is wrong has been logged
            log.error("SIGHUP changed nothing", error=error.message)

    # Clients

    def _hand_over(self, connection: socket.socket) -> None:
        """To the worker with the fewest clients; to another where that one takes none now."""
        seats = [seat for seat in self._seats.values() if seat.ready]
        with connection:
            for seat in sorted(seats, key=lambda one: one.clients):
                try:
                    hand_over(seat.door, connection, _CLIENT)
                except OSError:
                    continue
                seat.clients += 1
                return
        log.error("no worker takes a connection", workers=len(seats))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for seat in list(self._seats.values()):
                if seat.ready:
                    with suppress(PeerLost, PeerFailed):
                        seat.clients = await seat.peer.call("load")

    async def _cancel(self, by: int, process_id: int, secret: bytes) -> None:
        """A worker did not give out this key: find who did. In session mode keys carry the process
        ids of servers, which name no worker, so all are asked."""
        if self._registry.cancel_here(process_id, secret, lambda: None):
            return
        asked = (
            seat.peer.call("cancel", process_id, secret)
            for seat in self._seats.values()
            if seat.ready and seat.number != by
        )
        await asyncio.gather(*asked, return_exceptions=True)  # one that dies has nothing to cancel

    async def _schema_changed(self, by: int, database: str) -> None:
        for seat in self._seats.values():
            if seat.ready and seat.number != by:
                seat.peer.tell("schema_changed", database)

    async def _occupancy(self, by: int, what: str, names: frozenset[str], port: int) -> None:
        """All other workers leave databases alone, or go on as before."""
        told = (
            seat.peer.call("occupancy", what, names, port)
            for seat in self._seats.values()
            if seat.ready and seat.number != by
        )
        await asyncio.gather(*told, return_exceptions=True)  # one that dies holds nothing

    def _visited(self, connection: socket.socket, user: bytes) -> None:
        """A client of the console, whom a worker has let in."""
        console = self._console
        if console is None or console.full is not None:
            connection.close()
            return
        channel = open_channel(connection, ChannelProtocol())
        console.take_over(channel, user.decode(), b"")

    # Overview and pages

    async def _gather(self, wanted: frozenset[str]) -> Sequence[Report]:
        answers = await asyncio.gather(
            *(worker.call("report", wanted) for worker in self.workers()), return_exceptions=True
        )
        return [one for one in answers if isinstance(one, Report)]

    async def families(self) -> Iterable[Metric]:
        answers = await asyncio.gather(
            *(worker.call("metrics") for worker in self.workers()), return_exceptions=True
        )
        return merge([one for one in answers if not isinstance(one, BaseException)])

    async def readiness(self) -> dict[str, Any]:
        answers = await asyncio.gather(
            *(worker.call("readiness") for worker in self.workers()), return_exceptions=True
        )
        told = [one for one in answers if isinstance(one, dict)]
        missing = [
            {"database": "", "node": f"worker {number}", "address": "", "error": "does not answer"}
            for number in range(len(told) + 1, self._count + 1)
        ]
        nothing: dict[str, Any] = {"down": [], "degraded": []}
        worst = min(told, key=lambda one: one["ready"], default=nothing)
        stopping = self._ending is not None
        return {
            "ready": bool(told) and all(one["ready"] for one in told) and not stopping,
            "stopping": stopping,
            "down": worst["down"],
            "degraded": [*worst["degraded"], *missing],
        }


def _environment() -> dict[str, str]:
    """Workers run the very package that this process runs: the working directory, and what is
    installed, may hold another form of it."""
    here = Path(proxy.__file__).resolve().parents[1]
    if here.name in ("site-packages", "dist-packages"):
        return dict(os.environ)  # found there anyhow, and behind Python's own modules
    path = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}
