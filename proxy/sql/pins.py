"""What leaves state on its connection that can't be set up again on another one."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from proxy.sql.lexer import Lexeme, Token, string_value

SEQUENCE_PIN = "currval() or lastval()"
UNTOLD_SETTINGS = "settings that a function may have changed"
_SEED = "seed of random()"
_PINNING_FUNCTIONS = {
    "currval": SEQUENCE_PIN,
    "lastval": SEQUENCE_PIN,
    "pg_advisory_lock": "session advisory lock",
    "pg_advisory_lock_shared": "session advisory lock",
    "pg_try_advisory_lock": "session advisory lock",
    "pg_try_advisory_lock_shared": "session advisory lock",
    "dblink_connect": "dblink connection",
    "dblink_connect_u": "dblink connection",
    "setseed": _SEED,
    "pg_replication_origin_session_setup": "replication origin of the session",
}
HELD_CURSORS = "DECLARE … WITH HOLD"
"""Of any name."""
_AND = " and "
_BECAUSE = ": "
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
_UNLOCK = "pg_advisory_unlock_all"
_LOCKS = frozenset({"session advisory lock", "holds an advisory lock"})

_BEFORE_TEMPORARY = frozenset({"or", "replace", "local", "global"})
_TEMPORARY = frozenset({"temp", "temporary"})


def reason(tokens: Sequence[Token], functions: frozenset[str]) -> str | None:
    """Why the statement of these tokens pins its connection; None if it doesn't."""
    words = tuple(token.word for token in tokens)
    return joined(rule(words, tokens, functions) for rule in _RULES)


def joined(reasons: Iterable[str | None]) -> str | None:
    """All the reasons as one, each once; None if there is none."""
    each = (part for reason in reasons if reason for part in reason.split(_AND))
    return _AND.join(dict.fromkeys(each)) or None


def is_over(reason: str, ended: frozenset[str]) -> bool:
    """Whether nothing is left of what `reason` names once all of `ended` are gone."""
    return all(
        part.partition(_BECAUSE)[0] in ended
        or (part.startswith("DECLARE ") and HELD_CURSORS in ended)
        for part in reason.split(_AND)
    )


def relieved(reason: str, of: str, because: str) -> str | None:
    """The reasons without `of`, or, where that still holds `because` of something, saying so."""
    parts = reason.split(_AND)
    if because:
        told = because.replace(_AND, ", ")
        return _AND.join(f"{part}{_BECAUSE}{told}" if part == of else part for part in parts)
    return _AND.join(part for part in parts if part != of) or None


def outlives_errors(reason: str) -> bool:
    """Whether what `reason` names stays although the statement that brought it failed."""
    return not _LOCKS.isdisjoint(reason.split(_AND))


def ended(tokens: Sequence[Token]) -> frozenset[str]:
    """The reasons of which nothing is left after the statement of these tokens, if it stands alone
    outside a transaction and succeeds."""
    words = tuple(token.word for token in tokens)
    if words == ("unlisten", "*"):
        return frozenset({"LISTEN"})
    if words == ("close", "all"):
        return frozenset({HELD_CURSORS})
    if len(tokens) == 2 and words[0] == "close" and tokens[1].is_name:
        return frozenset({_held(tokens[1])} - {HELD_CURSORS})
    call = words[3:] if words[1:3] == ("pg_catalog", ".") else words[1:]
    if words[0] == "select" and call == (_UNLOCK, "(", ")"):
        return _LOCKS
    return frozenset()


def _held(name: Token) -> str:
    if _PLAIN_NAME.fullmatch(name.name):
        return HELD_CURSORS.replace("…", f"{name.name} …")
    return HELD_CURSORS


Rule = Callable[[tuple[str, ...], Sequence[Token], frozenset[str]], str | None]


def _listen(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    return "LISTEN" if words[0] == "listen" else None


def _load(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    return "LOAD" if words[0] == "load" else None


def _prepare(words: tuple[str, ...], _: Sequence[Token], __: frozenset[str]) -> str | None:
    return "PREPARE" if words[0] == "prepare" and words[1:2] != ("transaction",) else None


def _holdable_cursor(
    words: tuple[str, ...], tokens: Sequence[Token], _: frozenset[str]
) -> str | None:
    if words[0] != "declare" or len(tokens) < 2:
        return None
    return _held(tokens[1]) if ("with", "hold") in pairwise(words) else None


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


def _seed(words: tuple[str, ...], tokens: Sequence[Token], functions: frozenset[str]) -> str | None:
    """SET [SESSION | LOCAL] seed …, set_config('seed', …): what random() gives from here on."""
    if words[0] == "set" and "seed" in words[1:3]:
        return _SEED
    if any(name.endswith("set_config") for name in functions):
        strings = (string_value(token) for token in tokens if token.lexeme is Lexeme.STRING)
        return _SEED if any((text or "").lower() == "seed" for text in strings) else None
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
    _seed,
    _function,
)
