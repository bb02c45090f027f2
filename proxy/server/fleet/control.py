"""The console's commands, carried out by all workers (see `admin.console.control`)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from proxy.admin.console.control import Stop, not_now
from proxy.config.settings import Settings
from proxy.server import systemd
from proxy.server.changing import assigned, read_again
from proxy.server.fleet.report import split_ident
from proxy.server.fleet.rpc import Peer, PeerLost
from proxy.server.parts import LIVE
from proxy.server.reload import Reloaded, is_live, outcome
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)


class Fleet(Protocol):
    """What the commands need of the supervisor."""

    settings: Settings
    """Of the whole, in force now."""

    @property
    def stopping(self) -> bool: ...

    def workers(self) -> Sequence[Peer]:
        """Those that run, in the order of their numbers."""

    def worker(self, number: int) -> Peer | None:
        """The one of this number, if it runs."""

    async def change(self, settings: Settings) -> None:
        """Have every worker go by its share of these. Raises PgError: none has changed."""

    def shut_down(self, how: Stop) -> None:
        """End the fleet."""


class FleetControl:
    """See the module's docstring."""

    def __init__(self, fleet: Fleet, read: Callable[[], Settings]) -> None:
        self._fleet = fleet
        self._read = read
        self._changing = asyncio.Lock()
        self.paused = False
        self.suspended = False
        self.disabled: set[str] = set()

    @property
    def stopping(self) -> bool:
        return self._fleet.stopping

    async def _all(self, name: str, *arguments: Any) -> list[Any]:
        """What every worker answers. Raises the first PgError, once all have answered.

        A database made on demand is only where clients have asked for it, so that it is unknown if
        no worker knows it.
        """
        answers = await asyncio.gather(
            *(worker.call(name, *arguments) for worker in self._fleet.workers()),
            return_exceptions=True,
        )
        failures = [
            one
            for one in answers
            if isinstance(one, BaseException) and not isinstance(one, PeerLost)
        ]
        known = [one for one in failures if not _unknown(one)]
        if known or (failures and len(failures) == len(answers)):
            raise (known or failures)[0]
        return answers

    # Settings

    async def reload(self) -> Sequence[str]:
        systemd.reloading()
        try:
            async with self._changing:
                settings = await read_again(self._read)
                return await self._change(settings, "reloaded")
        finally:
            systemd.ready()

    async def set(self, key: str, value: str) -> Sequence[str]:
        async with self._changing:
            settings = assigned(self._fleet.settings, key, value)
            return await self._change(settings, "setting changed")

    async def _change(self, settings: Settings, event: str) -> Sequence[str]:
        told: Reloaded = outcome(self._fleet.settings, settings, LIVE)
        await self._fleet.change(told.settings)
        self._fleet.settings = told.settings
        log.info(event, applied=told.applied, needs_restart=told.waiting)
        return told.notices()

    def changeable(self, key: str) -> bool:
        return is_live(tuple(key.split(".")), LIVE)

    # Pause and the like

    async def pause(self, database: str | None) -> None:
        self._refuse_twice()
        if database is None:
            self.paused = True
        try:
            await self._all("pause", database)
        except BaseException:
            if database is None:
                self.paused = False
            raise

    async def suspend(self) -> None:
        self._refuse_twice()
        self.suspended = True
        try:
            await self._all("suspend")
        except BaseException:
            self.suspended = False
            await asyncio.gather(
                *(worker.call("resume", None) for worker in self._fleet.workers()),
                return_exceptions=True,  # those that could not be suspended have nothing to resume
            )
            raise

    def _refuse_twice(self) -> None:
        if self.paused or self.suspended:
            state = "paused" if self.paused else "suspended"
            raise not_now(f"Penstock is {state} already", "RESUME ends it")

    async def resume(self, database: str | None) -> None:
        await self._all("resume", database)
        if database is None:
            self.paused = self.suspended = False

    async def enable(self, database: str, enabled: bool) -> None:
        await self._all("enable", database, enabled)
        (self.disabled.discard if enabled else self.disabled.add)(database)

    async def reconnect(self, database: str | None) -> None:
        await self._all("reconnect", database)

    async def wait_close(self, database: str | None) -> None:
        await self._all("wait_close", database)

    async def kill(self, database: str | None) -> None:
        self._refuse_twice()
        await self._all("kill", database)
        self.paused = self.paused or database is None

    async def kill_client(self, ident: int) -> None:
        own, number = split_ident(ident)
        worker = self._fleet.worker(number)
        if worker is None:
            raise PgError(
                errors.UNDEFINED_OBJECT,
                f"there is no client with the id {ident}",
                "SHOW CLIENTS shows it in the column id; clients of the console can't be killed",
            )
        await worker.call("kill_client", own)

    async def shut_down(self, how: Stop) -> None:
        if how != "now" and self.stopping:
            raise not_now("Penstock is shutting down already", "SHUTDOWN ends it at once")
        self._fleet.shut_down(how)


def _unknown(failure: BaseException) -> bool:
    return isinstance(failure, PgError) and failure.sqlstate == errors.INVALID_CATALOG_NAME
