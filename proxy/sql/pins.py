"""What leaves state on its connection that can't be set up again on another one."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from proxy.sql.lexer import Token

SEQUENCE_PIN = "currval() or lastval()"
_PINNING_FUNCTIONS = {
    "currval": SEQUENCE_PIN,
    "lastval": SEQUENCE_PIN,
    "pg_advisory_lock": "session advisory lock",
    "pg_advisory_lock_shared": "session advisory lock",
    "pg_try_advisory_lock": "session advisory lock",
    "pg_try_advisory_lock_shared": "session advisory lock",
    "dblink_connect": "dblink connection",
    "dblink_connect_u": "dblink connection",
    "setseed": "seed of random()",
    "pg_replication_origin_session_setup": "replication origin of the session",
}
_BEFORE_TEMPORARY = frozenset({"or", "replace", "local", "global"})
_TEMPORARY = frozenset({"temp", "temporary"})


def reason(tokens: Sequence[Token], functions: frozenset[str]) -> str | None:
    """Why the statement of these tokens pins its connection; None if it doesn't."""
    words = tuple(token.word for token in tokens)
    return next((why for rule in _RULES if (why := rule(words, tokens, functions))), None)


Rule = Callable[[tuple[str, ...], Sequence[Token], frozenset[str]], str | None]


def _listen(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    return "LISTEN" if words[0] == "listen" else None


def _load(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    return "LOAD" if words[0] == "load" else None


def _prepare(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    return "PREPARE" if words[0] == "prepare" and words[1:2] != ("transaction",) else None


def _holdable_cursor(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    if words[0] != "declare":
        return None
    pairs = pairwise(words)
    return "DECLARE … WITH HOLD" if ("with", "hold") in pairs else None


def _temporary(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    """CREATE [OR REPLACE] [LOCAL | GLOBAL] TEMP …, SELECT … INTO TEMP …"""
    if words[0] == "create":
        starts = (index for index, word in enumerate(words) if word == "create")
        made = {_first_noun(words[index + 1 :]) for index in starts}
        return "temporary object" if made & _TEMPORARY else None
    for index, word in enumerate(words[:-2]):
        selects = word == "into" and words[index - 1] not in ("insert", "merge")
        if selects and _first_noun(words[index + 1 :]) in _TEMPORARY:
            return "temporary table"
    return None


def _first_noun(words: tuple[str, ...]) -> str:
    return next((word for word in words[:4] if word not in _BEFORE_TEMPORARY), "")


def _temporary_schema(
    words: tuple[str, ...], tokens: Sequence[Token], functions: frozenset[str]
) -> str | None:
    """CREATE TABLE pg_temp.x, SET search_path = pg_temp, set_config('search_path', 'pg_temp', …)"""
    named = [token for token in tokens if "pg_temp" in token.text.lower()]
    if words[0] == "set" or any(name.endswith("set_config") for name in functions):
        return "temporary schema" if named else None
    makes = words[0] in ("create", "alter") or "into" in words
    return "temporary schema" if makes and any(token.is_name for token in named) else None


def _function(_: tuple[str, ...], __: Sequence[Token], functions: frozenset[str]) -> str | None:
    bare = (name.rpartition(".")[2] for name in functions)
    return next((_PINNING_FUNCTIONS[name] for name in bare if name in _PINNING_FUNCTIONS), None)


_RULES: tuple[Rule, ...] = (
    _listen,
    _load,
    _prepare,
    _holdable_cursor,
    _temporary,
    _temporary_schema,
    _function,
)


_IN_BLOCKS = re.compile(
    r"\b(?:temp|temporary|pg_temp\w*|listen|load|prepare|pg_(?:try_)?advisory_lock\w*|setseed"
    r"|dblink_connect\w*|authorization)\b",
    re.I,
)


def of_block(body: str) -> str | None:
    """Why a DO block with this body may pin its connection: told from words, so too often."""
    match = _IN_BLOCKS.search(body)
    return f"DO block with {match.group()}" if match else None
