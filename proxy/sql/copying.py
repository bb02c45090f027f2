"""COPY."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.sql.lexer import Lexeme, Token
from proxy.sql.prepared import query_in
from proxy.sql.query import NotUnderstood
from proxy.sql.statement import Kind, Scan, Statement, TableRef

Classify = Callable[[Sequence[Token], str], Statement]


def copy(tokens: Sequence[Token], text: str, classify: Classify) -> Statement:
    """COPY table [(columns)] FROM …, COPY table | (query) TO …. Raises NotUnderstood."""
    rest = tokens[2:] if tokens[1:2] and tokens[1].word == "binary" else tokens[1:]
    if not rest:
        raise NotUnderstood("COPY without a table")
    inner: Statement | None = None
    table: TableRef | None = None
    if rest[0].word == "(":
        end = closing(rest, 0)
        inner, rest = classify(query_in(rest[1:end]), text), rest[end + 1 :]
    elif rest[0].is_name:
        table, rest = relation(rest)
        if rest and rest[0].word == "(":
            rest = rest[closing(rest, 0) + 1 :]
    direction = rest[0].word if rest else ""
    at_server = len(rest) > 1 and (rest[1].lexeme is Lexeme.STRING or rest[1].word == "program")
    if direction == "to" and inner is not None:
        return replace(
            inner,
            kind=Kind.COPY_TO,
            writes_unknown=inner.writes_unknown or at_server,
            cacheable_shape=False,
            uncacheable_because="COPY",
        )
    if direction not in ("from", "to") or table is None:
        raise NotUnderstood("COPY that is neither FROM nor TO")
    writes = direction == "from"
    kind = Kind.COPY_FROM if writes else Kind.COPY_TO
    return Statement(
        kind,
        scans=(Scan(table, written=writes),),
        writes_unknown=at_server,
        uncacheable_because="COPY",
    )


def relation(tokens: Sequence[Token]) -> tuple[TableRef, Sequence[Token]]:
    """The dotted name that `tokens` begin with, and what follows it."""
    parts = [tokens[0].name]
    index = 1
    while index + 1 < len(tokens) and tokens[index].word == "." and tokens[index + 1].is_name:
        parts.append(tokens[index + 1].name)
        index += 2
    return TableRef(parts[-1], parts[-2] if len(parts) > 1 else None), tokens[index:]


def closing(tokens: Sequence[Token], start: int) -> int:
    """The index of the parenthesis that closes the one at `start`. Raises NotUnderstood."""
    depth = 0
    for index in range(start, len(tokens)):
        word = tokens[index].word
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return index
    raise NotUnderstood("a parenthesis is not closed")
