"""From a database's settings to its nodes."""

from collections.abc import Callable
from itertools import count

from proxy.config.settings import DatabaseSettings
from proxy.net.dialing import Dialing
from proxy.topology.node import Address, DatabaseTopology, Node, Role

DialingOf = Callable[[str, int, str], Dialing]
"""By host, port and database there: how a server is reached."""


def _plain(host: str, port: int, database: str) -> Dialing:
    return Dialing()


def build_topology(
    name: str, settings: DatabaseSettings, dialing: DialingOf = _plain
) -> DatabaseTopology:
    """The nodes of the database that clients call `name`: primary, replica1…, shard0….

    Before its first contact the primary counts as healthy, so that a start needs no wait; replicas
    don't, since nothing is known of their positions.
    """
    database = settings.server_database or name
    primary = settings.primary

    def address(host: str, port: int, named: str | None = None) -> Address:
        there = named or database
        return Address(host, port, there, dialing(host, port, there))

    return DatabaseTopology(
        database=name,
        primary=Node("primary", Role.PRIMARY, address(primary.host, primary.port)),
        replicas=[
            Node(
                f"replica{number}",
                Role.REPLICA,
                address(at.host, at.port),
                healthy=False,
                error="not reached yet",
            )
            for number, at in enumerate(settings.replicas.hosts, 1)
        ],
        shards=[
            Node(
                f"shard{number}",
                Role.SHARD,
                address(shard.host, shard.port, shard.database),
                shard=number,
            )
            for number, shard in enumerate(settings.sharding.shards)
            if settings.sharding.enabled
        ],
    )


def rebuild_topology(
    topology: DatabaseTopology, settings: DatabaseSettings, dialing: DialingOf = _plain
) -> list[Node]:
    """Bring `topology` in line with changed settings; the nodes that it has no more.

    A node whose address stays is kept with its name and all that is known of it. A new replica gets
    the lowest number that is free. After a change of primary nothing is known of any replica's
    freshness: positions of two servers can't be compared.
    """
    wanted = build_topology(topology.database, settings, dialing)
    before = topology.nodes()
    if wanted.primary.address != topology.primary.address:
        topology.primary = wanted.primary
        for replica in topology.replicas:
            replica.fresh_until, replica.healthy = float("-inf"), False
            replica.error = "not reached yet"
    kept = {node.address: node for node in topology.replicas}
    replicas = [kept.get(node.address, node) for node in wanted.replicas]
    taken = {node.name for node in replicas if node.address in kept}
    for node in replicas:
        if node.address not in kept:
            node.name = next(
                name for number in count(1) if (name := f"replica{number}") not in taken
            )
            taken.add(node.name)
    topology.replicas = replicas
    same = {(node.name, node.address): node for node in topology.shards}
    topology.shards = [same.get((node.name, node.address), node) for node in wanted.shards]
    present = [id(node) for node in topology.nodes()]
    return [node for node in before if id(node) not in present]
