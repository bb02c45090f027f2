"""Query strings to facts: `analyse`."""

from proxy.sql.classify import UNKNOWN, classify, with_session_facts
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
            statements.append(with_session_facts(UNKNOWN, tokens))
        except RecursionError:
            errors.append("it is nested too deep")
            statements.append(with_session_facts(UNKNOWN, tokens))
    if not statements:
        statements.append(Statement(Kind.EMPTY))
    return Analysis(text, tuple(statements), hints, "; ".join(errors) or None)
