"""What is wrong with a configuration, in words that name the place and the remedy."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written: a file and line, or an environment variable (no line)."""

    file: str
    line: int | None
    key: str
    """As written in that file, indexes counted within it: `cache.rule[0].ttl`."""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. `value` is None where it is absent, no scalar, or a secret."""

    file: str
    line: int | None
    key: str
    value: str | None
    message: str
    allowed: str | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        where = str(Place(self.file, self.line, self.key))
        subject = self.key if self.value is None else f"{self.key} = {self.value}"
        text = f"{where}: {subject}: {self.message}" if subject else f"{where}: {self.message}"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.suggestion:
            text += f"; did you mean {self.suggestion}?"
        return text


@dataclass(slots=True)
class Report:
    """Problems as they are found."""

    problems: list[Problem] = field(default_factory=list)
    complete: bool = True
    """False: part of the configuration was not read, so what is absent may only be unread."""

    def add(self, problem: Problem) -> None:
        """Note a problem."""
        self.problems.append(problem)

    def lost(self, problem: Problem) -> None:
        """Note a problem that kept part of the configuration from being read."""
        self.problems.append(problem)
        self.complete = False


class ConfigError(Exception):
    """The configuration can't be used. `problems` holds every reason that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def problem_at(
    place: Place,
    message: str,
    *,
    value: str | None = None,
    allowed: str | None = None,
    suggestion: str | None = None,
) -> Problem:
    """A problem at a place."""
    return Problem(place.file, place.line, place.key, value, message, allowed, suggestion)


def written(value: Any) -> str | None:
    """A scalar as TOML writes it; None for tables and arrays."""
    if isinstance(value, dict | list):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` may be a slip of, if one is close."""
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    matches = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None
