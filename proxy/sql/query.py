"""SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE and MERGE: sqlglot's tree, checked by tokens.

sqlglot accepts more than PostgreSQL does and drops what it doesn't know. So nothing that it says is
believed unless the tokens bear it out: every word that writes must be one of the tree's writes, and
every name that stands where a relation does must be one of the tree's relations.
"""

import logging
import re
from collections.abc import Sequence
from itertools import pairwise

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from proxy.sql import relations, scans
from proxy.sql.cacheable import uncacheable
from proxy.sql.functions import called
from proxy.sql.lexer import Token
from proxy.sql.naming import with_names_quoted
from proxy.sql.render import render
from proxy.sql.statement import Kind, Scan, Statement

VERBS = frozenset({"select", "values", "table", "with", "insert", "update", "delete", "merge", "("})

MAX_DEPTH = 120
MAX_BRACKETS = 4
"""Nesting of [ ]: sqlglot needs twice the time for each level."""

_CHANGES = frozenset({"insert", "update", "delete", "merge"})
# What stands before a changing verb's word where it isn't a statement's: FOR [NO KEY] UPDATE,
# ON CONFLICT DO UPDATE, WHEN … THEN DELETE, a column's name, an alias.
_NOT_A_STATEMENT_AFTER = frozenset({"for", "key", "do", "then", ".", "as"})
_KINDS: tuple[tuple[type[exp.Expr], Kind], ...] = (
    (exp.Insert, Kind.INSERT),
    (exp.Update, Kind.UPDATE),
    (exp.Delete, Kind.DELETE),
    (exp.Merge, Kind.MERGE),
    (exp.Query, Kind.SELECT),
    (exp.Values, Kind.SELECT),
)
_DIALECT = Postgres()
_INTERNALS = re.compile(r"(?: but got)? ?<[^>]*>|\.? ?Line \d+, Col.*")
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings become UNKNOWN here


class NotUnderstood(ValueError):
    """The statement can't be judged: why, in words for a person."""


def query(tokens: Sequence[Token]) -> Statement:
    """The facts of a statement that begins with one of VERBS. Raises NotUnderstood."""
    tokens = with_names_quoted(tokens)
    if _selects_into(tokens):
        return Statement(Kind.DDL, functions=called(tokens), writes_unknown=True)
    try:
        return _parsed(tokens)
    except NotUnderstood as error:
        if not _surely_reads(tokens):
            raise
        return _read_by_tokens(tokens, str(error))


def _parsed(tokens: Sequence[Token]) -> Statement:
    tree = _parse(tokens)
    kind = next((kind for of, kind in _KINDS if isinstance(tree, of)), Kind.UNKNOWN)
    found = scans.find(tree, tokens, _overrides_user_values(tokens))
    _check(tokens, found, kind)
    locking = locks(tokens)
    unique = _in_order(found.scans)
    reads = kind is Kind.SELECT
    reason = uncacheable(tokens, unique, locking, found.sampled) if reads else "not a read"
    return Statement(
        kind,
        scans=unique,
        functions=called(tokens),
        locking=locking,
        assigned=frozenset(found.assigned),
        cacheable_shape=not reason,
        uncacheable_because=reason,
    )


def _overrides_user_values(tokens: Sequence[Token]) -> bool:
    return any(a.word == "overriding" and b.word == "user" for a, b in pairwise(tokens))


def _surely_reads(tokens: Sequence[Token]) -> bool:
    """Whether a statement that wasn't parsed can do nothing but read, functions aside: it begins as
    a query does, and no word that changes or locks anything occurs in it, whatever it means."""
    if tokens[0].word in _CHANGES or locks(tokens):
        return False
    return not any(
        token.word in _CHANGES and (not index or tokens[index - 1].word not in (".", "as"))
        for index, token in enumerate(tokens)
    )


def _read_by_tokens(tokens: Sequence[Token], why: str) -> Statement:
    """A read of which only the names are known; those of CTEs count as tables."""
    tables = dict.fromkeys(relations.named(tokens))
    return Statement(
        Kind.SELECT,
        scans=tuple(Scan(table) for table in tables),
        functions=called(tokens),
        uncacheable_because=f"not parsed: {why}",
    )


def locks(tokens: Sequence[Token]) -> bool:
    """Whether FOR UPDATE, FOR SHARE, FOR NO KEY UPDATE or FOR KEY SHARE occurs anywhere."""
    words = [token.word for token in tokens]
    return any(
        after in ("update", "share")
        or (after == "no" and words[index + 2 : index + 4] == ["key", "update"])
        or (after == "key" and words[index + 2 : index + 3] == ["share"])
        for index, (word, after) in enumerate(pairwise(words))
        if word == "for"
    )


def _selects_into(tokens: Sequence[Token]) -> bool:
    """Whether an INTO occurs that is not INSERT's or MERGE's: nor is it after a column of such a
    name, as in SELECT a.insert INTO b."""
    words = ["", "", *(token.word for token in tokens)]
    return any(
        words[index] == "into"
        and words[index - 1] not in (".", "as")
        and (words[index - 1] not in ("insert", "merge") or words[index - 2] in (".", "as"))
        for index in range(2, len(words))
    )


def _parse(tokens: Sequence[Token]) -> exp.Expr:
    _check_depth(tokens)
    try:
        trees = _DIALECT.parse(render(tokens))
    except SqlglotError as error:
        # Positions and tokens are those of the rendering, which nobody sees.
        what = _INTERNALS.sub("", str(error).splitlines()[0])
        raise NotUnderstood(f"sqlglot: {what[:200].strip()}") from error
    except RecursionError as error:
        raise NotUnderstood("it is nested too deep") from error
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or not any(isinstance(tree, of) for of, _ in _KINDS):
        raise NotUnderstood("sqlglot doesn't know the statement")
    return tree


def _check_depth(tokens: Sequence[Token]) -> None:
    depth = brackets = 0
    for token in tokens:
        if token.word in ("(", "["):
            depth += 1
            brackets += token.word == "["
        elif token.word in (")", "]"):
            depth -= 1
            brackets -= token.word == "]"
        if depth > MAX_DEPTH or brackets > MAX_BRACKETS:
            raise NotUnderstood("it is nested too deep")


def _check(tokens: Sequence[Token], found: scans.Found, kind: Kind) -> None:
    """Raises NotUnderstood unless tokens and tree tell the same of writes and relations."""
    if found.commands:
        raise NotUnderstood("sqlglot doesn't know a part of the statement")
    written = sum(
        token.word in _CHANGES
        and (not index or tokens[index - 1].word not in _NOT_A_STATEMENT_AFTER)
        for index, token in enumerate(tokens)
    )
    if written != found.changes:
        raise NotUnderstood("a word such as UPDATE stands where its meaning is not clear")
    if kind is Kind.SELECT and tokens[0].word in _CHANGES:
        raise NotUnderstood("its verb is not clear")
    for table in relations.named(tokens):
        if table not in found.named:
            raise NotUnderstood(f'what "{table}" stands for is not clear')


def _in_order(found: Sequence[Scan]) -> tuple[Scan, ...]:
    """Scans without repeats, those written first."""
    return tuple(dict.fromkeys(sorted(found, key=_read_last)))


def _read_last(scan: Scan) -> bool:
    return not scan.written
