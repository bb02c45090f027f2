"""From files and environment variables to one tree: includes, overrides, accepted spellings."""

import glob
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from proxy.config.document import Item, merge, read
from proxy.config.problems import Place, Report, nearest, problem_at, written

ENVIRONMENT_PREFIX = "PENSTOCK_"
_SEPARATOR = "__"


def assemble(path: FilePath, environ: Mapping[str, str], report: Report) -> Item | None:
    """The main file with all it includes and the environment's overrides, as one tree.

    None if the main file itself can't be read; lesser problems are added to the report.
    """
    tree = read(path, report)
    if tree is None:
        return None
    for included in _included(tree, path, report):
        document = read(included, report)
        if document is None:
            continue
        if nested := document.value.pop("include", None):
            message = "only the main file includes others"
            report.add(problem_at(nested.place, message))
        tree = merge(tree, document, report)
    tree = override(tree, environ, report)
    tree = _master_as_primary(tree, report)
    return _place_sharded_tables(tree, report)


def _included(tree: Item, path: FilePath, report: Report) -> list[FilePath]:
    """The files that `include` matches, each once, sorted by name within each pattern."""
    patterns = tree.value.get("include")
    found: dict[FilePath, None] = {}
    if patterns is None or not isinstance(patterns.value, list):
        return []
    for pattern in patterns.value:
        if not isinstance(pattern.value, str):
            continue  # the settings' types report it
        matches = sorted(glob.glob(pattern.value, root_dir=path.parent, recursive=True))
        files = [path.parent / match for match in matches]
        if not files:
            message = f"no file matches, looked in {path.parent.resolve()}"
            report.lost(problem_at(pattern.place, message, value=written(pattern.value)))
        found.update(dict.fromkeys(file for file in files if file != path))
    return list(found)


def override(tree: Item, environ: Mapping[str, str], report: Report) -> Item:
    """The tree with the variables `PENSTOCK_SECTION__KEY` laid over it, sorted by name.

    A name with no double underscore is not meant for the settings and left alone. Parts are matched
    without regard to case, `_` also for `-`; a number picks an array's element, counted from 0.
    """
    for name in sorted(environ):
        parts = name.removeprefix(ENVIRONMENT_PREFIX).split(_SEPARATOR)
        if not name.startswith(ENVIRONMENT_PREFIX) or len(parts) < 2:
            continue
        place = Place(f"environment variable {name}", None, ".".join(parts).lower())
        try:
            tree = _set(tree, parts, value_of_text(environ[name]), place)
        except ValueError as error:
            report.add(problem_at(place, str(error)))
    return tree


def value_of_text(text: str) -> Any:
    """What a variable's text stands for: an array or inline table where it reads as one, else the
    text itself."""
    if text.lstrip().startswith(("[", "{")):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text  # an IPv6 address starts the same way
    return text


def _set(item: Item, parts: list[str], value: Any, place: Place) -> Item:
    """A copy of `item` with the value set below it. Raises ValueError if the path leads nowhere."""
    if not parts:
        return _spread(value, place)
    part, rest = parts[0], parts[1:]
    if not part:
        raise ValueError("an empty part: use exactly two underscores between the parts of the name")
    empty = Item(place, [] if rest and rest[0] == "0" else {})
    if isinstance(item.value, dict):
        folded = part.lower()
        key = next((k for k in item.value if k.lower().replace("-", "_") == folded), folded)
        child = item.value.get(key, empty)
        return Item(item.place, {**item.value, key: _set(child, rest, value, place)})
    if isinstance(item.value, list):
        elements = item.value
        if not part.isdecimal() or int(part) > len(elements):
            raise ValueError(
                f"{part} is no element of this array: 0 to {len(elements) - 1} exist, "
                f"{len(elements)} adds one"
            )
        index = int(part)
        child = elements[index] if index < len(elements) else empty
        changed = _set(child, rest, value, place)
        return Item(item.place, [*elements[:index], changed, *elements[index + 1 :]])
    raise ValueError(f"{item.place.key} at {item.place} is no table, so it has no key {part}")


def _spread(value: Any, place: Place) -> Item:
    """A plain value as a tree, all of it at one place."""
    if isinstance(value, dict):
        return Item(place, {key: _spread(child, place) for key, child in value.items()})
    if isinstance(value, list):
        return Item(place, [_spread(child, place) for child in value])
    return Item(place, value)


def _master_as_primary(tree: Item, report: Report) -> Item:
    """`[database.X.master]` is another spelling of `[database.X.primary]`."""
    databases = _table(tree, "database")
    renamed = {}
    for name, database in databases.items():
        if isinstance(database.value, dict) and "master" in database.value:
            rest = dict(database.value)
            master = rest.pop("master")
            primary = rest.get("primary")
            rest["primary"] = master if primary is None else merge(primary, master, report)
            database = Item(database.place, rest)
        renamed[name] = database
    return _with(tree, "database", renamed) if databases else tree


def _place_sharded_tables(tree: Item, report: Report) -> Item:
    """Move each top-level `[[sharding.table]]` to the database that it names, or the only one."""
    if "sharding" not in tree.value:
        return tree
    rest = dict(tree.value)
    sharding = rest.pop("sharding")
    tree = Item(tree.place, rest)
    if not isinstance(sharding.value, dict):
        report.lost(problem_at(sharding.place, "must be [[sharding.table]] entries"))
        return tree
    for key, child in sharding.value.items():
        if key != "table":
            message = "unknown key: here only [[sharding.table]] is allowed, all else of sharding"
            message += " is set in [database.NAME.sharding]"
            report.add(problem_at(child.place, message))
    tables = sharding.value.get("table")
    for table in tables.value if tables and isinstance(tables.value, list) else ():
        name = _database_of(table, list(_table(tree, "database")), report)
        if name is not None:
            tree = _append_table(tree, name, table, report)
    return tree


def _database_of(table: Item, databases: list[str], report: Report) -> str | None:
    named = table.value.get("database") if isinstance(table.value, dict) else None
    if named is None:
        if len(databases) == 1:
            return databases[0]
        message = f'there are {len(databases)} databases, so say which: database = "…"'
        report.lost(problem_at(table.place, message, allowed=", ".join(databases)))
        return None
    if named.value in databases:
        return str(named.value)
    report.lost(
        problem_at(
            named.place,
            "there is no such database",
            value=written(named.value),
            allowed=", ".join(databases),
            suggestion=nearest(str(named.value), databases),
        )
    )
    return None


def _append_table(tree: Item, database: str, table: Item, report: Report) -> Item:
    if isinstance(table.value, dict):
        kept = {key: child for key, child in table.value.items() if key != "database"}
        table = Item(table.place, kept)
    addition = Item(table.place, [table])
    for key in ("table", "sharding", database, "database"):
        addition = Item(table.place, {key: addition})
    return merge(tree, addition, report)


def _table(item: Item, key: str) -> dict[str, Item]:
    child = item.value.get(key)
    return child.value if child is not None and isinstance(child.value, dict) else {}


def _with(item: Item, key: str, value: Any) -> Item:
    return Item(item.place, {**item.value, key: Item(item.value[key].place, value)})
