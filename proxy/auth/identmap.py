"""Ident maps: which name of the system or of a certificate may log in as which user.

Source: PostgreSQL 16, hba.c (parse_ident_line, check_ident_usermap); documentation, "User Name
Maps".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.auth.patterns import Pattern, pattern
from proxy.auth.problems import BadLine, Problem
from proxy.auth.tokens import Line, Token, read_lines


@dataclass(frozen=True, slots=True)
class Identity:
    """One line: this system name may be that user."""

    system: str
    system_pattern: Pattern | None
    user: Token
    user_pattern: Pattern | None

    def allows(self, system: str, user: str) -> bool:
        """Whether `system` may log in as `user`."""
        if self.system_pattern is None:
            return self.system == system and self._is_user(user)
        match = self.system_pattern.search(system)
        if match is None:
            return False
        if "\\1" not in self.user.text:
            return self._is_user(user)
        return self.user.text.replace("\\1", match[1] or "", 1) == user

    def _is_user(self, user: str) -> bool:
        if self.user.is_keyword("all"):
            return True
        if self.user_pattern is not None:
            return self.user_pattern.search(user) is not None
        return self.user.text == user


IdentMaps = Mapping[str, Sequence[Identity]]
"""By the map's name."""


def read_ident_file(path: Path, problems: list[Problem]) -> IdentMaps:
    """The maps of a file; problems are added to the list."""
    maps: dict[str, list[Identity]] = {}
    for line in read_lines(path, problems):
        try:
            name, mapping = _parse(line)
        except BadLine as error:
            problems.append(Problem(line.place, str(error)))
        else:
            maps.setdefault(name, []).append(mapping)
    return maps


def _parse(line: Line) -> tuple[str, Identity]:
    if len(line.fields) != 3 or any(len(field) != 1 for field in line.fields):
        raise BadLine("a line has three fields: map name, system user name, database user name")
    (name,), (system,), (user,) = line.fields
    if not user.quoted and user.text.startswith("+"):
        raise BadLine(f'"{user.text}": Penstock does not know who is a member of a role')
    system_pattern = pattern(system)
    substitutes = system_pattern is not None and "\\1" in user.text
    if system_pattern is not None and substitutes and not system_pattern.compiled.groups:
        raise BadLine(
            f'"{user.text}" takes up \\1, and the regular expression "{system_pattern.source}" has '
            f"nothing in parentheses"
        )
    user_pattern = None if substitutes else pattern(user)
    return name.text, Identity(system.text, system_pattern, user, user_pattern)


def allows(maps: IdentMaps, name: str | None, system: str, user: str) -> bool:
    """Whether the system's name may log in as the user; without a map both must be the same."""
    if name is None:
        return system == user
    return any(mapping.allows(system, user) for mapping in maps.get(name, ()))
