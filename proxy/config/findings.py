"""What a check has to say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxy.config.positions import Path
from proxy.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has to say of the key at `path`, which may be absent."""

    path: Path
    message: str
    allowed: str | None = None
    suggestion: str | None = None


Check = Callable[[Settings], Iterator[Finding]]


def twice(names: list[str], path: Path) -> Iterator[Finding]:
    """Findings for names in a table array that an earlier element has already."""
    for index, name in enumerate(names):
        if name in names[:index]:
            message = f'the name "{name}" is taken by an earlier entry: names must differ'
            yield Finding((*path, index, "name"), message)
