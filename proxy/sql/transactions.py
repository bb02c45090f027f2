"""Statements that begin and end transactions."""

from collections.abc import Sequence
from dataclasses import replace

from proxy.sql.lexer import Token
from proxy.sql.statement import Begin, Kind, Statement

_ISOLATIONS = (
    ("serializable",),
    ("repeatable", "read"),
    ("read", "committed"),
    ("read", "uncommitted"),
)


def begin(tokens: Sequence[Token]) -> Statement:
    """BEGIN [WORK | TRANSACTION] [modes], START TRANSACTION [modes]."""
    words = [token.word for token in tokens if token.word != ","]
    modes = Begin()
    for index, word in enumerate(words):
        after = words[index + 1 : index + 2]
        if word == "read" and after in (["only"], ["write"]):
            modes = replace(modes, read_only=after == ["only"])
        elif word == "level":
            level = next((i for i in _ISOLATIONS if tuple(words[index + 1 :][: len(i)]) == i), None)
            modes = replace(modes, isolation=" ".join(level) if level else None)
    return Statement(Kind.BEGIN, begin=modes)


def commit(tokens: Sequence[Token]) -> Statement:
    """COMMIT, END, COMMIT PREPARED."""
    if tokens[1:2] and tokens[1].word == "prepared":
        return Statement(Kind.TWO_PHASE, writes_unknown=True)
    return Statement(Kind.COMMIT, chains=_chains(tokens))


def rollback(tokens: Sequence[Token]) -> Statement:
    """ROLLBACK, ABORT, ROLLBACK TO [SAVEPOINT] name, ROLLBACK PREPARED."""
    words = {token.word for token in tokens[1:3]}
    if tokens[1:2] and tokens[1].word == "prepared":
        return Statement(Kind.TWO_PHASE)
    if "to" in words:
        return Statement(Kind.SAVEPOINT)
    return Statement(Kind.ROLLBACK, chains=_chains(tokens))


def savepoint(tokens: Sequence[Token]) -> Statement:
    """SAVEPOINT name, RELEASE [SAVEPOINT] name."""
    return Statement(Kind.SAVEPOINT)


def _chains(tokens: Sequence[Token]) -> bool:
    words = [token.word for token in tokens]
    return "chain" in words and "no" not in words
