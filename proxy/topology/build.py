"""From a database's settings to its nodes."""

from proxy.config.settings import DatabaseSettings
from proxy.topology.node import Address, DatabaseTopology, Node, Role


def build_topology(name: str, settings: DatabaseSettings) -> DatabaseTopology:
    """The nodes of the database that clients call `name`: primary, replica1…, shard0….

    Before its first contact the primary counts as healthy, so that a start needs no wait; replicas
    don't, since nothing is known of their positions.
    """
    database = settings.server_database or name
    primary = settings.primary
    return DatabaseTopology(
        database=name,
        primary=Node("primary", Role.PRIMARY, Address(primary.host, primary.port, database)),
        replicas=[
            Node(
                f"replica{number}",
                Role.REPLICA,
                Address(at.host, at.port, database),
                healthy=False,
                error="not reached yet",
            )
            for number, at in enumerate(settings.replicas.hosts, 1)
        ],
        shards=_shards(settings, database) if settings.sharding.enabled else [],
    )


def _shards(settings: DatabaseSettings, database: str) -> list[Node]:
    return [
        Node(
            f"shard{number}",
            Role.SHARD,
            Address(shard.host, shard.port, shard.database or database),
            shard=number,
        )
        for number, shard in enumerate(settings.sharding.shards)
    ]
