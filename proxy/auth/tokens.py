"""Files in the format of pg_hba.conf and pg_ident.conf, as lines of fields of tokens.

Source: PostgreSQL 16, hba.c (next_token, next_field_expand, tokenize_auth_file); documentation,
"The pg_hba.conf File".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.auth.problems import BadLine, Place, Problem

MAX_DEPTH: Final = 10
"""Files within files; PostgreSQL's CONF_FILE_MAX_DEPTH."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word. One that begins with a quote is no keyword and includes nothing."""

    text: str
    quoted: bool = False

    def is_keyword(self, word: str) -> bool:
        """Whether this is the keyword and not a name of the same letters."""
        return not self.quoted and self.text == word


Field = tuple[Token, ...]
"""Tokens with commas between."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that says something."""

    place: Place
    fields: tuple[Field, ...]


def read_lines(path: Path, problems: list[Problem], depth: int = 0) -> list[Line]:
    """The lines of a file and of the files that it includes; problems are added to the list."""
    try:
        text = read_text(path, depth)
    except BadLine as error:
        problems.append(Problem(Place(path), str(error)))
        return []
    lines: list[Line] = []
    for number, content in _logical_lines(text):
        place = Place(path, number)
        try:
            fields = tuple(_fields(content, path, depth))
            if not fields:
                continue
            included = _included(fields, path)
            if included is None:
                lines.append(Line(place, fields))
                continue
            for file in included:
                lines += read_lines(file, problems, depth + 1)
        except BadLine as error:
            problems.append(Problem(place, str(error)))
    return lines


def read_text(path: Path, depth: int = 0) -> str:
    """A file's text. Raises BadLine if it can't be had."""
    if depth > MAX_DEPTH:
        raise BadLine(f"files include each other more than {MAX_DEPTH} deep")
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadLine(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadLine("is not UTF-8 text") from None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; a backslash at the end joins the next one."""
    joined, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        first = first or number
        joined += line.removesuffix("\r")
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        yield first, joined
        joined, first = "", 0
    if joined:
        yield first, joined


def _fields(line: str, path: Path, depth: int) -> Iterator[Field]:
    position = 0
    while True:
        tokens: list[Token] = []
        found = more = True
        while more:
            token, more, position = _next_token(line, position)
            if token is None:
                found = bool(tokens)
                break
            if not token.quoted and len(token.text) > 1 and token.text[0] == "@":
                tokens += _tokens_of(_beside(path, token.text[1:]), depth + 1)
            else:
                tokens.append(token)
        if not found:
            return
        yield tuple(tokens)


def _next_token(line: str, position: int) -> tuple[Token | None, bool, int]:
    """(the token, whether a comma ends it, where the next begins); None at the end of the line."""
    while position < len(line) and line[position] in " \t,":
        position += 1
    text: list[str] = []
    starts_quoted = position < len(line) and line[position] == '"'
    in_quote = was_quote = saw_quote = False
    while position < len(line):
        character = line[position]
        if not in_quote and (character in " \t" or character == "#"):
            if character == "#":
                position = len(line)
            break
        position += 1
        if character == "," and not in_quote:
            return Token("".join(text), starts_quoted), True, position
        if character != '"' or was_quote:
            text.append(character)
        was_quote = in_quote and character == '"' and not was_quote
        if character == '"':
            in_quote = not in_quote
            saw_quote = True
    if in_quote:
        raise BadLine("a quote is not closed on its line")
    if not text and not saw_quote:
        return None, False, position
    return Token("".join(text), starts_quoted), False, position


def _tokens_of(path: Path, depth: int) -> list[Token]:
    """All words of a file that a list includes by @."""
    try:
        text = read_text(path, depth)
    except BadLine as error:
        raise BadLine(f"the file {path}, included by @, {error}") from None
    return [
        token
        for _, line in _logical_lines(text)
        for field in _fields(line, path, depth)
        for token in field
    ]


def _included(fields: tuple[Field, ...], path: Path) -> list[Path] | None:
    """The files of an include directive; None for other lines."""
    word = fields[0][0] if fields[0] else Token("")
    if word.quoted or word.text not in ("include", "include_if_exists", "include_dir"):
        return None
    if len(fields) != 2 or len(fields[1]) != 1:
        raise BadLine(f"{word.text} needs one name after it")
    target = _beside(path, fields[1][0].text)
    if word.text == "include_if_exists":
        return [target] if target.exists() else []
    if word.text == "include":
        return [target]
    if not target.is_dir():
        raise BadLine(f"there is no directory {target}")
    return sorted(file for file in target.glob("*.conf") if not file.name.startswith("."))


def _beside(path: Path, name: str) -> Path:
    """Relative names start at the file that holds them."""
    return path.parent / name
