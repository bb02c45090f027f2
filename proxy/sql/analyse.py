"""Query strings to facts: `analyse`."""

from dataclasses import replace

from proxy.sql.classify import UNKNOWN, classify, not_understood
from proxy.sql.hints import parse_hints
from proxy.sql.lexer import LexError, lex
from proxy.sql.query import NotUnderstood
from proxy.sql.split import split
from proxy.sql.statement import Analysis, Kind, Statement


def analyse(text: str) -> Analysis:
    """The facts of every statement of a query string. Never raises: a statement that can't be
    judged is UNKNOWN, and the result's `error` says why. Costs up to milliseconds; not cached."""
    try:
        lexed = lex(text)
    except LexError as error:
        return Analysis(text, (UNKNOWN,), error=str(error))
    hints = parse_hints(lexed.comments)
    statements: list[Statement] = []
    errors: list[str] = []
    for tokens in split(lexed.tokens):
        try:
            statements.append(classify(tokens, text))
        except NotUnderstood as error:
            errors.append(str(error))
            statements.append(not_understood(tokens))
        except RecursionError:
            errors.append("it is nested too deep")
            statements.append(not_understood(tokens))
        except Exception as mistake:  # of ours: the server can still run the statement
            errors.append(f"it could not be analysed: {mistake!r}")
            statements.append(not_understood(tokens))
    if lexed.condensed:
        statements = [_without_values(statement) for statement in statements]
    if not statements:
        statements.append(Statement(Kind.EMPTY))
    return Analysis(text, tuple(statements), hints, "; ".join(errors) or None)


def _without_values(statement: Statement) -> Statement:
    """The facts of a statement whose constants were not all looked at."""
    return replace(
        statement,
        scans=tuple(replace(scan, equalities=()) for scan in statement.scans),
        cacheable_shape=False,
        uncacheable_because=statement.uncacheable_because or "its lists of constants are too long",
    )
