"""What the parts of a process need of it: the running `process.Process`, seen from below."""

from collections.abc import Sequence
from typing import Protocol

from proxy.admin.console.control import Stop
from proxy.auth.state import AuthState
from proxy.config.settings import Settings
from proxy.server.databases import Database
from proxy.server.limits import Limits
from proxy.server.security import Security
from proxy.session.registry import Registry
from proxy.topology.counters import Counters


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

    def receive(self, settings: Settings) -> None:
        """Logins that begin from now on go by these."""

    def shut_down(self, how: Stop, bounded: bool = False) -> None:
        """End the process."""
