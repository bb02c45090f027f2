"""Which relations a query names, told from its tokens alone.

The parser's answer is checked against this one: two readings that must agree before a table may be
taken for the only one that a statement touches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.sql.functions import RESERVED
from proxy.sql.lexer import Token
from proxy.sql.statement import TableRef
from proxy.sql.words import word_set

_STARTS_QUERY = frozenset({"select", "delete", "update", "insert", "merge", "values"})
# UPDATE after these is part of a clause: FOR [NO KEY] UPDATE, DO UPDATE, THEN UPDATE.
_BEFORE_CLAUSE = frozenset({"for", "key", "do", "then"})
# FROM means a relation only where one of these has been seen in the same parentheses: not in
# extract(year FROM x).
_TAKES_FROM = frozenset({"select", "delete", "update"})
_CLOSES = word_set(
    "where group having window order limit offset fetch for union intersect except returning "
    "set when values default"
)


@dataclass(slots=True)
class _Level:
    """What is known inside one pair of parentheses."""

    takes_from: bool = False
    takes_using: bool = False
    in_list: bool = False  # between FROM and the next clause
    expects: bool = False  # the next name is a relation


def named(tokens: Sequence[Token]) -> list[TableRef]:
    """The names that stand where a relation does, those of CTEs among them, in order."""
    found: list[TableRef] = []
    levels = [_Level()]
    index = 0
    while index < len(tokens):
        token, level = tokens[index], levels[-1]
        if token.word in ("(", "["):
            levels.append(_Level(in_list=level.expects, expects=level.expects))
            level.expects = False
        elif token.word in (")", "]"):
            levels.pop()
            levels = levels or [_Level()]
        elif level.expects and _is_relation(tokens, index):
            index = _take(tokens, index, found)
            level.expects = False
        else:
            _step(tokens, index, level)
        index += 1
    return found


def _step(tokens: Sequence[Token], index: int, level: _Level) -> None:
    word = tokens[index].word
    before = tokens[index - 1].word if index else ""
    if before in (".", "as"):
        return
    if word in _STARTS_QUERY and before not in _BEFORE_CLAUSE:
        level.takes_from = level.takes_from or word in _TAKES_FROM
        level.takes_using = level.takes_using or word in ("delete", "merge")
        level.in_list = False
        level.expects = word == "update"
    elif word == "into" or (word == "table" and before != "into"):
        level.expects = True
    elif _opens_list(tokens, index, level):
        level.in_list = level.expects = True
    elif word == "," and level.in_list:
        level.expects = True
    elif word in _CLOSES:
        level.in_list = level.expects = False


def _opens_list(tokens: Sequence[Token], index: int, level: _Level) -> bool:
    word = tokens[index].word
    if word == "from":
        return level.takes_from and not _is_distinct_from(tokens, index)
    return word == "join" or (word == "using" and level.takes_using)


def _is_relation(tokens: Sequence[Token], index: int) -> bool:
    token = tokens[index]
    if token.word == "rows" and index + 1 < len(tokens) and tokens[index + 1].word == "from":
        return False
    return token.is_name and token.word not in RESERVED and token.word not in _STARTS_QUERY


def _is_distinct_from(tokens: Sequence[Token], index: int) -> bool:
    words = [token.word for token in tokens[max(0, index - 2) : index]]
    return words in (["is", "distinct"], ["not", "distinct"])


def _take(tokens: Sequence[Token], index: int, found: list[TableRef]) -> int:
    """Takes in the dotted name at `index`, unless it is a call; the index of its last token."""
    parts = [tokens[index].name]
    while index + 2 < len(tokens) and tokens[index + 1].word == "." and tokens[index + 2].is_name:
        index += 2
        parts.append(tokens[index].name)
    called = index + 1 < len(tokens) and tokens[index + 1].word == "("
    if not called or _is_insert_target(tokens, index, len(parts)):
        found.append(TableRef(parts[-1], parts[-2] if len(parts) > 1 else None))
    return index


def _is_insert_target(tokens: Sequence[Token], index: int, parts: int) -> bool:
    first = index - 2 * (parts - 1)
    return first > 0 and tokens[first - 1].word == "into"
