"""How far the feed has come, and why that may be said. No I/O, no clocks.

A commit arrives over the feed as soon as its record is on the primary's disk. Others see it only
later, when the server has taken it off the list of running transactions: with a synchronous
standby perhaps seconds later. Epochs that move before that are of no use, since a result that is
read between the two holds the old rows under the new epochs. So a transaction waits here until a
snapshot taken after its arrival shows that it has ended; then its epochs are moved; and only when
Redis has acknowledged that does the position pass it.

The position P says: the epochs of every transaction whose commit record begins before P have been
moved after others could see it.
"""

from collections import deque
from dataclasses import dataclass

from proxy.cache.feed.gathering import Transaction
from proxy.cache.keys import EVERYTHING

_XID_BITS = 32
_XID_RANGE = 1 << _XID_BITS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """pg_current_snapshot(): which transactions were running. Full numbers, of 64 bits."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Its text form, "10:20:10,14". Raises ValueError."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, filter(None, running.split(",")))))

    def has_ended(self, xid: int) -> bool:
        """Whether the transaction with these low 32 bits, no more than 2^31 away, had ended."""
        full = self.xmax - self.xmax % _XID_RANGE + xid
        if full - self.xmax >= _XID_RANGE // 2:
            full -= _XID_RANGE
        elif self.xmax - full > _XID_RANGE // 2:
            full += _XID_RANGE
        return full < self.xmax and full not in self.running


@dataclass(eq=False, slots=True)
class Pending:
    """Something to be invalidated. `horizon`: all transactions before it must have ended first."""

    relations: frozenset[str]
    schema_changed: bool
    position: int
    """How far the feed has come while this is not done."""
    xid: int | None = None
    horizon: int = 0
    done: bool = False

    def may_move(self, snapshot: Snapshot) -> bool:
        """Whether others can see what it stands for."""
        if self.xid is not None:
            return snapshot.has_ended(self.xid)
        return snapshot.xmin >= self.horizon


class Progress:
    """See the module's docstring. `start`: the position from which the stream goes on."""

    def __init__(self, start: int, schema: int = 0) -> None:
        self._received = start
        self._pending: deque[Pending] = deque()
        self._unknown: Pending | None = None
        """Stands for what happened before the start, where nobody knows what that was."""
        self.schema = schema
        """Counts the schema changes that have been passed on."""

    @property
    def position(self) -> int | None:
        """P of the module's docstring; None while nothing can be said."""
        if self._unknown is not None:
            return None
        return self._pending[0].position if self._pending else self._received

    @property
    def waiting(self) -> int:
        """How much there is to be invalidated."""
        return len(self._pending)

    def reached(self, lsn: int) -> None:
        """The server has sent everything up to here."""
        self._received = max(self._received, lsn)

    def committed(self, transaction: Transaction) -> None:
        """A transaction has arrived whole."""
        if transaction.relations or transaction.schema_changed:
            self._pending.append(
                Pending(
                    transaction.relations,
                    transaction.schema_changed,
                    transaction.commit_lsn,
                    transaction.xid,
                )
            )
        self.reached(transaction.end_lsn)

    def adopt(self, other: "Progress") -> None:
        """Take over what has arrived already, before the start was known."""
        self._pending.extend(other._pending)
        self.reached(other._received)

    def distrust(self, horizon: int) -> None:
        """What happened before the start is not known: everything is to be invalidated, once all
        transactions before `horizon` have ended."""
        self._unknown = self._everything(horizon)

    def restructured(self) -> None:
        """Which tables the feed covers is another matter from now on."""
        self._everything(0)

    def _everything(self, horizon: int) -> Pending:
        start = self._pending[0].position if self._pending else self._received
        pending = Pending(frozenset((EVERYTHING,)), True, start, horizon=horizon)
        self._pending.appendleft(pending)
        return pending

    def due(self, snapshot: Snapshot) -> list[Pending]:
        """What may be invalidated, given a snapshot that was taken after all of it arrived."""
        return [one for one in self._pending if not one.done and one.may_move(snapshot)]

    def moved(self, invalidated: list[Pending]) -> None:
        """Redis has acknowledged it."""
        for one in invalidated:
            one.done = True
            if one.schema_changed:
                self.schema += 1
            if one is self._unknown:
                self._unknown = None
        while self._pending and self._pending[0].done:
            self._pending.popleft()
