"""The servers that the settings name, and which settings hold for each."""

from collections.abc import Iterator

from proxy.config.settings import DatabaseSettings, Settings
from proxy.config.transport import ServerTlsSettings

ServerKey = tuple[str, str, int, str]
"""A database's name with clients; a server's host, port, and database there."""


def node_names(database: DatabaseSettings) -> list[str]:
    """The database's nodes, as `topology` names them at a start."""
    return [name for name, _, _, _ in _nodes(database)]


def server_tls(settings: Settings) -> Iterator[tuple[ServerKey, ServerTlsSettings, str]]:
    """For each server its TLS, and the section of the configuration that says so."""
    for name, database in settings.databases.items():
        there = database.server_database or name
        for node, host, port, own_database in _nodes(database):
            own, section = database.node_tls.get(node), f"database.{name}.node_tls.{node}"
            if own is None:
                own, section = database.tls, f"database.{name}.tls"
            if own is None:
                own, section = settings.server_tls, "server_tls"
            yield (name, host, port, own_database or there), own, section


def _nodes(database: DatabaseSettings) -> Iterator[tuple[str, str, int, str | None]]:
    """A node's name in the settings, its host, port and database there."""
    yield "primary", database.primary.host, database.primary.port, None
    for number, replica in enumerate(database.replicas.hosts, 1):
        yield f"replica{number}", *replica, None
    for number, shard in enumerate(database.sharding.shards):
        yield f"shard{number}", shard.host, shard.port, shard.database
