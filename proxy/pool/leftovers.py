"""What transactions leave on a server connection, asked of the server itself.

Functions and DO blocks make temporary tables, take advisory locks and so on, and may or may not
leave them behind: their text can't tell.
"""

from collections.abc import Sequence
from typing import Final

from proxy.sql.pins import HELD_CURSORS

_IN_TEMPORARY_SCHEMA: Final = b" OR ".join(
    b"EXISTS (SELECT FROM pg_catalog." + catalogue + b"namespace = pg_catalog.pg_my_temp_schema())"
    for catalogue in (b"pg_class WHERE rel", b"pg_proc WHERE pro", b"pg_type WHERE typ")
)
_FINDINGS: Final = (
    (
        "temporary object",
        b"CASE WHEN pg_catalog.pg_my_temp_schema() = 0 THEN false ELSE "
        + _IN_TEMPORARY_SCHEMA
        + b" END",
    ),
    (
        "session advisory lock",
        b"EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' "
        b"AND pid = pg_catalog.pg_backend_pid())",
    ),
    ("LISTEN", b"EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
    ("PREPARE", b"EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"),
    (HELD_CURSORS, b"EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
)
"""Reasons for which a connection stays with its session, in the words of `sql.pins`."""

QUESTION: Final = b"SELECT " + b", ".join(condition for _, condition in _FINDINGS)
"""SQL, for outside a transaction: one row."""


def reasons(rows: Sequence[Sequence[bytes | None]]) -> list[str]:
    """Why the connection must stay with its session, after the answer to `QUESTION`."""
    return [
        reason
        for row in rows
        for (reason, _), found in zip(_FINDINGS, row, strict=True)
        if found == b"t"
    ]
