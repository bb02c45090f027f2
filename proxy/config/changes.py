"""The difference between two configurations, by dotted key, and taking a part of it back.

A key is the path that a file would use: ("pool", "size"), ("database", "app", "replicas", "hosts").
Arrays are compared whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config.settings import Section, Settings

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value differs; `before` is None for an added table, `after` for one that went."""

    key: Key
    before: Any
    after: Any

    def __str__(self) -> str:
        return ".".join(self.key)


def changes(before: Settings, after: Settings) -> list[Change]:
    """What differs, in the order of the settings. A table that came or went is one change."""
    return list(_differences((), before, after))


def _differences(key: Key, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Section) and isinstance(after, Section):
        for name, info in type(before).model_fields.items():
            inner = (*key, info.alias or name)
            yield from _differences(inner, getattr(before, name), getattr(after, name))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _differences((*key, name), before.get(name), after.get(name))
    else:
        yield Change(key, before, after)


def matches(key: Key, pattern: str) -> bool:
    """Whether `key` is the one that `pattern` names, or lies within it: "auth" covers
    auth.users. `*` stands for any one part."""
    parts = pattern.split(".")
    return len(key) >= len(parts) and all(
        want in ("*", part) for want, part in zip(parts, key, strict=False)
    )


def matches_any(key: Key, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns covers the key."""
    return any(matches(key, pattern) for pattern in patterns)


def put(settings: Settings, key: Key, value: Any) -> Settings:
    """`settings` with another value at `key`, which must be there; the value is not checked."""
    changed = _put(settings, key, value)
    assert isinstance(changed, Settings)
    return changed


def _put(container: Any, key: Key, value: Any) -> Any:
    if not key:
        return value
    if isinstance(container, Section):
        name = attribute(type(container), key[0])
        return container.model_copy(update={name: _put(getattr(container, name), key[1:], value)})
    return {**container, key[0]: _put(container.get(key[0]), key[1:], value)}


def attribute(section: type[Section], key: str) -> str:
    """The attribute that holds a key of files. Raises KeyError."""
    for name, info in section.model_fields.items():
        if (info.alias or name) == key:
            return name
    raise KeyError(key)
