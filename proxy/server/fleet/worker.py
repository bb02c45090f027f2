"""A worker: a process that serves the clients which the supervisor hands over.

Run by the supervisor as `python -m proxy.server.fleet.worker DOOR CALLS`, with two descriptors.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from proxy.admin import logs
from proxy.admin.console.console import may_enter
from proxy.admin.console.control import Stop
from proxy.admin.http import ListenError, readiness
from proxy.admin.metrics import PenstockCollector
from proxy.auth.problems import AuthError
from proxy.config.settings import Settings
from proxy.server.fleet.bridge import RemoteConsole
from proxy.server.fleet.door import Doorkeeper, hand_over
from proxy.server.fleet.report import Report, report
from proxy.server.fleet.rpc import Handler, Peer, PeerFailed, PeerLost
from proxy.server.process import Process
from proxy.server.running import Seat
from proxy.session.analyst import analyst
from proxy.tasks import spawn
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)


class Worker:
    """What the supervisor may call, and the process that does it."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._supervisor = Peer(self._handlers(), self._orphaned)
        self._process: Process | None = None
        self._number = 0
        self._over = asyncio.Event()

    def _handlers(self) -> dict[str, Handler]:
        return {
            "start": self._start,
            "load": self._load,
            "report": self._report,
            "metrics": self._metrics,
            "readiness": self._readiness,
            "rehearse": self._rehearse,
            "change": self._change,
            "cancel": self._cancel,
            "schema_changed": self._schema_changed,
            "occupancy": self._occupancy,
            "end": self._end,
            **{name: self._order(name) for name in _ORDERS},
        }

    def _order(self, name: str) -> Handler:
        async def order(*arguments: Any) -> Any:
            return await getattr(self.process.operations, name)(*arguments)

        return order

    @property
    def process(self) -> Process:
        """The running process."""
        assert self._process is not None
        return self._process

    async def run(self, calls: socket.socket) -> None:
        """Serve until the supervisor ends it, or is gone."""
        await self._supervisor.open(calls)
        await self._over.wait()
        if self._process is not None:
            await self._process.stop()
        self._supervisor.close()
        await asyncio.sleep(0)

    def _orphaned(self) -> None:
        if not self._over.is_set():
            log.error("the supervisor is gone: closing")
        self._over.set()

    async def _start(self, settings: Settings, number: int) -> None:
        self._number = number
        logs.configure(settings.log)
        structlog.contextvars.bind_contextvars(worker=number)
        seat = Seat(
            number,
            RemoteConsole(self._admits, self._visit),
            self._cancel_elsewhere,
            lambda database: self._supervisor.tell("schema_changed", number, database),
            self._occupancy_elsewhere,
        )
        try:
            self._process = Process(settings, seat=seat)
            await self._process.start()
        except (AuthError, ListenError) as error:  # the latter tells what is wrong with TLS
            raise PgError(errors.CONFIG_FILE_ERROR, str(error)) from None
        Doorkeeper(self._door, lambda connection, note: self.process.greet(connection))

    def _admits(self, user: str) -> PgError | None:
        return may_enter(user, self.process.settings.auth)

    def _visit(self, far: socket.socket, user: str) -> None:
        hand_over(self._door, far, user.encode() or b"?")

    def _cancel_elsewhere(self, process_id: int, secret: bytes, taken: Callable[[], None]) -> None:
        async def ask() -> None:
            try:
                await self._supervisor.call("cancel", self._number, process_id, secret)
            finally:
                taken()

        spawn(ask(), "cancel elsewhere")

    async def _cancel(self, process_id: int, secret: bytes) -> bool:
        """Whether the key was given out here; returns when the request has been carried out."""
        taken = asyncio.Event()
        found = self.process.registry.cancel_here(process_id, secret, taken.set)
        if found:
            await taken.wait()
        return found

    async def _schema_changed(self, database: str) -> None:
        self.process.schema_changed(database)

    async def _occupancy(self, what: str, names: frozenset[str], port: int) -> None:
        """Another worker's client demands that these databases are free of others, or no more."""
        if what == "vacate":
            await self.process.vacancies.vacate(names, port)
        else:
            self.process.vacancies.occupy(names, port)

    async def _occupancy_elsewhere(self, what: str, names: frozenset[str], port: int) -> None:
        try:
            await self._supervisor.call("occupancy", self._number, what, names, port)
        except (PeerLost, PeerFailed) as error:
            raise OSError(str(error)) from error

    async def _load(self) -> int:
        return self.process.counters.clients

    async def _report(self, wanted: Iterable[str]) -> Report:
        assert self.process.insight is not None
        return report(self._number, self.process.insight, wanted)

    async def _metrics(self) -> list[Metric]:
        own = CollectorRegistry()
        ProcessCollector(registry=own)
        return [*PenstockCollector(self.process.observed()).collect(), *own.collect()]

    async def _readiness(self) -> dict[str, Any]:
        return readiness(self.process.observed())

    async def _rehearse(self, settings: Settings) -> None:
        assert self.process.operations is not None
        await self.process.operations.rehearse(settings)

    async def _change(self, settings: Settings) -> None:
        assert self.process.operations is not None
        await self.process.operations.go_by(settings)

    async def _end(self, how: Stop, bounded: bool) -> None:
        """Stop as told; the call returns at the end of waiting, before all is closed."""
        self.process.shut_down(how, bounded)
        await self.process.over()
        self._over.set()


_ORDERS = (
    *("pause", "suspend", "resume", "enable", "reconnect", "wait_close", "kill", "kill_client"),
)


def main() -> None:
    """Run one worker on the descriptors that the supervisor has opened."""
    import uvloop

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the supervisor is told, and tells
    door, calls = (socket.socket(fileno=int(one)) for one in sys.argv[1:3])

    analyst.fork()

    async def run() -> None:
        await Worker(door).run(calls)

    uvloop.run(run())


if __name__ == "__main__":
    main()
