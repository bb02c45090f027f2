"""Keeping a session's settings: what to ask the server after a change, and what it answered.

What a client asks for at start-up is SET on each backend, so a RESET there gives the server's
default where the client expects its own: then the server is asked what is still set.
"""

import contextlib
import re
from collections.abc import Sequence
from typing import Final

from proxy.pool.exchange import Exchange
from proxy.pool.settings_state import (
    DEFAULTS,
    UNSURE,
    SettingsState,
    difference,
    intern_settings,
    read_back,
    read_back_all,
)
from proxy.routing.plan import EVERY_SETTING, Plan
from proxy.session.batch import Batch
from proxy.session.binding import decode_parameters
from proxy.session.transaction import Transaction
from proxy.sql.statement import Kind, Statement
from proxy.wire.errors import ProtocolViolation

_CUSTOM: Final = re.compile(rb"[A-Za-z_][\w$]{0,62}(?:\.[A-Za-z_][\w$]{0,62})+")
_QUOTED: Final = re.compile(rb"'(" + _CUSTOM.pattern + rb")'")
_LEAVE_SETTINGS = frozenset({Kind.SELECT, Kind.CLOSE, Kind.LISTEN, Kind.DEALLOCATE, Kind.DISCARD})


def without_asking(
    plans: Sequence[Plan],
    transaction: Transaction,
    current: SettingsState,
    startup: SettingsState,
) -> tuple[SettingsState, SettingsState] | None:
    """The settings (of the session, of its backend) after a transaction of these alone, which
    succeeded, if it has RESET or DISCARDed for certain what it has changed."""
    if _resets(plans):
        return after_reset(plans, current, startup)
    if _is_alone(plans, transaction) and transaction.restores == transaction.touched:
        (name,) = transaction.touched
        if "." not in name:  # else it may be there, and empty, or have an extension's default
            return _after_reset_of(name, current, startup)
    return None


def sets_alone(plans: Sequence[Plan], transaction: Transaction) -> bool:
    """Whether the transaction is a single SET of a single setting, to a value."""
    return _is_alone(plans, transaction) and not transaction.restores


def _is_alone(plans: Sequence[Plan], transaction: Transaction) -> bool:
    if transaction.touched_unknown or transaction.reset_all or len(plans) != 1:
        return False
    statements = plans[0].analysis.statements
    if len(statements) != 1 or statements[0].kind is not Kind.SET:
        return False
    return len(transaction.touched) == 1 and statements[0].settings == transaction.touched


def _resets(plans: Sequence[Plan]) -> bool:
    if len(plans) != 1 or not plans[0].resets_all:
        return False
    return all(map(_resets_or_leaves, plans[0].analysis.statements))


def _resets_or_leaves(statement: Statement) -> bool:
    if statement.resets_all:
        return True
    changes = statement.settings or statement.settings_unknown
    return statement.kind in _LEAVE_SETTINGS and not changes


def named_in(batch: Batch) -> set[str]:
    """Custom settings that a batch may change although its statements don't say which.

    Parameters, and strings in a text, that look like such a name: nothing else tells of them, as
    the server lists no custom settings.
    """
    found: list[bytes] = []
    if batch.text is not None:
        found += _QUOTED.findall(batch.text)
    for prepared, bind in zip(batch.bound, batch.binds, strict=True):
        found += _QUOTED.findall(prepared.text)
        with contextlib.suppress(ProtocolViolation):  # the server will say so
            values = decode_parameters(bind).values
            found += [value for value in values if value and _CUSTOM.fullmatch(value)]
    return {name.decode().lower() for name in found}


def question(
    transaction: Transaction, current: SettingsState, startup: SettingsState, certain: bool = False
) -> bytes:
    """SQL that reads back what the ended transaction may have changed.

    `certain`: it has succeeded and `sets_alone`.
    """
    if not certain and _asks_all(transaction, startup):
        return read_back_all(_custom(transaction, current, startup))
    return read_back(sorted(transaction.touched))


def after(
    transaction: Transaction,
    current: SettingsState,
    startup: SettingsState,
    exchange: Exchange,
    certain: bool = False,
) -> tuple[SettingsState, SettingsState]:
    """The settings (of the session, of its backend) after the answer to `question`."""
    if not certain and _asks_all(transaction, startup):
        return _after_all(transaction, current, startup, exchange)
    session, backend = dict(current.values), dict(current.values)
    answers = exchange.rows[0] if exchange.rows else []
    for name, value in zip(sorted(transaction.touched), answers, strict=True):
        if value is None:
            session.pop(name, None)
            backend.pop(name, None)
        else:
            session[name] = value
            # After a ROLLBACK, an error or a RESET the value may be the default.
            backend[name] = value if certain else UNSURE
    return intern_settings(session), intern_settings(backend)


def _after_all(
    transaction: Transaction, current: SettingsState, startup: SettingsState, exchange: Exchange
) -> tuple[SettingsState, SettingsState]:
    """A setting that isn't set any more has been reset, as the backend had all of the session's."""
    found: dict[str, bytes] = {}
    cleared: dict[str, bytes] = {}
    for row in exchange.rows:
        if row[0] is None or row[1] is None:
            continue
        name, value = row[0].decode().lower(), row[1]
        if value != (b"none" if name == "role" else b"") or not _is_bare(name):
            found[name] = value
        elif name not in transaction.restores and (
            name in transaction.touched or current.values.get(name) == value
        ):
            cleared[name] = value  # by a SET, not by a RESET
    return intern_settings({**startup.values, **found, **cleared}), intern_settings(found)


def _is_bare(name: str) -> bool:
    """Whether the server doesn't tell if this is set, other than by its value."""
    return name == "role" or "." in name


def _after_reset_of(
    name: str, current: SettingsState, startup: SettingsState
) -> tuple[SettingsState, SettingsState]:
    values = {other: value for other, value in current.values.items() if other != name}
    backend = intern_settings(values)
    if name in startup.values:
        values[name] = startup.values[name]
    return intern_settings(values), backend


def after_reset(
    plans: Sequence[Plan], current: SettingsState, startup: SettingsState
) -> tuple[SettingsState, SettingsState]:
    """The settings (of the session, of its backend) after DISCARD ALL or RESET ALL, of which the
    latter leaves the role as it was."""
    statements = [statement for plan in plans for statement in plan.analysis.statements]
    if any(one.kind is Kind.DISCARD and one.resets_all for one in statements):
        return startup, DEFAULTS
    role = {name: value for name, value in current.values.items() if name == "role"}
    if not role and "role" not in startup.values:
        return startup, DEFAULTS
    others = {name: value for name, value in startup.values.items() if name != "role"}
    return intern_settings({**others, **role}), intern_settings(role)


def restoration(transaction: Transaction, startup: SettingsState) -> bytes:
    """SQL that gives settings which were reset the client's start-up values; perhaps empty.

    For within the transaction: after it the backend is brought into the session's state anyway.
    """
    names, transaction.restores = transaction.restores, set()
    every = EVERY_SETTING in names
    values = {name: value for name, value in startup.values.items() if every or name in names}
    return difference(DEFAULTS, intern_settings(values))


def _asks_all(transaction: Transaction, startup: SettingsState) -> bool:
    return (
        transaction.touched_unknown
        or transaction.reset_all
        or not transaction.touched.isdisjoint(startup.values)
    )


def _custom(transaction: Transaction, current: SettingsState, startup: SettingsState) -> list[str]:
    """Settings that pg_settings doesn't show: names with a dot that no extension has defined."""
    names = {*transaction.touched, *current.values, *startup.values}
    return sorted(name for name in names if "." in name)
