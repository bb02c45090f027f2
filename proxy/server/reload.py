"""RELOAD: which changed settings apply at once, by whom, and which wait for a restart.

A part of the process that can change while it runs is a `Part`: the keys that concern it, and a
function that prepares the change. All parts are prepared before any is applied, so that what one
of them can't accept is refused whole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from proxy.config.changes import Change, changes, matches_any, put
from proxy.config.settings import Settings

NEEDS_RESTART = (
    "server.listen",
    "server.http_listen",
    "server.reuse_port",
    "cache.redis",
    "cache.sentinels",
    "cache.sentinel_master",
    "cache.sentinel_user",
    "cache.sentinel_password",
    "cache.cluster",
    "cache.db",
    "cache.user",
    "cache.password",
    "cache.tls",
    "cache.timeout",
    "cache.reconnect_interval",
    "cache.breaker_timeouts",
    "cache.breaker_pause",
    "cache.prefix",
    "cache.memory",
    "cache.coalesce",
    "cache.compress_above",
    "cache.encryption_key",
    "database.*.sharding",
)
"""Keys that no part can change, though one covers the table that they are in."""

Process = TypeVar("Process")
Commit = Callable[[], Awaitable[None]]


class ReloadError(Exception):
    """The new settings can't be used; nothing has changed. The text is for the administrator."""


@dataclass(frozen=True, slots=True)
class Part(Generic[Process]):
    """See the module's docstring.

    `prepare(process, settings)` runs in a thread, as it may read files and compute for long; it
    changes nothing, and raises ReloadError. What it returns applies the change and must not fail.
    """

    keys: tuple[str, ...]
    prepare: Callable[[Process, Settings], Commit]
    always: bool = False
    """Prepared at every RELOAD: it reads files that may have changed under the same names."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What has come of a change of settings."""

    settings: Settings
    """In force now: the new ones, but for what needs a restart."""
    applied: tuple[str, ...]
    """Keys."""
    waiting: tuple[str, ...]
    """Keys that take effect at the next start."""

    def notices(self) -> list[str]:
        """What to tell the administrator, in sentences."""
        told = []
        if self.applied:
            told.append(f"applied: {', '.join(self.applied)}")
        if self.waiting:
            told.append(
                f"unchanged until Penstock is started again: {', '.join(self.waiting)}; "
                "docs/admin.md tells how to restart without dropping clients"
            )
        return told or ["no setting has changed; the files that they name were read again"]


def is_live(key: tuple[str, ...], live: Sequence[str]) -> bool:
    """Whether a change of `key` applies without a restart, given the parts' keys."""
    return matches_any(key, live) and not matches_any(key, NEEDS_RESTART)


def split(
    before: Settings, after: Settings, live: Sequence[str]
) -> tuple[Settings, list[Change], list[Change]]:
    """(the settings to go by, the changes that apply, those that need a restart)."""
    applied: list[Change] = []
    waiting: list[Change] = []
    for change in changes(before, after):
        (applied if is_live(change.key, live) else waiting).append(change)
    for change in waiting:
        after = put(after, change.key, change.before)
    return after, applied, waiting


def outcome(before: Settings, after: Settings, live: Sequence[str]) -> Reloaded:
    """What a change to `after` will have come to, given the parts' keys."""
    settings, applied, waiting = split(before, after, live)
    return Reloaded(settings, _names(applied), _names(waiting))


async def apply(
    process: Process, before: Settings, after: Settings, parts: Sequence[Part[Process]]
) -> Reloaded:
    """Change over to `after` as far as that can be done. Raises ReloadError: nothing was done."""
    told, commits = await _prepared(process, before, after, parts)
    for commit in commits:
        await commit()
    return told


async def rehearse(
    process: Process, before: Settings, after: Settings, parts: Sequence[Part[Process]]
) -> None:
    """Raises ReloadError where `apply` would; changes nothing."""
    await _prepared(process, before, after, parts)


async def _prepared(
    process: Process, before: Settings, after: Settings, parts: Sequence[Part[Process]]
) -> tuple[Reloaded, list[Commit]]:
    live = [key for part in parts for key in part.keys]
    settings, applied, waiting = split(before, after, live)
    commits = [
        await asyncio.to_thread(part.prepare, process, settings)
        for part in parts
        if part.always or any(matches_any(change.key, part.keys) for change in applied)
    ]
    return Reloaded(settings, _names(applied), _names(waiting)), commits


def _names(found: Sequence[Change]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, found)))
