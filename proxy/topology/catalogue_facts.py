"""From rows of PostgreSQL's catalogue to a `Catalogue`. Pure.

Rows speak of objects by OID, a `Catalogue` by bare name: objects that share a name are merged, each
relation of the merged name having what any of them has.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from proxy.sql.analyse import analyse
from proxy.sql.catalogue import Catalogue, View, Volatility
from proxy.sql.setters import effects_of, setters
from proxy.sql.statement import Kind

Edge = tuple[int, int]

_NO_NAMES: frozenset[str] = frozenset()


class Row(Protocol):
    """A row: asyncpg's record or a dict."""

    def __getitem__(self, column: str, /) -> Any: ...


class Rows(NamedTuple):
    """The answers to the queries of `catalogue_loader`."""

    functions: Sequence[Row]
    relations: Sequence[Row]
    view_reads: Sequence[Row]
    inherits: Sequence[Edge]
    """(child, parent)"""
    cascades: Sequence[Edge]
    """(referenced table, referencing table)"""
    triggers: Sequence[int]
    isolation: Row
    setters: Sequence[Row] = ()
    """Functions whose bodies may leave something on their connection."""
    definitions: Sequence[Row] = ()
    """All functions, if there are any of the former."""
    trigger_functions: Sequence[Row] = ()
    unfed: Sequence[str] = ()
    keys: Sequence[Row] = ()
    """A row for each relation that shares its name with one that has a key column, and each of its
    own key columns; without a column where it has none."""
    defaults: str = ""


def assemble(rows: Rows, views: Mapping[str, View]) -> Catalogue:
    """The catalogue that `rows` describe; `views` has the analysis of each view's definition."""
    user = [row for row in rows.relations if not row["system"]]
    names: dict[int, str] = {row["oid"]: row["name"] for row in user}
    children = _reachable((parent, child) for child, parent in rows.inherits)
    parents = _reachable(rows.inherits)
    changing = _setters(rows)
    return Catalogue(
        functions={row["name"]: Volatility(row["volatility"]) for row in rows.functions},
        builtin_functions=frozenset(row["name"] for row in rows.functions if row["builtin"]),
        set_functions=frozenset(row["name"] for row in rows.functions if row["returns_set"]),
        views=_views(user, rows.view_reads, views),
        children=_by_name(children, names),
        parents=_by_name(parents, names),
        cascades=_by_name(_reachable(rows.cascades), names),
        triggers=frozenset(names[oid] for oid in rows.triggers if oid in names),
        row_security=frozenset(row["name"] for row in user if row["row_security"]),
        foreign=frozenset(row["name"] for row in user if row["kind"] == "f"),
        unfed=frozenset(rows.unfed),
        keys=_keys(rows.keys),
        relations=frozenset(names.values()),
        system_relations=frozenset(row["name"] for row in rows.relations if row["system"]),
        setters=changing,
        trigger_setters=_trigger_setters(rows, changing, names),
        default_isolation=_isolation(rows.isolation),
        defaults=rows.defaults,
        loaded=True,
    )


def _keys(rows: Iterable[Row]) -> dict[tuple[str, str], str]:
    """The type of each key column, where all relations of the name have it alike."""
    relations: dict[str, set[int]] = defaultdict(set)
    types: dict[tuple[str, str], dict[int, str | None]] = defaultdict(dict)
    for row in rows:
        relations[row["name"]].add(row["oid"])
        if row["column"] is not None:
            types[row["name"], row["column"]][row["oid"]] = row["type"]
    keys: dict[tuple[str, str], str] = {}
    for (name, column), found in types.items():
        kinds = set(found.values())
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is not None and found.keys() == relations[name]:
            keys[name, column] = kind
    return keys


def analyse_view(definition: str) -> View:
    """What a view's text says that it reads; uncacheable where it can't be understood."""
    analysis = analyse(definition)
    if analysis.error is not None or len(analysis.statements) != 1:
        return View(_NO_NAMES, _NO_NAMES, cacheable=False)
    statement = analysis.statements[0]
    return View(
        reads=frozenset(table.name for table in statement.reads),
        functions=statement.functions,
        cacheable=statement.kind is Kind.SELECT and statement.cacheable_shape,
    )


def _views(
    user: Iterable[Row], view_reads: Iterable[Row], analysed: Mapping[str, View]
) -> dict[str, View]:
    """PostgreSQL's own record of what a view depends on is exact but leaves out its own objects,
    which the text has: both count."""
    relations: dict[int, set[str]] = defaultdict(set)
    functions: dict[int, set[str]] = defaultdict(set)
    for row in view_reads:
        (functions if row["is_function"] else relations)[row["view"]].add(row["name"])
    merged: dict[str, View] = {}
    for row in user:
        if row["definition"] is None:
            continue
        text = analysed[row["definition"]]
        other = merged.get(row["name"], View(_NO_NAMES, _NO_NAMES))
        merged[row["name"]] = View(
            reads=other.reads | text.reads | relations[row["oid"]],
            functions=other.functions | text.functions | functions[row["oid"]],
            cacheable=other.cacheable and text.cacheable,
        )
    return merged


def _setters(rows: Rows) -> dict[str, frozenset[str]]:
    seeds: dict[str, frozenset[str]] = {}
    for row in rows.setters:
        seeds[row["name"]] = seeds.get(row["name"], _NO_NAMES) | effects_of(row["body"])
    # What has just been dropped has no text any more.
    bodies = ((row["name"], row["body"]) for row in rows.definitions if row["body"] is not None)
    return setters(seeds, bodies)


def _trigger_setters(
    rows: Rows, changing: Mapping[str, frozenset[str]], names: Mapping[int, str]
) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for row in rows.trigger_functions:
        table, changed = names.get(row["relation"]), changing.get(row["name"])
        if table is not None and changed:
            found[table] = found.get(table, _NO_NAMES) | changed
    return found


def _reachable(edges: Iterable[Edge]) -> dict[int, set[int]]:
    """For each node with edges, all nodes that they lead to, directly or not."""
    direct: dict[int, list[int]] = defaultdict(list)
    for source, target in edges:
        direct[source].append(target)
    return {source: _walk(source, direct) for source in direct}


def _walk(start: int, direct: Mapping[int, Sequence[int]]) -> set[int]:
    found: set[int] = set()
    queue = [start]
    while queue:
        for target in direct.get(queue.pop(), ()):
            if target not in found:
                found.add(target)
                queue.append(target)
    return found


def _by_name(
    reachable: Mapping[int, Iterable[int]], names: Mapping[int, str]
) -> dict[str, frozenset[str]]:
    merged: dict[str, frozenset[str]] = {}
    for source, targets in reachable.items():
        if source in names:
            found = frozenset(names[oid] for oid in targets if oid in names)
            name = names[source]
            merged[name] = merged.get(name, _NO_NAMES) | found
    return merged


def _isolation(row: Row) -> str:
    """What sessions of every role start with, or "mixed" where that depends on the role."""
    values = {row["seen"], *row["configured"]}
    if len(values) == 1 and row["source"] not in ("user", "database user", "client"):
        return str(row["seen"])
    return "mixed"
