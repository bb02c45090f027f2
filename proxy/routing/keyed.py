"""Invalidation by key: which statements concern only rows with one value of a table's key column.

Written down as dependencies. For a table T whose rule has `granularity = "key"` there are three
kinds of epochs: T itself, "all keys" and one for each group of keys.

    depends on / moves         T    all keys    group of k
    read not pinned to a key   x
    read pinned to k                   x            x
    write not pinned           x       x
    write pinned to k          x                    x

Any two that may concern the same row share an epoch, so a write moves something that every read
depends on whose result it may change: an unpinned read by T, a pinned one by "all keys" if the
write is not pinned, and by the group if it is pinned to the same value. Equal values are in one
group, since both are read by the column's type (`proxy.session.keyed`). A write pinned to k must
leave rows with other keys as they are, and must not give a row another key than k:

- one INSERT, UPDATE or DELETE by itself; its one written occurrence of T is pinned by equality;
- an UPDATE doesn't assign the key column, an INSERT has no ON CONFLICT DO UPDATE, whose row may
  have another key; the key column is not generated from others;
- T has no triggers or rules (then everything moves), no partitions, parents or children, and no
  foreign key whose action changes T when T or something else written here changes.

Whatever else there is moves all keys. So does everything that knows nothing of keys: the mover adds
"all keys" to each table's name (`proxy.cache.moves`), whoever names it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from proxy.config.cache_settings import CacheRule
from proxy.routing.plan import Pinned
from proxy.routing.relations import ANYTHING, resolve_reads
from proxy.sql.catalogue import Catalogue
from proxy.sql.statement import KeyValue, Kind, Parameter, Scan, Statement

_PINNABLE: Final = frozenset((Kind.INSERT, Kind.UPDATE, Kind.DELETE))
_MOST_VALUES: Final = 16
"""Keys that one write may name."""
_OF_EPOCHS: Final = ("#", "@", "~", "*")
"""Signs that a keyed table's name must not have: they make the names of epochs."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Of a keyed table: its key column and the column's type."""

    column: str
    type: str


Keyed = Mapping[str, KeyColumn]
"""By the table's bare name."""


def keyed_tables(rules: Iterable[CacheRule], catalogue: Catalogue) -> Keyed:
    """The tables that are invalidated by key: by the first rule that says so for each."""
    found: dict[str, KeyColumn] = {}
    for rule in rules:
        if not rule.enabled or rule.granularity != "key" or rule.key is None:
            continue
        for name in catalogue.relations:
            known = catalogue.keys.get((name, rule.key))
            matches = any(fnmatchcase(name, glob.rpartition(".")[2]) for glob in rule.tables)
            if matches and known is not None and name not in found and _plain(name, catalogue):
                found[name] = KeyColumn(rule.key, known)
    return found


def _plain(name: str, catalogue: Catalogue) -> bool:
    return not (
        any(sign in name for sign in _OF_EPOCHS)
        or name in catalogue.children
        or name in catalogue.parents
        or name in catalogue.views
        or name in catalogue.foreign
    )


def pinned_reads(
    statement: Statement, text: str, keyed: Keyed, catalogue: Catalogue
) -> tuple[Pinned, ...]:
    """The keyed tables of which a read needs only rows with one key, the same for all of them."""
    found: list[Pinned] = []
    names = sorted({scan.table.name for scan in statement.scans})
    for name in names:
        key = keyed.get(name)
        others = (other for other in names if other != name)
        if key is None or name in resolve_reads(others, catalogue).tables:
            continue
        values = {scan.values_of(key.column) for scan in statement.scans if scan.table.name == name}
        [value] = values if len(values) == 1 else [None]
        if value is None or len(value) != 1 or not _says(value, text):
            continue
        if not found or found[0].values == value:
            found.append(Pinned(name, key.column, key.type, value))
    return tuple(found)


def pinned_write(
    statements: tuple[Statement, ...],
    text: str,
    writes: frozenset[str],
    keyed: Keyed,
    catalogue: Catalogue,
) -> Pinned | None:
    """The keyed table of which a write concerns only rows with some keys."""
    if len(statements) != 1 or statements[0].kind not in _PINNABLE or writes >= ANYTHING:
        return None
    statement = statements[0]
    written: list[Scan] = [scan for scan in statement.scans if scan.written]
    if len(written) != 1 or written[0].table.name not in writes:
        return None
    name = written[0].table.name
    key = keyed.get(name)
    if key is None or key.column in statement.assigned:
        return None
    if statement.kind is Kind.INSERT and statement.assigned:
        return None
    if any(name in catalogue.cascades.get(other, ()) for other in writes):
        return None
    values = written[0].values_of(key.column)
    if not values or len(values) > _MOST_VALUES or not _says(values, text):
        return None
    return Pinned(name, key.column, key.type, values)


def _says(values: tuple[KeyValue, ...], text: str) -> bool:
    """Whether each parameter stands in the text once: then its type, where none is declared, is
    the column's."""
    return all(
        len(re.findall(rf"\${value.index}(?![0-9])", text)) == 1
        for value in values
        if isinstance(value, Parameter)
    )
