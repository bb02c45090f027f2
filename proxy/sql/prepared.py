"""PREPARE, EXECUTE, DEALLOCATE, and DECLARE, whose query runs later too."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.sql.lexer import Token
from proxy.sql.listening import Step, Verb
from proxy.sql.query import VERBS, NotUnderstood
from proxy.sql.statement import Kind, Statement

Classify = Callable[[Sequence[Token], str], Statement]

_BLANK = rb"(?:\s|--[^\n]*\n|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/)"
_EXPLAIN = (
    rb"explain(?=" + _BLANK + rb"|\()" + _BLANK + rb"*+(?:\([^()]*+\)" + _BLANK + rb"*+)?+"
    rb"(?:(?:analy[sz]e|verbose)" + _BLANK + rb"++)*+"
)
_EXECUTE = re.compile(
    _BLANK + rb"*+(?:" + _EXPLAIN + rb")?+execute\s+"
    rb'([a-z_\x80-\xff][\w$\x80-\xff]*|"(?:[^"]|"")+")(?=\s*[(;]|\s*\Z)',
    re.IGNORECASE,
)


def prepare(tokens: Sequence[Token], text: str, classify: Classify) -> Statement:
    """PREPARE name [(types)] AS statement, PREPARE TRANSACTION. Raises NotUnderstood."""
    if tokens[1:2] and tokens[1].word == "transaction":
        return Statement(Kind.TWO_PHASE, step=Step(Verb.PREPARE))
    if len(tokens) < 4 or not tokens[1].is_name:
        raise NotUnderstood("PREPARE without a name and a statement")
    inner = classify(query_in(after(tokens, "as")), text)
    return replace(
        inner,
        kind=Kind.PREPARE,
        name=tokens[1].name,
        pins=None,
        cacheable_shape=False,
        uncacheable_because="PREPARE returns no rows",
    )


def execute(tokens: Sequence[Token]) -> Statement:
    """EXECUTE name [(values)]: runs what was prepared, whatever it was."""
    name = tokens[1].name if tokens[1:2] and tokens[1].is_name else None
    return Statement(Kind.EXECUTE, writes_unknown=True, name=name)


def executed(text: bytes) -> tuple[bytes, int, int] | None:
    """(name, its beginning, its end) of what a text runs first that begins with EXECUTE, or
    EXPLAIN EXECUTE."""
    found = _EXECUTE.match(text)
    if found is None:
        return None
    name, start, end = found[1], found.start(1), found.end(1)
    folded = name[1:-1].replace(b'""', b'"') if name[:1] == b'"' else name.lower()
    return folded, start, end


def deallocate(tokens: Sequence[Token]) -> Statement:
    """DEALLOCATE [PREPARE] name | ALL."""
    rest = tokens[1:]
    if len(rest) > 1 and rest[0].word == "prepare":
        rest = rest[1:]
    everything = not rest or rest[0].word == "all" or not rest[0].is_name
    return Statement(Kind.DEALLOCATE, name=None if everything else rest[0].name)


def declare(tokens: Sequence[Token], text: str, classify: Classify) -> Statement:
    """DECLARE name … CURSOR … FOR query. Raises NotUnderstood."""
    inner = classify(query_in(after(tokens, "for")), text)
    return replace(inner, kind=Kind.DECLARE, cacheable_shape=False, uncacheable_because="DECLARE")


def query_in(tokens: Sequence[Token]) -> Sequence[Token]:
    """`tokens`, if they begin a query. Raises NotUnderstood."""
    if not tokens or tokens[0].word not in VERBS:
        raise NotUnderstood("only a query may stand inside the statement")
    return tokens


def after(tokens: Sequence[Token], word: str) -> Sequence[Token]:
    """The tokens after the first `word` outside parentheses. Raises NotUnderstood."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.word == "(") - (token.word == ")")
        if depth == 0 and token.word == word and index + 1 < len(tokens):
            return tokens[index + 1 :]
    raise NotUnderstood(f"{tokens[0].text.upper()} without {word.upper()} and a statement")
