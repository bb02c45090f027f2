"""From the messages of pgoutput to what each transaction has touched. No I/O."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.cache.keys import EVERYTHING, key_epoch
from proxy.sql.catalogue import Catalogue
from proxy.wire import pgoutput
from proxy.wire.errors import ProtocolViolation

SCHEMA_PREFIX: Final = "penstock.ddl"
"""Of the messages that the event triggers of `penstock cache feed setup` write."""


_MOST_KEYS: Final = 64
"""Groups of keys of one table in a transaction, beyond which it counts as written as a whole."""


class KeyColumn(NamedTuple):
    """By which a table is invalidated."""

    column: str
    type_oid: int
    group: Callable[[bytes], int | None]
    """The group of a value, given as text; None where it can't be told."""


KeyOf = Callable[[str], KeyColumn | None]
"""By a table's bare name; None where it is invalidated as a whole. Asked at each change: whatever
is said then must hold for what other processes have read until now."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that has committed."""

    xid: int
    """Its low 32 bits."""
    relations: frozenset[str]
    """Bare names of what it has changed, epoch names of keys where only these were."""
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

    def __init__(self, key_of: KeyOf = lambda _: None) -> None:
        self._key_of = key_of
        self.keyed: set[int] = set()
        """Relations of which `take` needs the rows, where `change` suffices for others."""
        self._groups: dict[int, set[int]] = {}
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
                self._change_by_key(message)
            case pgoutput.Truncate():
                for relation in message.relations:
                    self._touch(relation)
                    self._changes += 1
            case pgoutput.Relation():
                before = self._known.get(message.oid)
                self._schema_changed |= before is not None and before != message
                self._known[message.oid] = message
                if self._key_of(message.name) is not None:
                    self.keyed.add(message.oid)
            case pgoutput.Message():
                self._schema_changed |= message.transactional and message.prefix == SCHEMA_PREFIX
            case pgoutput.Begin():
                if self._begun is not None:
                    raise ProtocolViolation("pgoutput began a transaction within another")
                self._begun = message
            case pgoutput.Commit():
                return self._commit(message)
        return None

    def _change_by_key(self, change: pgoutput.Change) -> None:
        relation = change.relation
        groups = set() if relation in self._touched else self._groups_of(change)
        if not groups:
            self.change(relation)
            return
        known = self._groups.setdefault(relation, set())
        known |= groups
        self._changes += 1
        if len(known) > _MOST_KEYS:
            self._touch(relation)

    def _groups_of(self, change: pgoutput.Change) -> set[int]:
        """The groups of the keys that a row had and has; none where they can't be told."""
        relation = self._known.get(change.relation)
        key = None if relation is None else self._key_of(relation.name)
        if relation is None or key is None or self._begun is None:
            return set()
        places = [n for n, column in enumerate(relation.columns) if column.name == key.column]
        if not places or relation.columns[places[0]].type_oid != key.type_oid:
            return set()
        place, rows = places[0], pgoutput.tuples(change)
        in_identity = relation.columns[place].key
        if change.kind != "I" and not in_identity:
            return set()
        # An update sends what identified the old row only where that has changed.
        groups: set[int] = set()
        for values in rows.values():
            value = values[place] if place < len(values) else None
            group = None if value is None else key.group(value)
            if group is None:
                return set()
            groups.add(group)
        return groups

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
            frozenset((*(self._known[oid].name for oid in self._touched), *self._keys())),
            self._schema_changed,
            commit.commit_lsn,
            commit.end_lsn,
            self._changes,
        )
        self._touched.clear()
        self._groups.clear()
        self._schema_changed = False
        self._changes = 0
        return done

    def _keys(self) -> Iterable[str]:
        """Epoch names of keys in relations that were not touched otherwise."""
        for oid, groups in self._groups.items():
            if oid not in self._touched:
                name = self._known[oid].name
                yield from (key_epoch(name, group) for group in groups)


def epochs_touched(relations: Iterable[str], catalogue: Catalogue) -> frozenset[str]:
    """The epoch names to move for changes of `relations`; "*" where the catalogue doesn't know one.

    As for a write through Penstock, but that what triggers and foreign keys do needs no guess: it
    comes over the feed by itself. Results depend on a table with all its partitions, so those of a
    partition move the parents only for who doesn't know of the partition yet."""
    moved: set[str] = set()
    for name in relations:
        table = name if name in catalogue.relations else name.partition("#")[0]
        if not catalogue.loaded or table not in catalogue.relations:
            return frozenset((EVERYTHING,))
        moved.add(name)
        if parents := catalogue.parents.get(table):
            moved.add(table)
            moved |= parents
    return frozenset(moved)
