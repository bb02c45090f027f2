"""All the process's TLS: of its clients, and of each node that it connects to."""

from collections.abc import Callable, Iterator

from proxy.config.settings import DatabaseSettings, Settings
from proxy.config.transport import ServerTlsSettings
from proxy.net.certificates import ClientTls, ServerTls
from proxy.net.dialing import Dialing

_Key = tuple[str, str, int, str]
"""A database's name with clients; a server's host, port, and database there."""


class Security:
    """TLS as the settings want it, with the files as they are now. Raises TlsError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.clients = ClientTls(settings.client_tls)
        self._servers = {
            key: ServerTls(tls, section) for key, tls, section in _server_settings(settings)
        }

    def dialing(self, database: str) -> Callable[[str, int, str], Dialing]:
        """By host, port and database there: how a server of `database` is reached.

        By these and not by a node's name: a node keeps its name where its place among the replicas
        changes.
        """
        tcp = self._settings.server_tcp
        return lambda host, port, there: Dialing(self._servers[database, host, port, there], tcp)

    def prepare(self, settings: Settings | None = None) -> Callable[[], None]:
        """Read all files again, by other settings if there are any. What is in use for new
        connections changes when the outcome is called.

        Raises TlsError if anything can't be used. Servers that are new in `settings` can be dialed
        from that call on; of those that are gone nothing is closed.
        """
        wanted = settings or self._settings
        changes = [self.clients.load(wanted.client_tls)]
        made: dict[_Key, ServerTls] = {}
        for key, tls, section in _server_settings(wanted):
            known = self._servers.get(key)
            if known is None:
                made[key] = ServerTls(tls, section)
            else:
                changes.append(known.load(tls, section))

        def use() -> None:
            for change in changes:
                change()
            self._servers.update(made)
            self._settings = wanted

        return use

    def refresh(self) -> None:
        """Read again what has changed. For once a second: it costs a `stat` of each file."""
        self.clients.refresh()
        for server in self._servers.values():
            server.refresh()


def _server_settings(settings: Settings) -> Iterator[tuple[_Key, ServerTlsSettings, str]]:
    """For each server its TLS, and the section of the configuration that says so."""
    for name, database in settings.databases.items():
        there = database.server_database or name
        for node, host, port, own_database in _addresses(database):
            own, section = database.node_tls.get(node), f"database.{name}.node_tls.{node}"
            if own is None:
                own, section = database.tls, f"database.{name}.tls"
            if own is None:
                own, section = settings.server_tls, "server_tls"
            yield (name, host, port, own_database or there), own, section


def _addresses(database: DatabaseSettings) -> Iterator[tuple[str, str, int, str | None]]:
    """A node's name in the settings, its host, port and database there."""
    yield "primary", database.primary.host, database.primary.port, None
    for number, replica in enumerate(database.replicas.hosts, 1):
        yield f"replica{number}", *replica, None
    for number, shard in enumerate(database.sharding.shards):
        yield f"shard{number}", shard.host, shard.port, shard.database
