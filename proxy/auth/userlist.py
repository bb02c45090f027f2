"""PgBouncer's auth_file: "user" "secret", a line each.

Source: PgBouncer's documentation, "Authentication file format".
"""

from collections.abc import Mapping
from pathlib import Path

from proxy.auth.problems import BadLine, Place, Problem
from proxy.auth.tokens import read_text


def read_userlist(path: Path, problems: list[Problem]) -> Mapping[str, str]:
    """The stored secrets of a file by user, "" for none; problems are added to the list."""
    try:
        text = read_text(path)
    except BadLine as error:
        problems.append(Problem(Place(path), str(error)))
        return {}
    return parse_userlist(text, path, problems)


def parse_userlist(text: str, path: Path, problems: list[Problem]) -> Mapping[str, str]:
    """The same for a text; `path` is for the problems' places. No problem repeats a secret."""
    users: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(_SPACE)
        if not line or line.startswith(";"):
            continue
        try:
            user, secret = _entry(line)
            if user in users:
                raise BadLine(f'the user "{user}" is in line {lines[user]} already')
        except BadLine as error:
            problems.append(Problem(Place(path, number), str(error)))
        else:
            users[user], lines[user] = secret, number
    return users


_SPACE = " \t\r\f\v"


def _entry(line: str) -> tuple[str, str]:
    """User and secret; PgBouncer ignores what follows them."""
    user, rest = _quoted(line, "the user name")
    secret, _ = _quoted(rest.lstrip(_SPACE), "the password")
    if not user:
        raise BadLine("the user name is empty")
    return user, secret


def _quoted(text: str, what: str) -> tuple[str, str]:
    """The string in double quotes at the start, and what follows it; a doubled quote is one."""
    if not text.startswith('"'):
        raise BadLine(f'{what} must stand in double quotes: "user" "password"')
    parts: list[str] = []
    position = 1
    while (end := text.find('"', position)) >= 0:
        parts.append(text[position:end])
        position = end + 1
        if not text.startswith('"', position):
            return "".join(parts), text[position:]
        parts.append('"')
        position += 1
    raise BadLine(f"the quote that begins {what} is not closed on its line")


def write_entry(user: str, secret: str) -> str:
    """A line of such a file, without its end."""
    return " ".join('"' + text.replace('"', '""') + '"' for text in (user, secret))
