"""From a tree to typed settings, with pydantic's complaints turned into our own words."""

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from proxy.config.document import Item, descend, place_of, plain
from proxy.config.positions import Path
from proxy.config.problems import Problem, Report, nearest, problem_at, written
from proxy.config.schema import allowed_text, fields_of, shape_at
from proxy.config.settings import Settings
from proxy.config.types import SecretSources

_MESSAGES = {
    "missing": "is required and missing",
    "extra_forbidden": "unknown key",
    "literal_error": "not a value that is allowed here",
    "string_type": "must be text",
    "string_too_short": "can't be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "tuple_type": "must be an array, written in square brackets",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}
_SAYS_ALL = {"missing", "string_type", "bool_type", "bool_parsing", "tuple_type"}
"""Errors whose message leaves no question what is allowed."""

_REPAIRS = 8


def validate(
    tree: Item, sources: SecretSources, report: Report
) -> tuple[Settings | None, list[Path]]:
    """Typed settings from a tree, and the paths that had to be left out to get them.

    With problems, the settings hold what remains without the wrong values, so that further checks
    can still run on the parts untouched; None if even that fails.
    """
    data = plain(tree)
    damaged: list[Path] = []
    for attempt in range(_REPAIRS):
        try:
            return Settings.model_validate(data, context=sources), damaged
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
        paths = [_path_of(entry) for entry in errors]
        if attempt == 0:
            report.problems.extend(map(_problem, [tree] * len(paths), paths, errors))
        data, hurt = _without(data, list(zip(paths, (e["type"] for e in errors), strict=True)))
        damaged += hurt
    return None, damaged


def _path_of(error: Mapping[str, Any]) -> Path:
    """Where in the tree the error is: pydantic marks an error of a dict's key by "[key]"."""
    return tuple(part for part in error["loc"] if part != "[key]")


def _problem(tree: Item, path: Path, error: Mapping[str, Any]) -> Problem:
    kind = error["type"]
    shape = shape_at(Settings, path)
    items = list(descend(tree, path))
    value = written(items[-1].value) if len(items) > len(path) else None
    # An unknown key may be a misspelt password, a text in a table's place may hold one.
    shown = shape is not None and shape.is_leaf and not shape.words.secret
    message = message_of(error)
    allowed = allowed_text(shape) if shape and shape.is_leaf and kind not in _SAYS_ALL else ""
    suggestion = None
    if kind == "value_error":
        allowed = ""  # our own validators say it all
    elif kind == "literal_error" and shape:
        near = nearest(str(items[-1].value), shape.choices)
        suggestion = written(near) if near else None
    elif kind == "extra_forbidden":
        allowed, suggestion = _known_keys(path)
    return problem_at(
        place_of(tree, path),
        message,
        value=value if shown else None,
        allowed=allowed or None,
        suggestion=suggestion,
    )


def message_of(error: Mapping[str, Any]) -> str:
    """What is wrong, in our own words."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return _MESSAGES.get(error["type"]) or str(error["msg"])


def _known_keys(path: Path) -> tuple[str, str | None]:
    """The keys that the table of an unknown key has, and the nearest of them."""
    table = shape_at(Settings, path[:-1])
    if table is None or table.model is None:
        return "", None
    keys = fields_of(table.model)
    return ", ".join(keys), nearest(str(path[-1]), keys)


def _without(data: Any, errors: list[tuple[Path, str]]) -> tuple[Any, list[Path]]:
    """The data less the wrong values, and what was damaged by taking them out.

    An unknown key stands for the one that it looks like, or for any of its table; a missing one
    takes its table with it.
    """
    data = copy.deepcopy(data)
    damaged: list[Path] = []
    doomed: set[Path] = set()
    for path, kind in errors:
        doomed.add(path[:-1] if kind == "missing" else path)
        damaged.append(_damaged_by(path, kind))
    # From the back, so that the indexes of what is still to be taken out stay right.
    for path in sorted(doomed, key=lambda path: [str(p).zfill(9) for p in path], reverse=True):
        _remove(data, path)
    return data, damaged


def _damaged_by(path: Path, kind: str) -> Path:
    if kind == "extra_forbidden":
        _, meant = _known_keys(path)
        return (*path[:-1], meant) if meant else path[:-1]
    return path[:-1] if kind == "missing" or isinstance(path[-1], int) else path


def _remove(data: Any, path: Path) -> None:
    try:
        for part in path[:-1]:
            data = data[part]
        del data[path[-1]]
    except (KeyError, IndexError, TypeError):
        return  # went with something above it
