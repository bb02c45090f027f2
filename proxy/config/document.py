"""A configuration as a tree whose every value knows where it was written.

Reading, merging and moving parts keep the places, so whatever fails later can name file and line.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from proxy.config.positions import Path, key_lines
from proxy.config.problems import Place, Problem, Report, problem_at


@dataclass(frozen=True, slots=True)
class Item:
    """A value and its place. `value` is a dict or list of Items, or a TOML scalar."""

    place: Place
    value: Any


def read(path: FilePath, report: Report) -> Item | None:
    """The document in a file; None, with a problem added, where it can't be read."""
    top = Place(str(path), None, "")
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        report.lost(problem_at(top, f"can't be read: {error.strerror}"))
        return None
    except UnicodeDecodeError as error:
        report.lost(problem_at(top, f"is not UTF-8 text (byte {error.start})"))
        return None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        report.lost(_syntax_problem(str(path), text, str(error)))
        return None
    return _locate(data, str(path), key_lines(text))


def _syntax_problem(file: str, text: str, message: str) -> Problem:
    said, _, where = message.rpartition(" (at ")
    match = re.fullmatch(r"line (\d+), column (\d+)\)", where)
    line = int(match[1]) if match else text.count("\n") + 1
    column = f"column {match[2]}" if match else "the end of the file"
    return Problem(file, line, "", None, f"not valid TOML at {column}: {said or message}")


def _locate(value: Any, file: str, lines: dict[Path, int], path: Path = ()) -> Item:
    place = Place(file, lines.get(path), key_text(path))
    if isinstance(value, dict):
        return Item(place, {k: _locate(v, file, lines, (*path, k)) for k, v in value.items()})
    if isinstance(value, list):
        return Item(place, [_locate(v, file, lines, (*path, i)) for i, v in enumerate(value)])
    return Item(place, value)


def key_text(path: Path) -> str:
    """A path as people write it: `cache.rule[0].ttl`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = part if re.fullmatch(r"[\w-]+", part) else f'"{part}"'
            text += f".{quoted}" if text else quoted
    return text


def plain(item: Item) -> Any:
    """The tree without its places."""
    if isinstance(item.value, dict):
        return {key: plain(child) for key, child in item.value.items()}
    if isinstance(item.value, list):
        return [plain(child) for child in item.value]
    return item.value


def descend(item: Item, path: Path) -> Iterator[Item]:
    """The items along a path, from the root to the deepest that exists."""
    yield item
    for part in path:
        try:
            item = item.value[part]
        except (KeyError, IndexError, TypeError):
            return
        yield item


def place_of(root: Item, path: Path) -> Place:
    """Where the value at a path is written; of an absent one, where its table is."""
    items = list(descend(root, path))
    place = items[-1].place
    missing = path[len(items) - 1 :]
    if not missing:
        return place
    rest = key_text(missing)
    joint = "." if place.key and isinstance(missing[0], str) else ""
    return Place(place.file, place.line, f"{place.key}{joint}{rest}")


def is_table_array(item: Item) -> bool:
    """Whether it is a list of tables (which merge by appending)."""
    return isinstance(item.value, list) and all(isinstance(i.value, dict) for i in item.value)


def merge(first: Item, second: Item, report: Report) -> Item:
    """Both trees as one: tables merge, arrays of tables append, all else may be set only once."""
    if isinstance(first.value, dict) and isinstance(second.value, dict):
        merged = dict(first.value)
        for key, child in second.value.items():
            merged[key] = merge(merged[key], child, report) if key in merged else child
        return Item(first.place, merged)
    if is_table_array(first) and is_table_array(second):
        return Item(first.place, [*first.value, *second.value])
    message = f"is set already at {first.place}: keep one of the two"
    report.add(problem_at(second.place, message))
    return first
