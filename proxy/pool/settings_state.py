"""The session settings (GUCs) that a connection carries, as interned values.

Two connections in the same state hold the very same `SettingsState`, so the hot path compares by
identity; `difference` gives the SQL that turns one state into another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_interned: dict[tuple[tuple[str, bytes], ...], "SettingsState"] = {}
_MAX_INTERNED: Final = 100_000

# Settings that can't change a result's bytes: they don't divide the cache.
_WITHOUT_EFFECT_ON_RESULTS = frozenset(
    {
        "application_name",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "transaction_timeout",
        "client_min_messages",
        "client_connection_check_interval",
        "jit",
        "work_mem",
        "default_transaction_read_only",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class SettingsState:
    """Settings that differ from the server's default for this login; values as set_config takes."""

    values: Mapping[str, bytes]
    fingerprint: bytes
    """What of them can change a result, for cache keys."""

    def replaced(self, changes: Mapping[str, bytes]) -> "SettingsState":
        return intern_settings({**self.values, **changes})


def intern_settings(values: Mapping[str, bytes]) -> SettingsState:
    """The one state with these values. Names are folded to lower case by the caller."""
    key = tuple(sorted(values.items()))
    state = _interned.get(key)
    if state is None:
        if len(_interned) >= _MAX_INTERNED:
            _interned.clear()  # costs SETs that weren't needed, never a wrong state
            _interned[()] = DEFAULTS
            if not key:
                return DEFAULTS
        state = _interned[key] = SettingsState(dict(key), _fingerprint(key))
    return state


def _fingerprint(pairs: tuple[tuple[str, bytes], ...]) -> bytes:
    return b"\0".join(
        name.encode() + b"=" + value
        for name, value in pairs
        if name not in _WITHOUT_EFFECT_ON_RESULTS
    )


DEFAULTS: Final = intern_settings({})

UNSURE: Final = b"\0"
"""In a backend's state, of a setting that may have its value by a SET or by default: it is brought
into whatever state is wanted. No setting can have this value."""


def difference(current: SettingsState, wanted: SettingsState) -> bytes:
    """SQL, one query string, that turns `current` into `wanted`; empty if there is nothing to do.

    The role goes first when it is given up and last when it is taken on, as a lesser role may not
    be allowed to set the others.
    """
    statements: list[bytes] = []
    gone = [name for name in current.values if name not in wanted.values]
    if "role" in current.values:
        statements.append(b"RESET ROLE")
    statements += [b"RESET " + _quote_name(name) for name in sorted(gone) if name != "role"]
    calls = [
        _set_config(name, value)
        for name, value in sorted(wanted.values.items(), key=lambda item: item[0] == "role")
        if name == "role" or current.values.get(name) != value
    ]
    if calls:
        statements.append(b"SELECT " + b", ".join(calls))
    return b"; ".join(statements)


def read_back(names: list[str]) -> bytes:
    """SQL that gives the current values of `names`, in order, in one row."""
    return b"SELECT " + b", ".join(
        b"pg_catalog.current_setting(" + quote_literal(name.encode()) + b", true)" for name in names
    )


def read_back_all(custom: list[str]) -> bytes:
    """SQL that gives every setting that is set in the session: two columns, name and value.

    `custom`: settings to ask for by name, because pg_settings doesn't show those that no extension
    has defined. Whether these and the role are set, only their values tell: what a RESET leaves
    is empty, and "none".
    """
    if not custom:
        return _ALL
    names = b"), (".join(quote_literal(name.encode()) for name in custom)
    return (
        _ALL
        + b" UNION ALL SELECT name, pg_catalog.current_setting(name, true) FROM (VALUES ("
        + names
        + b")) custom (name) WHERE name NOT IN "
        b"(SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings)"
    )


_ALL = (
    b"SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' "
    b"AND context IN ('user', 'superuser') "
    b"UNION ALL SELECT 'role', pg_catalog.current_setting('role')"
)


def _set_config(name: str, value: bytes) -> bytes:
    return (
        b"pg_catalog.set_config("
        + quote_literal(name.encode())
        + b", "
        + quote_literal(value)
        + b", false)"
    )


def _quote_name(name: str) -> bytes:
    return b".".join(b'"' + part.replace('"', '""').encode() + b'"' for part in name.split("."))


def quote_literal(value: bytes) -> bytes:
    """A string constant that means the same whatever standard_conforming_strings says."""
    quoted = b"'" + value.replace(b"'", b"''").replace(b"\\", b"\\\\") + b"'"
    return b"E" + quoted if b"\\" in value else quoted
