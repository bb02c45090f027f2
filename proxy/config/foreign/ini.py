"""PgBouncer's file formats: pgbouncer.ini, connection strings, userlist.txt.

Source: PgBouncer's documentation, config.md: sections, `%include`, `;` and `#` comments, doubled
quotes in connection strings and in the user list.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from proxy.config.foreign.draft import ImportFileError

_SECTION = re.compile(r"\[([^\]]+)\]\s*")
_PAIR = re.compile(r"\s*([\w.*-]+|\"(?:[^\"]|\"\")+\")\s*=\s*(.*)")
_PARAMETER = re.compile(r"\s*(\w+)\s*=\s*('(?:[^']|'')*'|[^\s]*)\s*")
_USER = re.compile(r'\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)".*')
_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """`key = value` and where it is written."""

    section: str
    key: str
    value: str
    where: str


def read_ini(path: Path, depth: int = 0, section: str = "") -> list[Entry]:
    """All entries of the file and what it includes, in their order. Raises ImportFileError."""
    if depth > _DEEPEST:
        raise ImportFileError(f"{path}: files include each other more than {_DEEPEST} deep")
    entries: list[Entry] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        where, line = f"{path}:{number}", line.strip()
        if not line or line[0] in ";#":
            continue
        if line.startswith("%include"):
            included = path.parent / line.removeprefix("%include").strip()
            entries += read_ini(included, depth + 1, section)
            section = entries[-1].section if entries else section
        elif found := _SECTION.fullmatch(line):
            section = found[1].strip().lower()
        elif (pair := _PAIR.fullmatch(line)) and section:
            key = pair[1][1:-1].replace('""', '"') if pair[1].startswith('"') else pair[1]
            entries.append(Entry(section, key, pair[2].strip(), where))
        else:
            raise ImportFileError(f"{where}: neither a section nor key = value: {line}")
    return entries


def connection_parameters(text: str, where: str) -> dict[str, str]:
    """The parameters of a [databases] or [users] line. Raises ImportFileError."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            raise ImportFileError(f"{where}: not a parameter = value: {text[position:]}")
        value = match[2]
        quoted = value.startswith("'")
        found[match[1]] = value[1:-1].replace("''", "'") if quoted else value
        position = match.end()
    return found


def read_userlist(path: Path) -> dict[str, str]:
    """Users and their secrets: a password, "md5…" or "SCRAM-SHA-256$…". Raises ImportFileError."""
    users = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip()[0] in ";#":
            continue
        match = _USER.fullmatch(line)
        if match is None:
            raise ImportFileError(f'{path}:{number}: expected "user" "password"')
        users[match[1].replace('""', '"')] = match[2].replace('""', '"')
    return users


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImportFileError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ImportFileError(f"{path}: is not UTF-8 text") from None
