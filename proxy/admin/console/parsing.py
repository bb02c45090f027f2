"""Console text to calls: which command of the table, with which arguments.

Words are told apart by the scanner that statements go through, so quotes, comments and semicolons
mean what they mean in SQL.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.admin.console.orders import ORDERS, arguments_of, is_assignment
from proxy.admin.console.rows import Columns, columns
from proxy.sql.lexer import Lexeme, LexError, Token, lex, string_value
from proxy.sql.split import split
from proxy.wire import errors
from proxy.wire.errors import PgError

HINT: Final = "SHOW HELP lists the commands; connect to a database of yours to run SQL"

_IGNORED: Final = {
    "begin": "BEGIN",
    "start transaction": "START TRANSACTION",
    "commit": "COMMIT",
    "end": "COMMIT",
    "rollback": "ROLLBACK",
    "abort": "ROLLBACK",
    "discard all": "DISCARD ALL",
    "reset all": "RESET",
    "deallocate all": "DEALLOCATE ALL",
    "close all": "CLOSE CURSOR ALL",
    "unlisten *": "UNLISTEN",
}
"""What drivers send by themselves, and its tag. There is nothing here for it to act on."""

_TRANSACTIONS: Final = ("begin", "commit", "rollback")
"""With whatever modes; but ROLLBACK TO means a savepoint, which there is none of."""

_SETTABLE: Final = frozenset(
    {
        "application_name",
        "bytea_output",
        "client_encoding",
        "client_min_messages",
        "datestyle",
        "extra_float_digits",
        "intervalstyle",
        "names",
        "session characteristics",
        "standard_conforming_strings",
        "statement_timeout",
        "time zone",
        "timezone",
    }
)
"""Session settings that drivers set at connect; they change nothing about the console's answers."""


@dataclass(frozen=True, slots=True)
class Call:
    """A command to run. `name` is a key of the table, or "" for what only gets its `tag`."""

    name: str
    arguments: tuple[str, ...]
    columns: Columns
    tag: str


def parse(text: str, table: Mapping[str, Columns], parameters: Mapping[str, str]) -> list[Call]:
    """The calls in `text`.

    `table`: the columns of each command by its words in lower case. `parameters`: session
    parameters that SHOW may name. Raises PgError for the first command that can't be run.
    """
    try:
        statements = split(lex(text, whole=True).tokens)
    except LexError as error:
        raise PgError(errors.SYNTAX_ERROR, f"can't be read: {error}", HINT) from None
    return [_call([t for t in tokens if t.word != ";"], table, parameters) for tokens in statements]


def _call(
    tokens: Sequence[Token], table: Mapping[str, Columns], parameters: Mapping[str, str]
) -> Call:
    words = [token.word if token.lexeme is not Lexeme.QUOTED else token.name for token in tokens]
    line = " ".join(words)
    if line in _IGNORED or (words[0] in _TRANSACTIONS and "to" not in words):
        return Call("", (), (), _IGNORED.get(line) or _IGNORED[words[0]])
    if words[0] == "clear" or words[:2] == ["cache", "clear"]:
        return _clear(tokens[1 if words[0] == "clear" else 2 :], table)
    if line in ("help", "show"):
        line = "show help"
    if line in table:
        return Call(line, (), table[line], words[0].upper())
    if words[0] == "show" and " ".join(words[1:]) in parameters:
        name = " ".join(words[1:])
        return Call("parameter", (name,), columns(name), "SHOW")
    if words[0] in ("set", "reset") and not is_assignment(tokens[1:]):
        return _set(words)
    order = ORDERS.get(words[0])
    if order is not None:
        return Call(order.name, arguments_of(order, tokens[1:]), (), order.name.upper())
    if words[0] == "select":
        found = _select(" ".join(token.text.lower() for token in tokens))
        if found is not None:
            return found
    raise _unknown(words, tokens, table)


def _select(line: str) -> Call | None:
    """What drivers and poolers ask by themselves to see that a connection lives, or to clean it."""
    if line == "select 1":
        return Call("constant", ("1",), columns("?column?:int"), "SELECT")
    if line == "select pg_advisory_unlock_all ( )":
        return Call("constant", ("",), columns("pg_advisory_unlock_all"), "SELECT")
    return None


def _clear(tokens: Sequence[Token], table: Mapping[str, Columns]) -> Call:
    usage = "write CLEAR 'TABLES:REST' [DATABASE], such as CLEAR 'orders:*' or CLEAR '*'"
    pattern = string_value(tokens[0]) if tokens and tokens[0].lexeme is Lexeme.STRING else None
    if pattern is None:
        found = f", not {tokens[0].text}" if tokens else ""
        message = f"CLEAR needs a pattern in single quotes{found}"
        raise PgError(errors.SYNTAX_ERROR, message, usage)
    names = [
        string_value(token) if token.lexeme is Lexeme.STRING else token.name for token in tokens[1:]
    ]
    if len(names) > 1 or None in names or "" in names:
        rest = " ".join(token.text for token in tokens[1:])
        raise PgError(errors.SYNTAX_ERROR, f"CLEAR takes one database, not {rest}", usage)
    arguments = (pattern, *(name for name in names if name is not None))
    return Call("clear", arguments, table["clear"], "CLEAR")


def _set(words: Sequence[str]) -> Call:
    names = [word for word in words[1:] if word not in ("session", "local")] or [""]
    if names[0] in _SETTABLE or " ".join(words[1:3]) in _SETTABLE:
        return Call("", (), (), words[0].upper())
    raise PgError(
        errors.FEATURE_NOT_SUPPORTED,
        f"{words[0].upper()} {names[0]}: the console has no such setting",
        "SHOW CONFIG lists Penstock's settings by their paths: SET pool.size = 30",
    )


def _unknown(
    words: Sequence[str], tokens: Sequence[Token], table: Mapping[str, Columns]
) -> PgError:
    if words[:2] == ["show", "route"]:
        return PgError(
            errors.SYNTAX_ERROR,
            "SHOW ROUTE FOR is answered in a database, not in the console",
            "connect to the database that the statement is for; SHOW ROUTES lists the rules",
        )
    if words[:2] == ["show", "fds"]:
        return PgError(
            errors.FEATURE_NOT_SUPPORTED,
            "SHOW FDS is not available: Penstock doesn't hand open sockets to another process",
            "SHOW SOCKETS lists them; docs/admin.md tells how to restart without dropping clients",
        )
    if any(token.lexeme is Lexeme.PARAMETER for token in tokens):
        return PgError(errors.SYNTAX_ERROR, "console commands take no parameters", HINT)
    written = " ".join(token.text for token in tokens)[:60]
    line = " ".join(word for word in words if word)
    known = [*table, *ORDERS]
    near = difflib.get_close_matches(line, known, n=1, cutoff=0.7)
    if not near and len(words) > 1:
        near = difflib.get_close_matches(" ".join(words[:2]), known, n=1, cutoff=0.8)
        near = near or difflib.get_close_matches(words[0], known, n=1, cutoff=0.8)
    suggestion = f"did you mean {near[0].upper()}? " if near else ""
    return PgError(errors.SYNTAX_ERROR, f"unknown command: {written}", suggestion + HINT)
