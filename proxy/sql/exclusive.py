"""Statements that PostgreSQL runs only while nobody else is connected to a database.

It refuses them with 55006 otherwise (dropdb, createdb, RenameDatabase, movedb in dbcommands.c).
"""

from collections.abc import Sequence

from proxy.sql.lexer import Lexeme, Token, string_value

_DEFAULT_TEMPLATE = "template1"


def occupied(tokens: Sequence[Token]) -> str | None:
    """The database that must be free of others for the statement of these tokens."""
    words = [token.word for token in tokens[:5]]
    if words[1:2] != ["database"] or len(tokens) < 3:
        return None
    if words[0] == "drop":
        place = 4 if words[2:4] == ["if", "exists"] else 2
        return _name(tokens, place)
    if words[0] == "alter":
        moves = words[3:5] in (["rename", "to"], ["set", "tablespace"])
        return _name(tokens, 2) if moves else None
    return _template(tokens) if words[0] == "create" else None


def _template(tokens: Sequence[Token]) -> str:
    """CREATE DATABASE name [[WITH] [TEMPLATE [=] template] …]."""
    for place, token in enumerate(tokens[3:], 3):
        if token.word == "template":
            given = (
                place + 2
                if tokens[place + 1 : place + 2] and _is_equals(tokens, place)
                else (place + 1)
            )
            named = _name(tokens, given)
            return _DEFAULT_TEMPLATE if named in (None, "default") else str(named)
    return _DEFAULT_TEMPLATE


def _is_equals(tokens: Sequence[Token], place: int) -> bool:
    return tokens[place + 1].word == "="


def _name(tokens: Sequence[Token], place: int) -> str | None:
    if place >= len(tokens):
        return None
    token = tokens[place]
    if token.lexeme is Lexeme.STRING:  # TEMPLATE takes one too
        return string_value(token)
    return token.name if token.is_name else None
