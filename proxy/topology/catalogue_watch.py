"""Keeps one database's catalogue current."""

import asyncio
import contextlib
from collections.abc import Callable

import asyncpg
import structlog

from proxy.sql.catalogue import Catalogue, View
from proxy.tasks import spawn
from proxy.topology.catalogue_loader import load_catalogue, read_fingerprint
from proxy.topology.connect import LOST, Connection, Deadline, Login, connect, reason
from proxy.topology.node import Address

log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT = 5.0
_LOAD_TIMEOUT = 30.0
# Showing a view's text waits for whoever alters the tables that it reads.
_LOCK_TIMEOUT = "2s"
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_LONGEST_PAUSE_WITHOUT = 15.0
"""Where the server has no such database: each try is a line in its log."""

OnChange = Callable[[Catalogue], None]
"""Called with each catalogue that differs from the one before, before `usable_for_cache` allows
caching by it: the place to drop plans."""


class CatalogueWatch:
    """Loads the catalogue of the database at `address`, again after each schema change that passes
    through the proxy, and after others within `poll_interval` seconds.

    Nothing here raises: while the server is away, the last catalogue stays and loading is retried.
    """

    def __init__(
        self,
        address: Address,
        login: Login,
        on_change: OnChange | None = None,
        poll_interval: float = 30.0,
    ) -> None:
        self.current = Catalogue()
        self.on_schema_change: Callable[[], None] | None = None
        """Called after each schema change that passed through this process."""
        self.on_difference: Callable[[], None] | None = None
        """Called where the server's schema is found to be another than before, whoever changed it;
        before it is read."""
        self._publication: str | None = None
        self._keys: tuple[str, ...] = ()
        self._address = address
        self._login = login
        self._on_change = on_change
        self._poll_interval = poll_interval
        self._told = self.current
        self._changes_running = 0
        self._changes_ended = 0
        self._changes_loaded = -1
        """How many changes had ended when `current` was last found to be true, or loaded."""
        self._fingerprint = ""
        self._analysed: dict[str, View] = {}
        self._connection: Connection | None = None
        self._failing = False
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[bool]] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def usable_for_cache(self) -> bool:
        """Whether `current` has every schema change known of: none is running, and it was compared
        with the server's after the last one had ended."""
        return self._changes_running == 0 and self._changes_loaded == self._changes_ended

    def schema_change_begins(self) -> None:
        """A statement that may change the schema is about to be sent."""
        self._changes_running += 1

    def schema_change_ends(self) -> None:
        """The transaction of such a statement has ended, in whichever way. Loads again."""
        self._changes_running -= 1
        self._changes_ended += 1
        self._wake.set()
        if self.on_schema_change is not None:
            self.on_schema_change()

    def invalidate(self) -> None:
        """The schema may have changed by now, and not through this process. Loads again."""
        self._changes_ended += 1
        self._wake.set()

    def feed_by(self, publication: str | None) -> None:
        """Tell from now on what this publication leaves out; None: there is no change feed."""
        if publication != self._publication:
            self._publication = publication
            self.invalidate()

    def look_for_keys(self, columns: tuple[str, ...]) -> None:
        """Tell from now on of columns of these names."""
        if columns != self._keys:
            self._keys = columns
            self.invalidate()

    def move(self, address: Address, login: Login) -> None:
        """Watch the database at another address, or by another login, from now on."""
        if (address, login) != (self._address, self._login):
            self._address, self._login = address, login
            self._disconnect()
            self.invalidate()

    async def start(self) -> None:
        """Begin to load and watch. Doesn't wait for the first load: see `refresh`."""
        self._task = spawn(self._run(), f"catalogue {self._address.database}")

    async def stop(self) -> None:
        """End the watch and its connection; whoever waits in `refresh` goes on."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._disconnect()
        _release(self._waiting, False)

    async def refresh(self) -> bool:
        """Load now; true once a load that began after this call has finished, false where it
        failed."""
        loaded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(loaded)
        self._wake.set()
        return await loaded

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            waiting, self._waiting, longest = self._waiting, [], _LONGEST_PAUSE
            succeeded = False
            try:
                await self._look(wanted=bool(waiting))
                succeeded = True
            except LOST as error:
                self._report(reason(error))
                if isinstance(error, asyncpg.InvalidCatalogNameError):
                    longest = _LONGEST_PAUSE_WITHOUT
            except Exception as error:  # the next try may fare better, and none is not an option
                log.exception("the catalogue watch failed", database=self._address.database)
                self._report(repr(error))
            finally:
                _release(waiting, succeeded)
            if succeeded:
                self._report(None)
                pause = _FIRST_PAUSE
                await self._sleep(self._poll_interval)
            else:
                self._disconnect()
                await self._sleep(pause)
                pause = min(pause * 2, longest)

    async def _look(self, *, wanted: bool) -> None:
        """Load if `wanted`, or where the server's fingerprint moved."""
        if self._connection is None:
            self._connection = await connect(
                self._address,
                self._login,
                _CONNECT_TIMEOUT,
                "catalogue",
                {"lock_timeout": _LOCK_TIMEOUT},
            )
        connection = self._connection
        with Deadline(connection, _LOAD_TIMEOUT):
            ended = self._changes_ended
            # Read before the load, so that what changes between the two is found the next time.
            fingerprint = await read_fingerprint(connection, self._publication, self._keys)
            differs = self._fingerprint not in ("", fingerprint)
            if differs and self.on_difference is not None:
                self.on_difference()
            if wanted or fingerprint != self._fingerprint:
                catalogue = await load_catalogue(
                    connection, self._analysed, self._publication, self._keys
                )
                self._take(catalogue)
                self._fingerprint = fingerprint
            self._changes_loaded = ended  # most that may change the schema do not: DO, CALL, …

    def _take(self, catalogue: Catalogue) -> None:
        if catalogue == self._told:
            return
        self.current = catalogue
        if self._on_change is not None:
            self._on_change(catalogue)
        self._told = catalogue

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _report(self, error: str | None) -> None:
        """One line when loading begins to fail, and one when it works again."""
        facts = {"database": self._address.database, "address": str(self._address)}
        if error is not None and not self._failing:
            log.warning("the catalogue can't be read", error=error, **facts)
        elif error is None and self._failing:
            log.info("the catalogue can be read again", **facts)
        self._failing = error is not None

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            self._wake.clear()


def _release(waiting: list[asyncio.Future[bool]], loaded: bool) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(loaded)
