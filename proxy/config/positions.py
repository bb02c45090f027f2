"""Where in a TOML text each key is written.

`tomllib` reads the values but says nothing of lines, so this walks over a text that `tomllib` has
accepted already and notes positions only. Being sure of valid input keeps it small: it needs to
know where strings, brackets and keys end, and nothing of what values mean.
"""

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]
"""Keys and array indexes from the top of the document: ("cache", "rule", 0, "ttl")."""

_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_STRING = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?:"{0,2})'''  # up to two quotes may stand before the closing three
    r"""|'''.*?'''(?:'{0,2})"""
    r"""|"(?:\\.|[^"\\])*"|'[^']*'""",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\n]+")  # numbers, booleans, dates (one of whose forms has a space)


def key_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every key and array element of valid TOML.

    A table that several headers name has the line of the first. The result for anything that
    `tomllib` rejects is not defined.
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.lines: dict[Path, int] = {}
        self.table_arrays: dict[Path, int] = {}
        """The index of the newest element of each [[array of tables]]."""

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self.skip(_BLANK) < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def header(self) -> Path:
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 2 if is_array else 1
        keys = self.dotted_key()
        self.at += 2 if is_array else 1
        table = self.table(keys[:-1], start)
        path = (*table, keys[-1])
        self.note(path, start)
        if is_array:
            index = self.table_arrays.get(path, -1) + 1
            self.table_arrays[path] = index
            path = (*path, index)
            self.note(path, start)
        elif path in self.table_arrays:
            path = (*path, self.table_arrays[path])
        return path

    def table(self, keys: list[str], start: int) -> Path:
        """The table that a header's leading keys mean: of an array of tables, its last element."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            self.note(path, start)
            if path in self.table_arrays:
                path = (*path, self.table_arrays[path])
        return path

    def pair(self, table: Path) -> None:
        start = self.at
        path = table
        for key in self.dotted_key():
            path = (*path, key)
            self.note(path, start)
        self.at += 1  # =
        self.skip(_SPACE)
        self.value(path)

    def value(self, path: Path) -> None:
        match self.text[self.at]:
            case "[":
                self.array(path)
            case "{":
                self.inline_table(path)
            case '"' | "'":
                self.take(_STRING)
            case _:
                self.take(_PLAIN)

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self.text[self.skip(_BLANK)] != "]":
            element = (*path, index)
            self.note(element, self.at)
            self.value(element)
            index += 1
            if self.text[self.skip(_BLANK)] == ",":
                self.at += 1
        self.at += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        while self.text[self.skip(_BLANK)] != "}":
            self.pair(path)
            if self.text[self.skip(_BLANK)] == ",":
                self.at += 1
        self.at += 1

    def dotted_key(self) -> list[str]:
        keys = []
        while True:
            self.skip(_SPACE)
            keys.append(_decoded(self.take(_KEY)))
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return self.at

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not TOML that tomllib accepts, at character {self.at}")
        self.at = match.end()
        return match[0]

    def note(self, path: Path, start: int) -> None:
        self.lines.setdefault(path, bisect_right(self.line_starts, start))


def _decoded(key: str) -> str:
    """A key's text without its quotes and escapes."""
    if key[0] in "\"'":
        return next(iter(tomllib.loads(f"{key} = 0")))
    return key
