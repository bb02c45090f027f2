"""The feed's position as the processes on one Redis tell it to each other."""

from dataclasses import dataclass

from proxy.topology.health import Lineage


@dataclass(frozen=True, slots=True)
class Position:
    """How far the feed of a database has come (see `progress`)."""

    lineage: Lineage
    lsn: int
    schema: int
    """Counts schema changes: where it differs from before, catalogues are read again."""

    def encode(self) -> bytes:
        """As it is kept in Redis."""
        own = self.lineage
        return f"{own.system} {own.timeline} {self.lsn} {self.schema}".encode()

    @classmethod
    def decode(cls, stored: bytes | None) -> "Position | None":
        """None where there is none, or what is there can't be read."""
        try:
            system, timeline, lsn, schema = map(int, (stored or b"").split())
        except ValueError:
            return None
        return cls(Lineage(system, timeline), lsn, schema)


def follows(stored: Position | None, lineage: Lineage, confirmed: int) -> bool:
    """Whether a slot that goes on from `confirmed` leaves nothing out after what is known to this
    Redis. Otherwise the slot is new, or somebody else has read from it, or Redis lost its data."""
    return stored is not None and stored.lineage == lineage and confirmed <= stored.lsn
