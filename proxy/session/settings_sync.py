"""Keeping a session's settings: what to ask the server after a change, and what it answered."""

from proxy.pool.settings_state import (
    READ_BACK_ALL,
    SettingsState,
    intern_settings,
    read_back,
)
from proxy.session.exchange import Exchange
from proxy.session.transaction import Transaction


def question(transaction: Transaction, current: SettingsState) -> bytes | None:
    """SQL that reads back what the ended transaction may have changed, or None."""
    if transaction.touched_unknown and not transaction.reset_all:
        return READ_BACK_ALL
    names = set(transaction.touched)
    if transaction.reset_all:
        names |= set(current.values)
    return read_back(sorted(names)) if names else None


def after(transaction: Transaction, current: SettingsState, exchange: Exchange) -> SettingsState:
    """The settings of session and backend after the answer to `question`."""
    if transaction.touched_unknown and not transaction.reset_all:
        found = {
            row[0].decode().lower(): row[1]
            for row in exchange.rows
            if row[0] is not None and row[1] is not None
        }
        return intern_settings({**current.values, **found})
    names = set(transaction.touched)
    if transaction.reset_all:
        names |= set(current.values)
    values = dict(current.values)
    for name, value in zip(sorted(names), exchange.rows[0] if exchange.rows else [], strict=True):
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value
    return intern_settings(values)
