"""Databases that `[database."*"]` makes when a client names them.

One is watched from the sweep after its first server connection on. It is dropped when nobody has
been connected for `limits.on_demand_idle_timeout`, and at the next sweep if no connection to it
could be made: a name that no server knows leaves nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from proxy.config.pooling import WILDCARD
from proxy.config.settings import Settings
from proxy.server.databases import Database
from proxy.server.running import Running
from proxy.session.context import DatabaseContext
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _State:
    """What is known of a database that nobody configured by its name."""

    watched: bool = False
    idle_since: float | None = None


class OnDemand:
    """See the module's docstring. `contexts` has every database that a client may name."""

    def __init__(self, process: Running) -> None:
        self._process = process
        self._made: dict[str, _State] = {}
        self.contexts: Mapping[str, DatabaseContext] = _Contexts(process, self)

    def make(self, name: str) -> Database | None:
        """The database of this name, new, if the wildcard serves it. Raises PgError if there are
        too many of those."""
        settings = self._process.settings
        if WILDCARD not in settings.databases:
            return None
        most = settings.limits.on_demand_databases
        if len(self._made) >= most:
            raise PgError(
                errors.TOO_MANY_CONNECTIONS,
                f'no place for database "{name}": [database."*"] serves {most} already',
                "raise limits.on_demand_databases, or configure the database by its name",
            )
        self._made[name] = _State()
        return self._process.make_database(name, settings)

    async def configure(self, settings: Settings) -> None:
        """Settings have changed: forget what is configured by its name now, or served no more."""
        for name, state in list(self._made.items()):
            database = self._process.databases.get(name)
            if database is not None and name not in settings.databases:
                continue
            del self._made[name]
            if database is not None and not state.watched:
                await database.start()

    async def sweep(self, now: float) -> None:
        """Watch new ones that have proved to be there, drop those without use."""
        clients = self._process.registry.by_database
        for name, state in list(self._made.items()):
            database = self._process.databases[name]
            pools = list(database.pools)
            if any(pool.backends for pool in pools) and not state.watched:
                state.watched = True
                await database.start()
            if clients.get(name) or any(pool.waiting_count for pool in pools):
                state.idle_since = None
            elif not state.watched and not any(pool.size for pool in pools):
                self._drop(name)
            elif state.idle_since is None:
                state.idle_since = now
            elif self._unused(now - state.idle_since):
                log.info("database without clients is dropped", database=name)
                self._drop(name)

    def unwatch(self, name: str) -> bool:
        """Watch it again only after its next server connection: it may be there no more. Whether it
        is one of these."""
        state = self._made.get(name)
        if state is not None:
            state.watched = False
        return state is not None

    def _unused(self, seconds: float) -> bool:
        limit = self._process.settings.limits.on_demand_idle_timeout
        return limit > 0 and seconds > limit

    def _drop(self, name: str) -> None:
        del self._made[name]
        self._process.leave_database(name)
        self._process.limits.forget_database(name)


class _Contexts(Mapping[str, DatabaseContext]):
    """Contexts by the names that clients give; asking for one may make it."""

    def __init__(self, process: Running, on_demand: OnDemand) -> None:
        self._process = process
        self._on_demand = on_demand

    def __getitem__(self, name: str) -> DatabaseContext:
        found = self._process.databases.get(name) or self._on_demand.make(name)
        if found is None:
            raise KeyError(name)
        return found.context

    def __iter__(self) -> Iterator[str]:
        return iter(self._process.databases)

    def __len__(self) -> int:
        return len(self._process.databases)
