"""One statement's tokens to its facts, by its leading verb.

The verb decides; sqlglot is asked only for the queries inside (see `query`). A verb that is not in
the table below makes the statement UNKNOWN.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.sql import copying, explaining, pins, prepared, setters, settings, transactions
from proxy.sql.exclusive import occupied
from proxy.sql.functions import called
from proxy.sql.lexer import Lexeme, Token, string_value
from proxy.sql.listening import step_of
from proxy.sql.query import VERBS, NotUnderstood, query
from proxy.sql.settings import Changes
from proxy.sql.split import is_atomic_routine
from proxy.sql.statement import Kind, Scan, Statement, TableRef
from proxy.sql.words import word_set

Rule = Callable[[Sequence[Token]], Statement]

_CALLS = re.compile(r"\b([A-Za-z_][\w$]*)\"?\s*\(")

UNKNOWN = Statement(
    Kind.UNKNOWN,
    writes_unknown=True,
    settings_unknown=True,
    uncacheable_because="not understood",
)


def not_understood(tokens: Sequence[Token]) -> Statement:
    """The facts of a statement that `classify` refused."""
    query = tokens[0].word in VERBS  # which changes settings by functions only
    unknown = replace(UNKNOWN, settings_unknown=False) if query else UNKNOWN
    return with_session_facts(unknown, tokens)


def classify(tokens: Sequence[Token], text: str) -> Statement:
    """The facts of the statement of these tokens of `text`. Raises NotUnderstood."""
    verb = tokens[0].word
    if verb in VERBS:
        statement = query(tokens)
        if any(table.name == "pg_settings" for table in statement.writes):  # its rule sets them
            statement = replace(statement, settings_unknown=True)
    elif verb == "explain":
        statement = explaining.explain(tokens, text, classify)
    elif verb == "declare":
        statement = prepared.declare(tokens, text, classify)
    elif verb == "prepare":
        statement = prepared.prepare(tokens, text, classify)
    elif verb == "copy":
        statement = copying.copy(tokens, text, classify)
    elif verb == "show":
        statement = explaining.show(tokens, text)
    else:
        rule = _RULES.get(verb)
        if rule is None:
            raise NotUnderstood(f'no statement begins with "{tokens[0].text[:40]}"')
        statement = replace(rule(tokens), step=step_of(tokens), occupies=occupied(tokens))
    return with_session_facts(statement, tokens)


def with_session_facts(statement: Statement, tokens: Sequence[Token]) -> Statement:
    """The statement with what the functions that it names do to its session."""
    functions = statement.functions | called(tokens)
    pinned = statement.pins or pins.reason(tokens, functions)
    if any(name.endswith("set_config") for name in functions):
        changes = settings.of_functions(tokens)
        if changes.untold:
            pinned = pins.joined((pinned, pins.UNTOLD_SETTINGS))
        statement = replace(
            _uncached(statement, "it changes settings"),
            settings=statement.settings | changes.settings,
            settings_unknown=statement.settings_unknown or changes.settings_unknown,
            sets_transaction=statement.sets_transaction or changes.sets_transaction,
        )
    ends = pins.ended(tokens) if statement.kind is Kind.SELECT else statement.ends
    if pinned is statement.pins and functions == statement.functions and not ends:
        return statement
    if pinned is not None:
        statement = _uncached(statement, pinned)
    return replace(statement, functions=functions, pins=pinned, ends=ends)


def _uncached(statement: Statement, why: str) -> Statement:
    if not statement.cacheable_shape:
        return statement
    return replace(statement, cacheable_shape=False, uncacheable_because=why)


def _changed(kind: Kind, changes: Changes) -> Statement:
    return Statement(
        kind,
        settings=changes.settings,
        settings_unknown=changes.settings_unknown,
        restores=changes.restores,
        resets_all=changes.resets_all,
        sets_transaction=changes.sets_transaction,
        pins="SET SESSION AUTHORIZATION" if changes.authorization else None,
    )


def _set(tokens: Sequence[Token]) -> Statement:
    return _changed(Kind.SET, settings.of_set(tokens))


def _reset(tokens: Sequence[Token]) -> Statement:
    return _changed(Kind.SET, settings.of_reset(tokens))


def _discard(tokens: Sequence[Token]) -> Statement:
    """DISCARD ALL | PLANS | SEQUENCES | TEMP."""
    everything = tokens[1:2] and tokens[1].word == "all"
    return _changed(Kind.DISCARD, settings.ALL if everything else Changes())


def _ddl(tokens: Sequence[Token]) -> Statement:
    if is_atomic_routine(tokens):  # all that follows in the text is in here too
        return Statement(Kind.DDL, writes_unknown=True, settings_unknown=True)
    return Statement(Kind.DDL, writes_unknown=True)


def _do(tokens: Sequence[Token]) -> Statement:
    bodies = [string_value(t) or "" for t in tokens if t.lexeme is Lexeme.STRING]
    body = " ".join(bodies)
    effects = setters.effects_of(body)
    untold = pins.UNTOLD_SETTINGS if setters.UNTOLD in effects else None
    return Statement(
        Kind.DO,
        functions=frozenset(name.lower() for name in _CALLS.findall(body)),
        writes_unknown=True,
        settings=setters.named(effects),
        settings_unknown=True,
        pins=pins.joined((*setters.unseen(effects), untold)),
        leaves=setters.LEFTOVERS in effects,
    )


def _call(tokens: Sequence[Token]) -> Statement:
    return Statement(Kind.CALL, writes_unknown=True)


def _utility(tokens: Sequence[Token]) -> Statement:
    return Statement(Kind.UTILITY)


def _writing_utility(tokens: Sequence[Token]) -> Statement:
    return Statement(Kind.UTILITY, writes_unknown=True)


def _plain(kind: Kind) -> Rule:
    """A rule for statements of which nothing but the kind matters."""

    def rule(tokens: Sequence[Token]) -> Statement:
        return Statement(kind)

    return rule


def _ending(kind: Kind) -> Rule:
    """A rule for statements that may end what has pinned their connection."""

    def rule(tokens: Sequence[Token]) -> Statement:
        return Statement(kind, ends=pins.ended(tokens))

    return rule


def _truncate(tokens: Sequence[Token]) -> Statement:
    cascades = any(token.word == "cascade" for token in tokens)
    scans = tuple(Scan(table, written=True) for table in _tables(tokens))
    return Statement(Kind.TRUNCATE, scans=scans, writes_unknown=cascades or not scans)


def _lock(tokens: Sequence[Token]) -> Statement:
    return Statement(Kind.LOCK, scans=tuple(map(Scan, _tables(tokens))), locking=True)


def _tables(tokens: Sequence[Token]) -> list[TableRef]:
    """TRUNCATE's and LOCK's list: [TABLE] [ONLY] name [*], …"""
    tables: list[TableRef] = []
    rest: Sequence[Token] = [t for t in tokens[1:] if t.word not in ("table", "only", "*")]
    while rest and rest[0].is_name:
        table, rest = copying.relation(rest)
        tables.append(table)
        if not rest or rest[0].word != ",":
            break
        rest = rest[1:]
    return tables


_RULES: dict[str, Rule] = {
    "begin": transactions.begin,
    "start": transactions.begin,
    "commit": transactions.commit,
    "end": transactions.commit,
    "rollback": transactions.rollback,
    "abort": transactions.rollback,
    "savepoint": transactions.savepoint,
    "release": transactions.savepoint,
    "set": _set,
    "reset": _reset,
    "discard": _discard,
    "execute": prepared.execute,
    "deallocate": prepared.deallocate,
    "fetch": _plain(Kind.FETCH),
    "move": _plain(Kind.FETCH),
    "close": _ending(Kind.CLOSE),
    "listen": _plain(Kind.LISTEN),
    "unlisten": _ending(Kind.LISTEN),
    "notify": _plain(Kind.NOTIFY),
    "lock": _lock,
    "truncate": _truncate,
    "call": _call,
    "do": _do,
    "vacuum": _utility,
    "analyze": _utility,
    "analyse": _utility,
    "checkpoint": _utility,
    "load": _utility,
    "cluster": _writing_utility,
    "reindex": _writing_utility,
    "repack": _writing_utility,
    "refresh": _writing_utility,
    "wait": _utility,
    **dict.fromkeys(
        word_set("create alter drop comment grant revoke reassign import security"),
        _ddl,
    ),
}
