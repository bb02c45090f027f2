"""What the console's commands do to the running process; `server.operations` does it."""

from collections.abc import Sequence
from typing import Literal, Protocol

from proxy.wire import errors
from proxy.wire.errors import PgError

Stop = Literal["now", "wait_for_servers", "wait_for_clients"]


class Control(Protocol):
    """Every method raises PgError where it can't be done; `database` None means all.

    What waits can be cancelled; it then leaves things as they were before.
    """

    @property
    def paused(self) -> bool:
        """All databases are paused."""

    @property
    def suspended(self) -> bool: ...

    @property
    def stopping(self) -> bool: ...

    async def reload(self) -> Sequence[str]:
        """Read the configuration again; what has come of it, in sentences."""

    async def set(self, key: str, value: str) -> Sequence[str]:
        """Change one setting until the next reload."""

    def changeable(self, key: str) -> bool:
        """Whether `set` and `reload` can change the key while the process runs."""

    async def pause(self, database: str | None) -> None:
        """Lend no more server connections; return once all have been released and closed."""

    async def suspend(self) -> None:
        """Move no more bytes between clients and servers; return once nothing is under way."""

    async def resume(self, database: str | None) -> None:
        """End `pause`, `suspend` and `kill`."""

    async def enable(self, database: str, enabled: bool) -> None:
        """Take new clients, or none."""

    async def reconnect(self, database: str | None) -> None:
        """Close each server connection as soon as it is released, and make new ones."""

    async def wait_close(self, database: str | None) -> None:
        """Return once all connections that `reconnect` has marked are closed."""

    async def kill(self, database: str | None) -> None:
        """Drop all clients and server connections at once; new clients wait for `resume`."""

    async def kill_client(self, ident: int) -> None:
        """Drop one client, by its id in SHOW CLIENTS."""

    async def shut_down(self, how: Stop) -> None:
        """End the process."""


def not_now(message: str, hint: str = "") -> PgError:
    """The process is not in the state that a command is for."""
    return PgError(errors.OBJECT_NOT_IN_PREREQUISITE_STATE, message, hint)
