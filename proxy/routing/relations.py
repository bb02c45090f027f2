"""Which tables a statement really reads and writes, by the catalogue: views, partitions, cascades.

Names are bare (no schema), as in the catalogue and as epochs are named.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.routing.functions import ANY_TABLE
from proxy.sql.catalogue import Catalogue
from proxy.sql.statement import TableRef

_SYSTEM_SCHEMAS = frozenset(("pg_catalog", "information_schema", "pg_toast"))
ANYTHING = frozenset((ANY_TABLE,))


@dataclass(frozen=True, slots=True)
class Reading:
    """What relations resolve to."""

    tables: frozenset[str] = frozenset()
    """Base tables, with the partitions and children of each."""
    functions: frozenset[str] = frozenset()
    """Called by the views on the way."""
    unknown: frozenset[str] = frozenset()
    """Relations that the catalogue doesn't have."""
    uncacheable: frozenset[str] = frozenset()
    """Views whose definition can't be cached."""
    system: frozenset[str] = frozenset()
    """System relations that views read."""


def is_system(table: TableRef, catalogue: Catalogue) -> bool:
    """Whether `table` is PostgreSQL's own: pg_class, pg_stat_activity, information_schema.*"""
    if table.schema is not None:
        return table.schema in _SYSTEM_SCHEMAS
    return _is_system_name(table.name, catalogue)


def _is_system_name(name: str, catalogue: Catalogue) -> bool:
    # pg_catalog comes first in every search_path; information_schema is in hardly any.
    if name.startswith("pg_") and name in catalogue.system_relations:
        return True
    if name in catalogue.relations or name in catalogue.views:
        return False
    return name.startswith("pg_") or name in catalogue.system_relations


def is_temporary(table: TableRef) -> bool:
    """Whether `table` is named as a temporary one."""
    return table.schema is not None and table.schema.startswith("pg_temp")


def resolve_reads(names: Iterable[str], catalogue: Catalogue) -> Reading:
    """What reading the relations `names` reads: views expanded, children added."""
    tables: set[str] = set()
    functions: set[str] = set()
    unknown: set[str] = set()
    uncacheable: set[str] = set()
    system: set[str] = set()
    queue, seen = list(names), set[str]()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        view = catalogue.views.get(name)
        if view is not None:
            queue.extend(view.reads)
            functions |= view.functions
            if not view.cacheable:
                uncacheable.add(name)
        if _is_system_name(name, catalogue):
            system.add(name)
        elif name in catalogue.relations:
            tables.add(name)
            tables |= catalogue.children.get(name, frozenset())
        elif view is None:
            unknown.add(name)
    frozen = map(frozenset, (tables, functions, unknown, uncacheable, system))
    return Reading(*frozen)


def epochs_read(reading: Reading) -> frozenset[str]:
    """The epoch names that a result depends on."""
    return reading.tables | ANYTHING if reading.unknown else reading.tables


def epochs_written(
    tables: Iterable[TableRef], catalogue: Catalogue, *, cascades: bool
) -> frozenset[str]:
    """The epoch names that a write to `tables` moves; "*" alone where they can't be told.

    `cascades`: whether rows may be updated or deleted, so that foreign keys' actions follow.
    """
    tables = [table for table in tables if not is_temporary(table)]
    if any(is_system(table, catalogue) for table in tables):
        return ANYTHING
    queue, written = [table.name for table in tables], set[str]()
    if queue and not catalogue.loaded:
        return ANYTHING
    while queue:
        name = queue.pop()
        if name in written:
            continue
        if name in catalogue.triggers or name in catalogue.foreign:
            return ANYTHING
        view = catalogue.views.get(name)
        if view is not None:
            queue.extend(view.reads)
        elif name not in catalogue.relations:
            return ANYTHING
        written.add(name)
        queue.extend(catalogue.children.get(name, ()))
        if cascades:
            for source in (name, *catalogue.parents.get(name, ())):
                queue.extend(catalogue.cascades.get(source, ()))
    parents = (catalogue.parents.get(name, frozenset()) for name in written)
    return frozenset(written).union(*parents)
