"""EXPLAIN and SHOW, with the forms that Penstock answers by itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.sql.copying import closing
from proxy.sql.lexer import Token
from proxy.sql.query import VERBS, NotUnderstood
from proxy.sql.statement import Kind, Statement

Classify = Callable[[Sequence[Token], str], Statement]
_ALSO_EXPLAINED = frozenset({"declare", "create", "refresh", "execute"})
_FALSE = frozenset({"false", "off", "0"})


def explain(tokens: Sequence[Token], text: str, classify: Classify) -> Statement:
    """EXPLAIN [ANALYZE] [VERBOSE] statement, EXPLAIN (options) statement. Raises NotUnderstood.

    With ANALYZE the statement runs, so it has all the effects of the one inside; without it, what
    the one inside writes counts as read.
    """
    rest, options = _options(tokens)
    if not rest:
        raise NotUnderstood("EXPLAIN without a statement")
    if "penstock" in options:
        return Statement(Kind.EXPLAIN, asks_route_of=_text_of(rest, text))
    explained = classify(_explained(rest), text)
    inner = replace(
        explained,
        kind=Kind.EXPLAIN,
        name=explained.name if explained.kind is Kind.EXECUTE else None,
        cacheable_shape=False,
        uncacheable_because="EXPLAIN",
    )
    if "analyze" in options or "analyse" in options:
        return inner
    return replace(
        inner,
        scans=tuple(dict.fromkeys(replace(scan, written=False) for scan in inner.scans)),
        writes_unknown=False,
        assigned=frozenset(),
    )


def _explained(tokens: Sequence[Token]) -> Sequence[Token]:
    if tokens[0].word not in VERBS and tokens[0].word not in _ALSO_EXPLAINED:
        raise NotUnderstood(f'EXPLAIN takes no "{tokens[0].text[:40]}"')
    return tokens


def _options(tokens: Sequence[Token]) -> tuple[Sequence[Token], set[str]]:
    """The statement explained, and the options that are switched on."""
    if tokens[1:2] and tokens[1].word == "(" and _is_list(tokens):
        end = closing(tokens, 1)
        return tokens[end + 1 :], _switched_on(tokens[2:end])
    index, options = 1, set()
    while index < len(tokens) and tokens[index].word in ("analyze", "analyse", "verbose"):
        options.add(tokens[index].word)
        index += 1
    return tokens[index:], options


def _is_list(tokens: Sequence[Token]) -> bool:
    """Whether the parenthesis is a list of options: not in EXPLAIN (SELECT 1)."""
    return tokens[2:3] != [] and tokens[2].word not in ("select", "with", "values", "table", "(")


def _switched_on(tokens: Sequence[Token]) -> set[str]:
    options: set[str] = set()
    name = ""
    for before, token in zip((None, *tokens), tokens, strict=False):
        if before is None or before.word == ",":
            name = token.name  # "analyze" may be quoted
            options.add(name)
        elif token.word in _FALSE or token.text.strip("'").lower() in _FALSE:
            options.discard(name)
    return options


def show(tokens: Sequence[Token], text: str) -> Statement:
    """SHOW setting, SHOW ROUTE FOR statement."""
    if [token.word for token in tokens[1:3]] == ["route", "for"] and len(tokens) > 3:
        return Statement(Kind.SHOW, asks_route_of=_text_of(tokens[3:], text))
    return Statement(Kind.SHOW)


def _text_of(tokens: Sequence[Token], text: str) -> str:
    return text[tokens[0].start : tokens[-1].end]
