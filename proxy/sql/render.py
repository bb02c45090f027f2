"""Tokens to text that sqlglot can parse: only the structure, nothing that it may misread.

Constants become placeholders that name their token, so that quoting rules never matter; operators
that sqlglot doesn't know become one that binds alike; functions that it would check for their
arguments become unknown ones.
"""

from collections.abc import Sequence

from proxy.sql.functions import CONTEXT_WORDS, GRAMMAR_FUNCTIONS, NEVER_FUNCTIONS, TYPES
from proxy.sql.lexer import Lexeme, Token
from proxy.sql.words import word_set

STRING_MARK = "s"
"""'s17' stands for the string that is token 17; other constants are never a key's value."""

_PLAIN_OPERATORS = word_set("= < > <= >= <> != + - * / % ^ || :: . , ( ) [ ] : := => ;")
_INFIX, _PREFIX = " || ", " ~ "
# Reserved words after which an operand has ended, so that an operator is infix.
_OPERAND_WORDS = word_set(
    "end null true false default current_date current_time current_timestamp localtime "
    "localtimestamp current_user current_role current_catalog session_user user"
)
_UNQUOTED = (
    NEVER_FUNCTIONS
    | TYPES
    | GRAMMAR_FUNCTIONS
    | CONTEXT_WORDS
    | word_set(
        "left right full outer cross inner natural like ilike similar is isnull notnull overlaps "
        "conflict escape system bernoulli repeatable zone insert update delete at range rows "
        "groups columns ordinality nested path recursive within cube rollup operator exclude "
        "materialized partition matched"
    )
)
# The last words of types' names, which sqlglot knows, and of the constructor ARRAY[].
_NO_TYPE_END = frozenset({"array", "zone", "precision", "varying"})


def render(tokens: Sequence[Token]) -> str:
    """The text for sqlglot; a string constant is STRING_MARK and its index in `tokens`, quoted."""
    pieces: list[str] = []
    skipped = 0
    for index, token in enumerate(tokens):
        if skipped:
            skipped -= 1
            continue
        before = tokens[index - 1] if index else None
        if token.lexeme is Lexeme.WORD:
            text, skipped = _word(tokens, index, before)
        elif token.lexeme is Lexeme.OPERATOR:
            text = _operator(token.word, before)
        else:
            text = _constant(token, index)
        pieces.append(text)
    return " ".join(pieces)


def _word(tokens: Sequence[Token], index: int, before: Token | None) -> tuple[str, int]:
    """A word's text, and how many tokens after it are to be left out."""
    token = tokens[index]
    after = [t.word for t in tokens[index + 1 : index + 3]]
    if token.word == "current" and after[:1] == ["of"]:  # WHERE CURRENT OF cursor
        return "true", 2
    if token.word == "overriding" and after[1:] == ["value"]:
        return "", 2
    if token.word == "for" and after == ["read", "only"]:
        return "", 2
    if token.word == "at" and after[:1] == ["local"]:
        return "", 1
    if (
        token.word == "using" and after[:1] and _is_operator(tokens[index + 1])
    ):  # ORDER BY … USING <
        return "", 1
    if after == ["[", "]"] and token.word not in _NO_TYPE_END:  # an array of a type unknown to it
        return "text", 0
    called = after[:1] == ["("] and token.word not in _UNQUOTED
    qualified = before is not None and before.word == "."
    if called or qualified or not token.word.isascii() or "$" in token.word:
        return f'"{token.name}"', 0
    return token.text, 0


def _is_operator(token: Token) -> bool:
    return token.lexeme is Lexeme.OPERATOR and token.word != "("


def _operator(word: str, before: Token | None) -> str:
    if word in _PLAIN_OPERATORS:
        return word
    return _INFIX if before is not None and ends_operand(before) else _PREFIX


def ends_operand(token: Token) -> bool:
    if token.lexeme is Lexeme.OPERATOR:
        return token.word in (")", "]", "*")
    return token.word not in NEVER_FUNCTIONS or token.word in _OPERAND_WORDS


def _constant(token: Token, index: int) -> str:
    match token.lexeme:
        case Lexeme.STRING:
            return f"'{STRING_MARK}{index}'"
        case Lexeme.BITS:
            return f"'b{index}'"
        case Lexeme.NUMBER:
            return _number(token.text)
        case _:
            return token.text


def _number(text: str) -> str:
    """A number without underscores, in base ten."""
    text = text.replace("_", "")
    if text[:2].lower() in ("0x", "0o", "0b"):
        return str(int(text, 0)) if len(text) < 40 else "0.5"
    return text.replace(".e", ".0e").replace(".E", ".0E") + ("0" if text.endswith(".") else "")
