"""Which channels a session listens on: the steps in statements that decide it, and their outcome.

LISTEN and UNLISTEN take effect when their transaction commits (async.c), so what begins, ends and
cuts back transactions are steps too. Source: PostgreSQL 18 documentation, LISTEN, UNLISTEN,
ROLLBACK TO SAVEPOINT, DISCARD.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from proxy.sql.functions import RESERVED
from proxy.sql.lexer import Token


class Verb(enum.Enum):
    """What a step does."""

    LISTEN = "LISTEN"
    UNLISTEN = "UNLISTEN"
    UNLISTEN_ALL = "UNLISTEN *"  # DISCARD ALL too
    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"
    PREPARE = "PREPARE TRANSACTION"
    OTHER = "other"
    """Any statement behind an end of a transaction."""


@dataclass(frozen=True, slots=True)
class Step:
    """A verb with the channel or savepoint that it names, folded and cut as PostgreSQL does."""

    verb: Verb
    name: str = ""

    @property
    def listens(self) -> bool:
        """Whether it changes what is listened on, when its transaction commits."""
        return self.verb in _CHANGES


_CHANGES = frozenset({Verb.LISTEN, Verb.UNLISTEN, Verb.UNLISTEN_ALL})
_SAVEPOINTS = frozenset({Verb.SAVEPOINT, Verb.RELEASE, Verb.ROLLBACK_TO})
_ENDS = frozenset({Verb.COMMIT, Verb.ROLLBACK, Verb.PREPARE})
_ENDING = {"commit": Verb.COMMIT, "end": Verb.COMMIT, "rollback": Verb.ROLLBACK}


def step_of(tokens: Sequence[Token]) -> Step | None:
    """The step that the statement of these tokens is; None for all others."""
    verb, second = tokens[0].word, tokens[1] if len(tokens) > 1 else None
    if verb == "listen" and second is not None and len(tokens) == 2:
        return Step(Verb.LISTEN, second.name) if _is_channel(second) else None
    if verb == "unlisten" and second is not None and len(tokens) == 2:
        if second.word == "*":
            return Step(Verb.UNLISTEN_ALL)
        return Step(Verb.UNLISTEN, second.name) if _is_channel(second) else None
    if verb == "discard" and second is not None and second.word == "all":
        return Step(Verb.UNLISTEN_ALL)
    if verb in ("begin", "start"):
        return Step(Verb.BEGIN)
    if verb in ("savepoint", "release"):
        return Step(Verb.SAVEPOINT if verb == "savepoint" else Verb.RELEASE, tokens[-1].name)
    if verb in ("commit", "end", "rollback", "abort"):
        return _end(tokens)
    return None


def _is_channel(token: Token) -> bool:
    """Whether PostgreSQL's grammar takes it for a channel's name (ColId)."""
    return token.is_name and token.word not in RESERVED and bool(token.name)


def _end(tokens: Sequence[Token]) -> Step | None:
    words = [token.word for token in tokens[1:3]]
    if words[:1] == ["prepared"]:
        return None
    if "to" in words:
        return Step(Verb.ROLLBACK_TO, tokens[-1].name)
    return Step(_ENDING.get(tokens[0].word, Verb.ROLLBACK))


def in_order(steps: Iterable[Step | None]) -> tuple[Step, ...]:
    """The steps of statements that run together; None stands for a statement that is no step."""
    found: list[Step] = []
    for step in steps:
        if step is not None:
            found.append(step)
        elif found and found[-1].verb in _ENDS:
            found.append(Step(Verb.OTHER))
    return tuple(found)


def too_involved(steps: Sequence[Step], within: bool) -> bool:
    """Whether the outcome of statements that run together can't be told if one of them fails.

    `within`: a transaction is open that has changed what is listened on.
    """
    if len(steps) < 2 or not (within or any(step.listens for step in steps)):
        return False
    if any(step.verb in _SAVEPOINTS for step in steps):
        return True
    return any(step.verb in _ENDS for step in steps[:-1])


@dataclass(slots=True)
class Outlook:
    """The channels that a session listens on, and those that it will when its transaction commits.

    Savepoints are noted from the first change on: one that is not known was set before all changes.
    """

    channels: dict[str, None] = field(default_factory=dict)
    pending: list[Step] = field(default_factory=list)

    def wanted(self, steps: Iterable[Step]) -> list[str]:
        """The channels that it may listen on besides, once these have run and all is committed."""
        both = (*self.pending, *steps)
        names = dict.fromkeys(step.name for step in both if step.verb is Verb.LISTEN)
        return [name for name in names if name not in self.channels]

    def run(self, steps: Iterable[Step], aborted: bool, idle: bool) -> None:
        """These have run without an error. `aborted`: in a transaction that had failed. `idle`: no
        transaction is open behind them."""
        for step in steps:
            if step.verb is Verb.COMMIT and not aborted:
                self._commit()
            elif step.verb in _ENDS:
                self.pending.clear()
                aborted = False
            elif step.verb is Verb.ROLLBACK_TO:
                self._cut_back(step.name)
                aborted = False
            elif step.verb is Verb.RELEASE:
                self._release(step.name)
            elif step.listens or (self.pending and step.verb is Verb.SAVEPOINT):
                self.pending.append(step)
        if idle:
            self._commit()

    def fail(self, idle: bool) -> None:
        """A statement has failed; `idle`: its transaction is over with it."""
        if idle:
            self.pending.clear()

    def _commit(self) -> None:
        for step in self.pending:
            if step.verb is Verb.LISTEN:
                self.channels[step.name] = None
            elif step.verb is Verb.UNLISTEN:
                self.channels.pop(step.name, None)
            elif step.verb is Verb.UNLISTEN_ALL:
                self.channels.clear()
        self.pending.clear()

    def _cut_back(self, savepoint: str) -> None:
        """Forget what came after the savepoint, which stays."""
        place = self._place(savepoint)
        del self.pending[0 if place is None else place + 1 :]

    def _release(self, savepoint: str) -> None:
        """Forget the savepoint and those within; what came after it stays."""
        place = self._place(savepoint)
        first = 0 if place is None else place
        kept = [step for step in self.pending[first:] if step.verb is not Verb.SAVEPOINT]
        self.pending[first:] = kept

    def _place(self, savepoint: str) -> int | None:
        for place in range(len(self.pending) - 1, -1, -1):
            if self.pending[place] == Step(Verb.SAVEPOINT, savepoint):
                return place
        return None
