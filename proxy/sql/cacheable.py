"""Whether a query's result depends on nothing but tables, settings and functions."""

import re
from collections.abc import Sequence

from proxy.sql.lexer import Lexeme, Token, string_value
from proxy.sql.statement import Scan
from proxy.sql.words import word_set

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast"})
_SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
_KEYWORDS = word_set(
    "current_date current_time current_timestamp localtime localtimestamp current_user "
    "current_role current_catalog current_schema session_user system_user user"
)
_CATALOGUE_TYPES = word_set(
    "regclass regproc regprocedure regoper regoperator regtype regrole regnamespace regconfig "
    "regdictionary regcollation regdatabase"
)
# Strings that date and time types read as a moment relative to now.
_MOVING_TIME = re.compile(r"\b(?:now|today|tomorrow|yesterday)\b", re.I)
_LONGEST_TIME = 128  # characters that PostgreSQL's date and time input takes (MAXDATELEN)


def uncacheable(
    tokens: Sequence[Token], scans: Sequence[Scan], locking: bool, sampled: bool
) -> str:
    """Why a SELECT's result must not be cached; "" if nothing in its text forbids it."""
    if any(scan.written for scan in scans):
        return "it writes"
    if locking:
        return "it locks rows"
    if sampled:
        return "TABLESAMPLE"
    if not scans:
        return "it reads no table"
    system = next((str(scan.table) for scan in scans if _is_system(scan)), "")
    return f"system relation {system}" if system else _by_token(tokens)


def _is_system(scan: Scan) -> bool:
    schema = scan.table.schema or ""
    return schema in _SYSTEM_SCHEMAS or (schema or scan.table.name).startswith("pg_")


def _by_token(tokens: Sequence[Token]) -> str:
    for token in tokens:
        if token.lexeme is Lexeme.STRING:
            if is_moving_time(string_value(token) or ""):
                return "a string such as 'now'"
        elif token.is_name:
            name = token.name
            if name in _SYSTEM_COLUMNS:
                return f"system column {name}"
            if token.word in _KEYWORDS:
                return token.word.upper()
            if name in _CATALOGUE_TYPES:
                return f"type {name}, which reads the catalogue"
    return ""


def is_moving_time(text: str) -> bool:
    """Whether a string may be read as a time that moves: 'now', ' Today 12:00'."""
    return len(text) <= _LONGEST_TIME and _MOVING_TIME.search(text) is not None
