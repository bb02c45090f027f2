"""What operators are told of write-back."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class WriteBackState:
    """For operators. `obstacle`: why no write is taken now; `error`: why none is applied."""

    database: str
    obstacle: str | None
    error: str | None
    written: int
    """Writes that were acknowledged so."""
    applied: int
    rejected: int
    """Those that PostgreSQL has refused."""
    barriers: int
    """Statements that had to wait for writes."""
    declined: tuple[tuple[str, int], ...]
    """Writes that went to PostgreSQL directly, by reason."""

    def plus(self, other: "WriteBackState") -> "WriteBackState":
        """Both together."""
        reasons = dict(self.declined)
        for reason, count in other.declined:
            reasons[reason] = reasons.get(reason, 0) + count
        return replace(
            self,
            obstacle=self.obstacle or other.obstacle,
            error=self.error or other.error,
            written=self.written + other.written,
            applied=self.applied + other.applied,
            rejected=self.rejected + other.rejected,
            barriers=self.barriers + other.barriers,
            declined=tuple(sorted(reasons.items())),
        )
