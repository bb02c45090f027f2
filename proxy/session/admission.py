"""Whether there is a place for a client: overall, in its database, for its user."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.config.pooling import Caps
from proxy.session.registry import Registry
from proxy.wire import errors
from proxy.wire.errors import PgError


@dataclass(frozen=True, slots=True)
class Admission:
    """The limits on clients; 0 stands for none but for `most`."""

    most: int
    admins: frozenset[str]
    admin_places: int
    """Further places for admins when `most` are taken."""
    of_database: Callable[[str], Caps]
    of_user: Callable[[str], Caps]

    def check_place(self, clients: int, user: str) -> None:
        """Raises PgError if there are as many clients as there may be."""
        most = self.most + (self.admin_places if user in self.admins else 0)
        if clients >= most:
            raise PgError(
                errors.TOO_MANY_CONNECTIONS,
                f"sorry, too many clients already: {clients} are connected",
                "raise server.max_client_connections, or close connections",
            )

    def check_limits(self, database: str, user: str, registry: Registry) -> None:
        """Raises PgError if the database or the user has as many clients as it may have."""
        _check("database", database, self.of_database(database).clients, registry.by_database)
        _check("user", user, self.of_user(user).clients, registry.by_user)


def _check(kind: str, name: str, most: int, counts: dict[str, int]) -> None:
    if most and counts.get(name, 0) >= most:
        table = "auth.users" if kind == "user" else f"database.{name}"
        raise PgError(
            errors.TOO_MANY_CONNECTIONS,
            f'too many clients already for {kind} "{name}": {most} are connected',
            f"raise limits.{kind}_clients or {table}.max_client_connections, or close connections",
        )
