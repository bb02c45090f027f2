"""INSERT of one row and UPDATE by equalities, taken to pieces: what write-back can take.

Only the plainest form is known: constants and parameters for values, no RETURNING, no ON CONFLICT,
no expression but `column = column + constant`. Of any other text `single_row` says None.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from proxy.sql.lexer import Lexeme, LexError, Token, lex, string_value

_T = TypeVar("_T")

STRING = "string"
NUMBER = "number"
BOOLEAN = "boolean"
NULL = "null"
PARAMETER = "parameter"


@dataclass(frozen=True, slots=True)
class Value:
    """A value as the statement spells it."""

    text: str | None
    """Of a STRING what it stands for, None where that depends on the encoding; of others what is
    written. A cast is left out."""
    kind: str
    """STRING, NUMBER, BOOLEAN, NULL or PARAMETER."""
    cast: str = ""
    """The type that it is cast to, as one word."""
    parameter: int = 0
    """The number of a PARAMETER."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A column and its value; `adds`: +1 or -1 where the value is added to what is there."""

    column: str
    value: Value
    adds: int = 0


@dataclass(frozen=True, slots=True)
class SingleRow:
    """`keys`: the equalities of an UPDATE, () for an INSERT. An INSERT that names no columns has
    assignments to ""."""

    schema: str | None
    table: str
    source: str
    """The table as the statement names it."""
    assigned: tuple[Assignment, ...]
    keys: tuple[Assignment, ...] = ()

    @property
    def inserts(self) -> bool:
        """Whether it is an INSERT."""
        return not self.keys


class _Other(Exception):
    """It is a statement of another form."""


def single_row(text: str) -> SingleRow | None:
    """The statement, if it is one of these."""
    try:
        tokens = lex(text, whole=True).tokens
    except LexError:
        return None
    while tokens and tokens[-1].word == ";":
        tokens.pop()
    reader = _Reader(tokens)
    try:
        first = reader.word()
        found = _insert(reader) if first == "insert" else _update(reader, first)
        return found if reader.at_end else None
    except _Other:
        return None


def _insert(reader: "_Reader") -> SingleRow:
    reader.expect("into")
    schema, table, source = reader.table()
    columns: list[str] = []
    if reader.takes("("):
        columns = list(reader.several(reader.name))
        reader.expect(")")
    reader.expect("values")
    reader.expect("(")
    values = list(reader.several(reader.value))
    reader.expect(")")
    if columns and len(columns) != len(values):
        raise _Other
    names = columns or [""] * len(values)
    return SingleRow(schema, table, source, tuple(map(Assignment, names, values)))


def _update(reader: "_Reader", first: str) -> SingleRow:
    if first != "update":
        raise _Other
    schema, table, source = reader.table()
    reader.expect("set")
    assigned = tuple(reader.several(reader.assignment))
    reader.expect("where")
    keys = [reader.equality()]
    while reader.takes("and"):
        keys.append(reader.equality())
    return SingleRow(schema, table, source, assigned, tuple(keys))


class _Reader:
    """The tokens, one after the other. What doesn't fit raises _Other."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._place = 0

    @property
    def at_end(self) -> bool:
        return self._place == len(self._tokens)

    def _peek(self, ahead: int = 0) -> Token | None:
        place = self._place + ahead
        return self._tokens[place] if place < len(self._tokens) else None

    def _next(self) -> Token:
        token = self._peek()
        if token is None:
            raise _Other
        self._place += 1
        return token

    def word(self) -> str:
        return self._next().word

    def takes(self, word: str) -> bool:
        """Whether the next token is this; then it is passed."""
        token = self._peek()
        if token is None or token.word != word:
            return False
        self._place += 1
        return True

    def expect(self, word: str) -> None:
        if not self.takes(word):
            raise _Other

    def name(self) -> str:
        token = self._next()
        if not token.is_name:
            raise _Other
        return token.name

    def table(self) -> tuple[str | None, str, str]:
        """(schema, name, as it is spelt)."""
        start = self._place
        name, schema = self.name(), None
        if self.takes("."):
            schema, name = name, self.name()
        return schema, name, self._spelt(start)

    def _spelt(self, start: int) -> str:
        tokens = self._tokens[start : self._place]
        return "".join(token.text for token in tokens)

    def several(self, one: Callable[[], _T]) -> Iterator[_T]:
        yield one()
        while self.takes(","):
            yield one()

    def assignment(self) -> Assignment:
        column = self.name()
        self.expect("=")
        token, after = self._peek(), self._peek(1)
        if token is not None and token.is_name and after is not None and after.word in ("+", "-"):
            if self.name() != column:
                raise _Other
            adds = 1 if self.word() == "+" else -1
            return Assignment(column, self.value(), adds)
        return Assignment(column, self.value())

    def equality(self) -> Assignment:
        column = self.name()
        self.expect("=")
        return Assignment(column, self.value())

    def value(self) -> Value:
        token = self._next()
        sign = ""
        if token.word in ("+", "-"):
            sign, token = token.word, self._next()
            if token.lexeme is not Lexeme.NUMBER:
                raise _Other
        kind, number = _kind(token), 0
        if kind == PARAMETER:
            number = int(token.text[1:])
        text = string_value(token) if kind == STRING else sign + token.text
        cast = ""
        if self.takes("::"):
            word = self._next()
            if word.lexeme is not Lexeme.WORD:
                raise _Other
            cast = word.word
        return Value(text, kind, cast, number)


def _kind(token: Token) -> str:
    if token.lexeme is Lexeme.STRING:
        return STRING
    if token.lexeme is Lexeme.NUMBER:
        return NUMBER
    if token.lexeme is Lexeme.PARAMETER:
        return PARAMETER
    if token.word == "null":
        return NULL
    if token.word in ("true", "false"):
        return BOOLEAN
    raise _Other
