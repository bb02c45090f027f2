"""Which functions a statement may call, told from its tokens: rather one too many than one less."""

from collections.abc import Sequence

from proxy.sql.lexer import Token
from proxy.sql.words import word_set

GRAMMAR_FUNCTIONS = word_set(
    "coalesce nullif greatest least grouping row array cast extract overlay position "
    "substring trim treat normalize collation xmlelement xmlattributes xmlforest xmlconcat "
    "xmlparse xmlpi xmlroot xmlserialize xmlexists xmltable xmlnamespaces json json_array "
    "json_arrayagg json_exists json_object json_objectagg json_query json_scalar "
    "json_serialize json_table json_value merge_action"
)
"""Names with a grammar of their own. `analyse` reports them as called; a catalogue need not hold
them, and none writes, locks or leaves anything behind."""

RESERVED = word_set(
    "all analyse analyze and any as asc asymmetric both case check collate column constraint "
    "create default deferrable desc distinct do else end except false fetch for foreign from "
    "grant group having in initially intersect into lateral leading limit not null offset on "
    "only or order placing primary references returning select some symmetric table then to "
    "trailing true union unique using variadic when where window with"
)
"""Words that are never a name unless quoted (appendix C), but those that are calls by themselves,
such as CURRENT_USER."""
# These may be names, but not of functions. Others, such as LEFT, LIKE, OVER or KEY, may be.
NEVER_FUNCTIONS = RESERVED | word_set("between exists values setof inout out none")
TYPES = word_set(
    "bigint bit boolean char character dec decimal float int integer interval national nchar "
    "numeric precision real smallint time timestamp varchar"
)
# Words that are grammar after the word, or the closing parenthesis, given.
_GRAMMAR_AFTER = {
    "over": (")",),
    "filter": (")",),
    "sets": ("grouping",),
    "set": ("update",),
    "join": ("inner", "left", "right", "full", "cross", "outer", "natural"),
    "key": ("primary", "foreign"),
    "varying": ("bit", "char", "character", "nchar"),
    "by": ("order", "group", "partition"),
    "bernoulli": ("tablesample",),
    "system": ("tablesample",),
}
CONTEXT_WORDS = frozenset(_GRAMMAR_AFTER)
# No call stands right after these: a table's, CTE's or alias's columns, a type's modifier, the
# values of a prepared statement.
_NO_CALL_AFTER = frozenset({"into", "::", "as", "with", "copy", "table", "execute", "prepare"})


def called(tokens: Sequence[Token]) -> frozenset[str]:
    """Every name followed by a parenthesis that isn't plainly something else, folded, with the
    schema where one is written: {"now", "billing.charge"}."""
    return frozenset(
        _qualified(tokens, index - 1)
        for index, token in enumerate(tokens)
        if token.word == "(" and index > 1 and _may_call(tokens, index - 1)
    )


def _may_call(tokens: Sequence[Token], index: int) -> bool:
    token = tokens[index]
    if not token.is_name:
        return False
    before = tokens[index - 1].word if index else ""
    if before != "." and (token.word in NEVER_FUNCTIONS or token.word in TYPES):
        return False
    if before in _GRAMMAR_AFTER.get(token.word, ()):
        return False
    head = _head(tokens, index)
    if head == "recursive":
        return index < 2 or tokens[index - 2].word != "with"
    return head not in _NO_CALL_AFTER


def _head(tokens: Sequence[Token], index: int) -> str:
    """The word before the first part of the dotted name that ends at `index`."""
    while index > 1 and tokens[index - 1].word == ".":
        index -= 2
    return tokens[index - 1].word if index > 0 else ""


def _qualified(tokens: Sequence[Token], index: int) -> str:
    name = tokens[index].name
    if index > 1 and tokens[index - 1].word == "." and tokens[index - 2].is_name:
        return f"{tokens[index - 2].name}.{name}"
    return name
