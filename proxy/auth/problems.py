"""What is wrong with the files that authentication is configured by."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; None: the file as a whole."""

    file: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. The message never repeats a secret."""

    place: Place | str
    """A file's line, or the name of a setting."""
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class AuthError(Exception):
    """Authentication can't be configured so. `problems` holds every reason that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class BadLine(Exception):
    """A line can't be used; the text says why. Whoever reads the file adds the place."""
