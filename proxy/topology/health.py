"""Whether a node is what its role says. Pure."""

from typing import NamedTuple

from proxy.topology.node import Role
from proxy.topology.reading import Reading


class Lineage(NamedTuple):
    """Two servers' WAL positions can be compared only where this is equal."""

    system: int
    timeline: int


def complaint(role: Role, reading: Reading, own: Lineage, primary: Lineage | None) -> str | None:
    """Why a node that answered must not be used; None where it may be.

    `primary` is what the primary last said of itself, None before it said anything.
    """
    if role is not Role.REPLICA:
        if not reading.in_recovery:
            return None
        return f"is a standby, but configured as {role}: promote it or configure it as a replica"
    if not reading.in_recovery:
        return "is no standby, but configured as a replica: was it promoted?"
    if primary is not None and own.system != primary.system:
        return (
            f"is no replica of this primary: its system identifier is {own.system}, "
            f"the primary's is {primary.system}"
        )
    if primary is not None and own.timeline != primary.timeline:
        return (
            f"is on timeline {own.timeline}, the primary on {primary.timeline}: "
            "does it follow this primary, and may the monitor's user read pg_stat_wal_receiver "
            "(GRANT pg_read_all_stats)?"
        )
    if reading.replayed is None:
        return "has replayed nothing yet"
    return None
