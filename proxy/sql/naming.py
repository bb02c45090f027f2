"""Words and targets that are plainly names are quoted before sqlglot sees them.

INSERT, UPDATE, DELETE and MERGE are no reserved words: a column may be called so. They are taken
for names only where no statement can begin; where that is not clear they stay as they are.
"""

from collections.abc import Sequence

from proxy.sql.functions import RESERVED
from proxy.sql.lexer import Lexeme, Token
from proxy.sql.words import word_set

_FOLLOWERS = {"insert": "into", "delete": "from", "merge": "into"}
"""What a statement that begins with the word goes on with."""
_PART_OF_ANOTHER = frozenset({"for", "key", "do", "then"})
"""FOR [NO KEY] UPDATE, DO UPDATE, THEN DELETE."""
_NO_STATEMENT_AFTER = word_set(
    "select distinct where and or not on having when else case in returning from into join as"
)
_QUERY_BEGINS = frozenset({"select", "with", "values", "table", "("})
_AFTER_TARGETS = frozenset({"values", "select", "with", "table", "overriding", "("})


def with_names_quoted(tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens of a statement, with what is surely a name quoted."""
    named = [
        _quoted(token, token.word) if index and _is_name(tokens, index) else token
        for index, token in enumerate(tokens)
    ]
    return _with_targets_quoted(named)


def _quoted(token: Token, name: str, end: int | None = None) -> Token:
    text = '"' + name.replace('"', '""') + '"'
    return Token(Lexeme.QUOTED, "", token.start, token.end if end is None else end, text)


def _is_name(tokens: Sequence[Token], index: int) -> bool:
    word = tokens[index].word
    before = tokens[index - 1]
    if (word not in _FOLLOWERS and word != "update") or before.word in _PART_OF_ANOTHER:
        return False
    if before.word in _NO_STATEMENT_AFTER:
        return True
    if before.lexeme is Lexeme.OPERATOR and before.word not in ("(", ")", ";"):
        return True
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if after is None or not after.is_name:
        return True
    if word != "update":
        return after.word != _FOLLOWERS[word]
    return after.word in RESERVED and after.word != "only"


def _with_targets_quoted(tokens: list[Token]) -> Sequence[Token]:
    """INSERT INTO t (a[1], b.c): each target with more than its column's name becomes one name, of
    a column that doesn't exist, as the value is not the column's."""
    opening = _targets_at(tokens)
    if opening is None:
        return tokens
    out = tokens[: opening + 1]
    index = opening + 1
    while index < len(tokens):
        end = _target_end(tokens, index)
        if end is None:
            return tokens
        if end - index > 1:
            part = tokens[index].name + "[]"
            out.append(_quoted(tokens[index], part, tokens[end - 1].end))
        else:
            out.append(tokens[index])
        out.append(tokens[end])
        index = end + 1
        if tokens[end].word == ")":
            follows = index < len(tokens) and tokens[index].word in _AFTER_TARGETS
            return [*out, *tokens[index:]] if follows else tokens
    return tokens


def _targets_at(tokens: Sequence[Token]) -> int | None:
    """Where INSERT's list of targets opens."""
    if [token.word for token in tokens[:2]] != ["insert", "into"]:
        return None
    for index, token in enumerate(tokens[2:-1], 2):
        if token.word == "(":
            return None if tokens[index + 1].word in _QUERY_BEGINS else index
        if not token.is_name and token.word != ".":
            return None
    return None


def _target_end(tokens: Sequence[Token], start: int) -> int | None:
    """Where the target that begins at `start` ends, at a comma or parenthesis; None if there is
    anything in it but names and constants."""
    depth = 0
    for index in range(start, len(tokens)):
        word = tokens[index].word
        if not depth and index > start and word in (",", ")"):
            return index
        if word in ("(", ")", ";") or (index == start and not tokens[index].is_name):
            return None
        if word == "[" or word == "]":
            depth += 1 if word == "[" else -1
        elif index > start and not depth and tokens[index - 1].word != "." and word != ".":
            return None
    return None
