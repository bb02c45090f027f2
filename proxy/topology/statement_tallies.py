"""What the cache did for each statement, plain numbers that its plan carries, and what they say.

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

SELDOM: Final = "hardly any of its results is asked for again"
"""Why a read that might be cached is not looked up."""
_SAMPLE: Final = 2000
"""Misses after which hits are weighed; four times as many reads where most pass by."""
_SHARE: Final = 20
"""Of so many look-ups one must find something, else only what is asked for again is looked up."""
_SLOW_SHARE: Final = 200
"""The same where a read takes long."""
_SLOW: Final = 0.01
"""Seconds that are long."""


def saved_ms(hits: int, reads: int, read_seconds: float) -> int:
    """Milliseconds that the hits would have taken, had each taken as long as a read did."""
    return int(1000 * hits * read_seconds / reads) if reads else 0


class StatementTally:
    """Of one statement."""

    __slots__ = (
        "_again",
        "_asked",
        "_hits_before",
        "bypasses",
        "hits",
        "misses",
        "read_seconds",
        "reads",
        "seldom",
    )

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.bypasses: Counter[str] = Counter()
        """Reads that did not ask the cache, or got no answer from it, by reason."""
        self.reads = 0
        """Answers of servers that were offered to it, and the seconds that they took in all."""
        self.read_seconds = 0.0
        self.seldom = False
        """Hardly any look-up finds something: what is asked for the first time may pass by."""
        self._asked = self._again = self._hits_before = 0

    def missed(self) -> None:
        """Count a look-up that found nothing."""
        self.misses += 1
        if self.seldom:
            return
        self._asked += 1
        if self._asked >= _SAMPLE:
            hits = self.hits - self._hits_before
            self._weigh(hits * self._share < self._asked + hits)

    def passed(self, count: int = 1) -> None:
        """Count reads that passed by because what they ask for was not asked for before."""
        self.bypasses[SELDOM] += count
        self._seen(count, 0)

    def again(self) -> None:
        """Count a read, while others pass by, of what was asked for before."""
        self._seen(1, 1)

    def _seen(self, asked: int, again: int) -> None:
        self._asked += asked
        self._again += again
        hits = self.hits - self._hits_before
        if self.seldom and self._asked + hits >= 4 * _SAMPLE:
            self._weigh((self._again + hits) * self._share < 2 * (self._asked + hits))

    def _weigh(self, seldom: bool) -> None:
        self.seldom = seldom
        self._asked = self._again = 0
        self._hits_before = self.hits

    @property
    def _share(self) -> int:
        slow = self.reads > 0 and self.read_seconds > _SLOW * self.reads
        return _SLOW_SHARE if slow else _SHARE

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
