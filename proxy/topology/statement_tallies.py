"""What the cache did for each statement: plain numbers that its plan carries.

A statement is known by its normalised text. The first CAPACITY of a database are told apart; those
that come later are counted together as the rest of their rule.
"""

from collections import Counter
from typing import Final

CAPACITY: Final = 1000
"""Statements of one database that are told apart."""
REST: Final = ""
"""In place of a text: all the others of a rule."""
_LONGEST: Final = 1000
"""Characters of a text that are kept."""


def saved_ms(hits: int, reads: int, read_seconds: float) -> int:
    """Milliseconds that the hits would have taken, had each taken as long as a read did."""
    return int(1000 * hits * read_seconds / reads) if reads else 0


class StatementTally:
    """Of one statement."""

    __slots__ = ("bypasses", "hits", "misses", "read_seconds", "reads")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.bypasses: Counter[str] = Counter()
        """Reads that did not ask the cache, or got no answer from it, by reason."""
        self.reads = 0
        """Answers of servers that were offered to it, and the seconds that they took in all."""
        self.read_seconds = 0.0

    def include(self, other: "StatementTally") -> None:
        """Count what another has counted too."""
        self.hits += other.hits
        self.misses += other.misses
        self.bypasses.update(other.bypasses)
        self.reads += other.reads
        self.read_seconds += other.read_seconds

    @property
    def saved_ms(self) -> int:
        """What its hits have saved."""
        return saved_ms(self.hits, self.reads, self.read_seconds)


class StatementTallies:
    """Those of one database, by rule and text."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], StatementTally] = {}

    def of(self, rule: str, text: str) -> StatementTally:
        """The tally of a statement, made when first asked for; keep it. Once there are CAPACITY,
        further statements share that of the rest of their rule."""
        key = rule, text[:_LONGEST]
        tally = self._tallies.get(key)
        if tally is None and len(self._tallies) >= CAPACITY:
            key = rule, REST
            tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = StatementTally()
        return tally

    def items(self) -> list[tuple[str, str, StatementTally]]:
        """(rule, text, tally) of all, `REST` for the text of what is not told apart."""
        return [(rule, text, tally) for (rule, text), tally in self._tallies.items()]
