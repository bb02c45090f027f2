"""A query string's tokens to those of its statements."""

from collections.abc import Sequence
from itertools import pairwise

from proxy.sql.lexer import Token

_ROUTINES = frozenset({"function", "procedure"})


def split(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """The statements between semicolons, without empty ones.

    Semicolons inside parentheses separate nothing (CREATE RULE … DO (a; b)). Where a routine with a
    BEGIN ATOMIC body occurs, its statement takes in all that follows: where such a body ends can't
    be told without a grammar for CASE … END.
    """
    if not any(token.word == ";" for token in tokens):
        return [tuple(tokens)] if tokens else []
    statements: list[tuple[Token, ...]] = []
    start = depth = 0
    for index, token in enumerate(tokens):
        if token.word in ("(", "["):
            depth += 1
        elif token.word in (")", "]"):
            depth = max(0, depth - 1)
        elif token.word == ";" and depth == 0:
            statements.append(tuple(tokens[start:index]))
            start = index + 1
        elif token.word == "atomic" and is_atomic_routine(tokens[start : index + 1]):
            break
    statements.append(tuple(tokens[start:]))
    return [statement for statement in statements if statement]


def is_atomic_routine(tokens: Sequence[Token]) -> bool:
    """Whether CREATE FUNCTION or PROCEDURE with BEGIN ATOMIC occurs in these tokens."""
    return (
        tokens[0].word == "create"
        and any(token.word in _ROUTINES for token in tokens[:8])
        and any(a.word == "begin" and b.word == "atomic" for a, b in pairwise(tokens))
    )
