"""Which expressions are constants that a key can be compared with."""

import re
from collections.abc import Sequence

from sqlglot import exp

from proxy.sql.lexer import Token, string_value
from proxy.sql.render import STRING_MARK
from proxy.sql.statement import KeyValue, Literal, Parameter

_INTEGERS = frozenset({"smallint", "int", "bigint"})
# Casts that keep what a constant stands for; "varchar" without a length, for instance.
_TEXTS = frozenset({"text", "varchar", "uuid"})
_PLAIN_INTEGER = re.compile(r"0|[1-9][0-9]*")


def key_value(node: exp.Expr | None, tokens: Sequence[Token]) -> KeyValue | None:
    """The constant or parameter that `node` is; None if it is neither, or if a cast may change it.

    `tokens` are those that were rendered for the parser: strings are looked up there.
    """
    if isinstance(node, exp.Paren):
        return key_value(node.this, tokens)
    if isinstance(node, exp.Cast) and type(node) is exp.Cast:
        return _cast(node, tokens)
    if isinstance(node, exp.Neg):
        return _negated(key_value(node.this, tokens))
    if isinstance(node, exp.Literal):
        return _literal(node, tokens)
    if isinstance(node, exp.Parameter) and isinstance(node.this, exp.Literal):
        return Parameter(int(node.this.name)) if _PLAIN_INTEGER.fullmatch(node.this.name) else None
    if isinstance(node, exp.Null):
        return Literal(None, quoted=False)
    return None


def _literal(node: exp.Literal, tokens: Sequence[Token]) -> Literal | None:
    if not node.is_string:
        return Literal(node.name, quoted=False)
    mark, index = node.name[:1], node.name[1:]
    if mark != STRING_MARK or not index.isdigit():
        return None
    text = string_value(tokens[int(index)])
    return None if text is None else Literal(text)


def _negated(value: KeyValue | None) -> Literal | None:
    if isinstance(value, Literal) and not value.quoted and value.text and value.text[0] != "-":
        return Literal(f"-{value.text}", quoted=False)
    return None


def _cast(node: exp.Cast, tokens: Sequence[Token]) -> KeyValue | None:
    type_name = _type_name(node)
    inner = key_value(node.this, tokens)
    if inner is None or not type_name:
        return None
    first = _type_name(node.this) if isinstance(node.this, exp.Cast) else None
    if first is not None and not _keeps(first, type_name):
        return None
    if isinstance(inner, Parameter):
        return inner if inner.type else Parameter(inner.index, type_name)
    if inner.text is None or (inner.quoted and type_name not in _INTEGERS):
        return inner
    return inner if _PLAIN_INTEGER.fullmatch(inner.text.removeprefix("-")) else None


def _keeps(first: str, second: str) -> bool:
    """Whether a cast from `first` to `second` hands the value on unchanged, or fails."""
    return first in ("text", "varchar") or (first in _INTEGERS and second in _INTEGERS)


def _type_name(node: exp.Cast) -> str:
    """PostgreSQL's name of the type cast to, if constants keep their value in it; else ""."""
    to = node.args.get("to")
    if not isinstance(to, exp.DataType) or to.args.get("nested") or to.expressions:
        return ""
    name = to.sql("postgres").lower()
    return name if name in _INTEGERS or name in _TEXTS else ""
