"""What an operator may ask of a running process; `admin.console.control` says what each means."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from proxy.admin.console.control import Stop, not_now
from proxy.config.settings import Settings
from proxy.server import systemd
from proxy.server.changing import assigned, read_again
from proxy.server.databases import Database
from proxy.server.ending import TERMINATED, until
from proxy.server.parts import LIVE, PARTS
from proxy.server.reload import ReloadError, apply, is_live, rehearse
from proxy.server.running import Running
from proxy.session import states
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

_SUSPEND_SECONDS = 10.0
"""PgBouncer's suspend_timeout."""


class Operations:
    """Implements `proxy.admin.console.control.Control`."""

    def __init__(self, process: Running, read: Callable[[], Settings] | None) -> None:
        self._process = process
        self._read = read
        """Reads the configuration as at the start; None: it was not given as a file."""
        self.paused = False
        self.suspended = False
        self._changing = asyncio.Lock()

    @property
    def stopping(self) -> bool:
        return self._process.stopping is not None

    # Settings

    async def reload(self) -> Sequence[str]:
        """Raises PgError with every problem found; the old settings then stay in force."""
        if self._read is None:
            raise not_now("there is no configuration file to read again")
        systemd.reloading()
        try:
            async with self._changing:
                settings = await read_again(self._read)
                return await self._change(settings, "reloaded")
        finally:
            systemd.ready()

    async def set(self, key: str, value: str) -> Sequence[str]:
        async with self._changing:
            settings = assigned(self._process.settings, key, value)
            return await self._change(settings, "setting changed")

    async def _change(self, settings: Settings, event: str) -> Sequence[str]:
        process = self._process
        try:
            outcome = await apply(process, process.settings, settings, PARTS)
        except ReloadError as error:
            log.error("reload refused", problems=[str(error)])
            raise PgError(
                errors.CONFIG_FILE_ERROR, f"{error}; the old configuration stays in force"
            ) from None
        process.settings = outcome.settings
        log.info(event, applied=outcome.applied, needs_restart=outcome.waiting)
        return outcome.notices()

    async def rehearse(self, settings: Settings) -> None:
        """Raises PgError where `go_by` would."""
        try:
            await rehearse(self._process, self._process.settings, settings, PARTS)
        except ReloadError as error:
            raise PgError(
                errors.CONFIG_FILE_ERROR, f"{error}; the old configuration stays in force"
            ) from None

    async def go_by(self, settings: Settings) -> None:
        """Change over to settings that the supervisor of all workers has read."""
        async with self._changing:
            await self._change(settings, "reloaded")

    def changeable(self, key: str) -> bool:
        return is_live(tuple(key.split(".")), LIVE)

    # Pause and the like

    async def pause(self, database: str | None) -> None:
        self._refuse_twice()
        targets = self._targets(database)
        if database is None:
            self.paused = True
        elif targets[0].context.paused:
            raise not_now(f'database "{database}" is paused already', f"RESUME {database} ends it")
        for one in targets:
            one.pause()
        log.info("paused", database=database or "all")
        try:
            await until(lambda: all(one.pools.released for one in targets))
        except asyncio.CancelledError:
            self._resume(targets)
            raise

    async def suspend(self) -> None:
        self._refuse_twice()
        self.suspended = True
        for one in self._process.databases.values():
            one.pools.hold()
        try:
            async with asyncio.timeout(_SUSPEND_SECONDS):
                await until(self._all_quiet)
        except TimeoutError:
            busy = sum(session.state == states.ACTIVE for session in self._process.registry)
            self._resume(self._process.databases.values())
            raise not_now(
                f"not suspended: {busy} clients were still being answered after "
                f"{_SUSPEND_SECONDS:g} s",
                "PAUSE waits without a limit",
            ) from None
        except asyncio.CancelledError:
            self._resume(self._process.databases.values())
            raise
        log.info("suspended")

    def _all_quiet(self) -> bool:
        """Stop reading from every client that waits for nothing; whether all others only wait for
        a connection."""
        quiet = True
        for session in self._process.registry:
            if session.state == states.IDLE:
                session.pause_reading(True)
            elif not session.upstream.queued:
                quiet = False
        return quiet

    def _refuse_twice(self) -> None:
        if self.paused or self.suspended:
            state = "paused" if self.paused else "suspended"
            raise not_now(f"Penstock is {state} already", "RESUME ends it")

    async def resume(self, database: str | None) -> None:
        targets = self._targets(database)
        if database is None:
            if not (self.paused or self.suspended or any(one.context.paused for one in targets)):
                raise not_now("Penstock is neither paused nor suspended")
        elif self.paused or self.suspended:
            state = "paused" if self.paused else "suspended"
            raise not_now(f"all of Penstock is {state}", "RESUME without a database ends it")
        elif not targets[0].context.paused:
            raise not_now(f'database "{database}" is not paused')
        self._resume(targets)

    def _resume(self, targets: Iterable[Database]) -> None:
        suspended, self.paused, self.suspended = self.suspended, False, False
        for one in targets:
            one.resume()
        if suspended:
            for session in self._process.registry:
                if session.state == states.IDLE:
                    session.run()
        log.info("resumed")

    async def enable(self, database: str, enabled: bool) -> None:
        for one in self._targets(database):
            one.context.disabled = not enabled
        log.info("enabled" if enabled else "disabled", database=database)

    async def reconnect(self, database: str | None) -> None:
        for one in self._targets(database):
            one.pools.reconnect()
        log.info("reconnecting", database=database or "all")

    async def wait_close(self, database: str | None) -> None:
        targets = self._targets(database)
        await until(lambda: all(one.pools.renewed for one in targets))

    # Ending things

    async def kill(self, database: str | None) -> None:
        self._refuse_twice()
        targets = self._targets(database)
        contexts = {id(one.context) for one in targets}
        for one in targets:
            one.pause()
        for session in self._process.registry:
            if id(session.context) in contexts:
                session.fatal(TERMINATED)
        for one in targets:
            one.pools.kill(TERMINATED)
        if database is None:
            self.paused = True
        log.warning("killed", database=database or "all")

    async def kill_client(self, ident: int) -> None:
        for session in self._process.registry:
            if id(session) == ident:
                log.info("client killed", user=session.client.user, database=session.context.name)
                session.fatal(TERMINATED)
                return
        raise PgError(
            errors.UNDEFINED_OBJECT,
            f"there is no client with the id {ident}",
            "SHOW CLIENTS shows it in the column id; clients of the console can't be killed",
        )

    async def shut_down(self, how: Stop) -> None:
        if how != "now" and self.stopping:
            raise not_now("Penstock is shutting down already", "SHUTDOWN ends it at once")
        self._process.shut_down(how)

    def _targets(self, name: str | None) -> list[Database]:
        databases = self._process.databases
        if name is None:
            return list(databases.values())
        if name not in databases:
            raise PgError(
                errors.INVALID_CATALOG_NAME,
                f'database "{name}" does not exist',
                f"Penstock knows: {', '.join(sorted(databases)) or 'none'}",
            )
        return [databases[name]]
