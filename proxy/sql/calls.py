"""The functions of the schema `penstock`, which Penstock answers by itself: what a text asks for.

Of PostgreSQL's SELECT one call is understood, with constants and parameters, casts of these, and an
alias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.sql.lexer import Lexeme, Token, lex, string_value
from proxy.sql.statement import KeyValue, Literal, Parameter, Statement

SCHEMA: Final = "penstock."
FUNCTIONS: Final = {
    "cache_del": ("key text",),
    "cache_get": ("key text",),
    "cache_set": ("key text", "value text", "ttl double precision = 300"),
    "invalidate": ("pattern text",),
}
"""By name: the arguments, optional where they have a default."""
_CASTS: Final = frozenset(
    ("text", "varchar", "int", "integer", "int4", "bigint", "int8", "float8", "numeric", "real")
)


@dataclass(frozen=True, slots=True)
class CacheCall:
    """A call of one of `FUNCTIONS`, with as many arguments as it may have."""

    function: str
    arguments: tuple[KeyValue, ...]
    column: str
    """The name of the result's column."""


class NoCall(ValueError):
    """A statement names the schema in a way that is not understood: why, and its SQLSTATE."""

    def __init__(self, message: str, sqlstate: str = "0A000") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def calls_penstock(statements: Sequence[Statement]) -> bool:
    """Whether one of them may call a function of the schema."""
    return any(name.startswith(SCHEMA) for one in statements for name in one.functions)


def cache_call(text: str) -> CacheCall:
    """The call that a text is which `calls_penstock`. Raises NoCall."""
    tokens = lex(text).tokens
    while tokens and tokens[-1].word == ";":
        tokens.pop()
    reader = _Reader(tokens)
    if not (reader.takes("select") and reader.takes("penstock") and reader.takes(".")):
        raise NoCall(_ALONE)
    function = reader.name()
    known = FUNCTIONS.get(function)
    if known is None:
        raise NoCall(f"there is no function penstock.{function}", "42883")
    arguments = reader.arguments()
    required = sum("=" not in argument for argument in known)
    if not required <= len(arguments) <= len(known):
        counted = str(required) if required == len(known) else f"{required} or {len(known)}"
        raise NoCall(
            f"penstock.{function} takes {counted} arguments, not {len(arguments)}", "42883"
        )
    named = reader.takes("as")
    column = reader.name() if named or not reader.at_end else function
    if not column or not reader.at_end:
        raise NoCall(_ALONE)
    return CacheCall(function, arguments, column)


def signatures() -> str:
    """All functions, for a hint."""
    return ", ".join(
        f"penstock.{name}({', '.join(arguments)})" for name, arguments in FUNCTIONS.items()
    )


_ALONE: Final = "a function of the schema penstock can only be called alone: SELECT penstock.f(…)"


class _Reader:
    """Takes tokens one by one."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._place = 0

    @property
    def at_end(self) -> bool:
        return self._place >= len(self._tokens)

    def takes(self, word: str) -> bool:
        """Whether the next token is this word, unquoted, or this sign; if so it is taken."""
        found = not self.at_end and self._tokens[self._place].word == word
        self._place += found
        return found

    def name(self) -> str:
        """The name that comes next; "" if there is none."""
        if self.at_end or not self._tokens[self._place].is_name:
            return ""
        self._place += 1
        return self._tokens[self._place - 1].name

    def arguments(self) -> tuple[KeyValue, ...]:
        """What stands in parentheses."""
        if not self.takes("("):
            raise NoCall(_ALONE)
        found: list[KeyValue] = []
        while not self.takes(")"):
            if found and not self.takes(","):
                raise NoCall(_CONSTANTS)
            found.append(self._argument())
        return tuple(found)

    def _argument(self) -> KeyValue:
        negative = self.takes("-")
        if self.at_end:
            raise NoCall(_ALONE)
        token = self._tokens[self._place]
        self._place += 1
        value: KeyValue
        if token.lexeme is Lexeme.STRING and not negative:
            text = string_value(token)
            if text is None:
                raise NoCall("a string spells out bytes, which are not looked at here")
            value = Literal(text)
        elif token.lexeme is Lexeme.NUMBER:
            value = Literal("-" * negative + token.text, quoted=False)
        elif token.lexeme is Lexeme.PARAMETER and not negative:
            value = Parameter(int(token.text[1:]))
        elif token.word == "null" and not negative:
            value = Literal(None, quoted=False)
        else:
            raise NoCall(_CONSTANTS)
        while self.takes("::"):
            if self.name() not in _CASTS:
                raise NoCall("an argument is cast to a type that is not understood here")
        return value


_CONSTANTS: Final = "the arguments of functions of the schema penstock are constants or parameters"
