"""The limits on server connections that pools share, each made once."""

from proxy.config.pooling import database_caps, user_caps
from proxy.config.settings import Settings
from proxy.pool.limits import Limit
from proxy.topology.node import Address


class Limits:
    """Those of nodes, databases and users. All pools count, so that a limit can be set later."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nodes: dict[tuple[str, int], Limit] = {}
        self._databases: dict[str, Limit] = {}
        self._users: dict[str, Limit] = {}

    def of(self, node: Address, database: str, user: str) -> list[Limit]:
        """The limits that a pool of this user and database on this node is under."""
        place = node.host, node.port
        if place not in self._nodes:
            self._nodes[place] = Limit(0, "limits.node_connections")
        if database not in self._databases:
            self._databases[database] = Limit(0, "limits.database_connections")
        if user not in self._users:
            self._users[user] = Limit(0, "limits.user_connections")
        self.configure(self._settings)
        return [self._nodes[place], self._databases[database], self._users[user]]

    def configure(self, settings: Settings) -> None:
        """Go by these settings from now on. Connections beyond a lower limit end in their time."""
        self._settings = settings
        for limit in self._nodes.values():
            limit.most = settings.limits.node_connections
        for name, limit in self._databases.items():
            limit.most = database_caps(settings, name).connections
        for name, limit in self._users.items():
            limit.most = user_caps(settings, name).connections

    def forget_database(self, name: str) -> None:
        """The database is no more."""
        self._databases.pop(name, None)
