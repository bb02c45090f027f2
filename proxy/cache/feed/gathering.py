"""From the messages of pgoutput to what each transaction has touched. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.cache.keys import EVERYTHING
from proxy.sql.catalogue import Catalogue
from proxy.wire import pgoutput
from proxy.wire.errors import ProtocolViolation

SCHEMA_PREFIX: Final = "penstock.ddl"
"""Of the messages that the event triggers of `penstock cache feed setup` write."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that has committed."""

    xid: int
    """Its low 32 bits."""
    relations: frozenset[str]
    """Bare names of what it has changed."""
    schema_changed: bool
    commit_lsn: int
    """Where its commit record begins."""
    end_lsn: int
    changes: int
    """Rows, and relations emptied."""


class Gathering:
    """Takes what comes over one stream, in order. Raises ProtocolViolation for what makes no sense.

    pgoutput shows no DDL. A relation that is described anew and differently has been changed by
    somebody; a message with SCHEMA_PREFIX says that something has."""

    def __init__(self) -> None:
        self._known: dict[int, pgoutput.Relation] = {}
        self._begun: pgoutput.Begin | None = None
        self._touched: set[int] = set()
        self._schema_changed = False
        self._changes = 0

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has come in part."""
        return self._begun is not None

    def change(self, relation: int) -> None:
        """A row of this relation was inserted, updated or deleted."""
        if relation not in self._touched:
            self._touch(relation)
        self._changes += 1

    def take(self, message: pgoutput.Output) -> Transaction | None:
        """Take any message; the transaction that it completes."""
        match message:
            case pgoutput.Change():
                self.change(message.relation)
            case pgoutput.Truncate():
                for relation in message.relations:
                    self._touch(relation)
                    self._changes += 1
            case pgoutput.Relation():
                before = self._known.get(message.oid)
                self._schema_changed |= before is not None and before != message
                self._known[message.oid] = message
            case pgoutput.Message():
                self._schema_changed |= message.transactional and message.prefix == SCHEMA_PREFIX
            case pgoutput.Begin():
                if self._begun is not None:
                    raise ProtocolViolation("pgoutput began a transaction within another")
                self._begun = message
            case pgoutput.Commit():
                return self._commit(message)
        return None

    def _touch(self, relation: int) -> None:
        if self._begun is None:
            raise ProtocolViolation("pgoutput sent a change outside of a transaction")
        if relation not in self._known:
            raise ProtocolViolation(f"pgoutput sent a change of an unknown relation {relation}")
        self._touched.add(relation)

    def _commit(self, commit: pgoutput.Commit) -> Transaction:
        begun, self._begun = self._begun, None
        if begun is None:
            raise ProtocolViolation("pgoutput ended a transaction that had not begun")
        done = Transaction(
            begun.xid,
            frozenset(self._known[oid].name for oid in self._touched),
            self._schema_changed,
            commit.commit_lsn,
            commit.end_lsn,
            self._changes,
        )
        self._touched.clear()
        self._schema_changed = False
        self._changes = 0
        return done


def epochs_touched(relations: Iterable[str], catalogue: Catalogue) -> frozenset[str]:
    """The epoch names to move for changes of `relations`; "*" where the catalogue doesn't know one.

    As for a write through Penstock, but that what triggers and foreign keys do needs no guess: it
    comes over the feed by itself. Results depend on a table with all its partitions, so those of a
    partition move the parents only for who doesn't know of the partition yet."""
    moved: set[str] = set()
    for name in relations:
        if not catalogue.loaded or name not in catalogue.relations:
            return frozenset((EVERYTHING,))
        moved.add(name)
        moved.update(catalogue.parents.get(name, ()))
    return frozenset(moved)
