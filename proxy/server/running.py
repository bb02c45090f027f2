"""What the parts of a process need of it: the running `process.Process`, seen from below."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.admin.console.control import Stop
from proxy.auth.state import AuthState
from proxy.cache.service import CacheService
from proxy.config.settings import Settings
from proxy.server.databases import Database
from proxy.server.limits import Limits
from proxy.server.security import Security
from proxy.session.login import Console
from proxy.session.registry import Registry
from proxy.topology.counters import Counters


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker has from the fleet that it belongs to."""

    number: int
    """In its cancel keys, from 1 on; 0 is the supervisor."""
    console: Console
    cancel_elsewhere: Callable[[int, bytes, Callable[[], None]], None]
    """A cancel request whose key another worker may have given out, and whom to tell of its end."""
    schema_changed: Callable[[str], None]
    """A schema change of this database has passed through here."""
    occupancy: Callable[[str, frozenset[str], int], Awaitable[None]]
    """Has the other workers "vacate" or "occupy" databases (see `server.vacancies`)."""


class Unwatching(Protocol):
    """What may be asked of the databases on demand."""

    def unwatch(self, name: str) -> bool:
        """Watch it again only after its next server connection: it may be there no more. Whether it
        is one of these."""


class Running(Protocol):
    """See the module's docstring."""

    settings: Settings
    """In force now."""
    auth: AuthState
    counters: Counters
    databases: dict[str, Database]
    limits: Limits
    registry: Registry
    security: Security
    seat: Seat | None
    """None: it is no worker."""

    @property
    def cache(self) -> CacheService | None:
        """None where none is configured, or the process has not started."""

    @property
    def on_demand(self) -> Unwatching:
        """The databases that clients have named and nobody configured."""

    @property
    def stopping(self) -> object | None:
        """What ends the process, if something does."""

    def all_databases(self) -> Sequence[Database]:
        """Also those that are configured no more and still have clients."""

    def make_database(self, name: str, settings: Settings) -> Database:
        """Add a database, which is not watched yet."""

    def leave_database(self, name: str) -> None:
        """Serve it no more; it ends when the last of its clients has left."""

    async def change_databases(self, settings: Settings) -> None:
        """Add, change and remove databases."""

    def renew_connections(self, databases: frozenset[str]) -> None:
        """Replace the connections to their servers; WILDCARD stands for those on demand."""

    def receive(self, settings: Settings) -> None:
        """Logins that begin from now on go by these."""

    def shut_down(self, how: Stop, bounded: bool = False) -> None:
        """End the process."""
