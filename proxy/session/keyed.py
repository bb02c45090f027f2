"""The epochs of a statement that is pinned to keys, from its constants and parameters."""

from binascii import crc32
from typing import Final

from proxy.cache.keys import KEY_GROUPS, all_keys_epoch, key_epoch
from proxy.routing.plan import CachePlan, Pinned, Plan
from proxy.session.batch import Batch
from proxy.session.binding import decode_parameters
from proxy.sharding.keys import (
    TYPES_BY_NAME,
    Key,
    KeyType,
    UnreadableKey,
    key_from_constant,
    key_from_parameter,
    key_from_text_bytes,
)
from proxy.sql.statement import KeyValue, Literal
from proxy.wire.errors import ProtocolViolation

Literals = tuple[bytes | None, ...]
_NONE: Final[frozenset[str]] = frozenset()


def epochs_read(rule: CachePlan, batch: Batch, literals: Literals, utf8: bool) -> tuple[str, ...]:
    """What a read depends on: of tables that it is pinned in, only its key; all of a table whose
    key can't be told."""
    reads = set(rule.reads)
    for pinned in rule.pins:
        names = _names(pinned, batch, literals, utf8)
        if names:
            reads.discard(pinned.table)
            reads.add(all_keys_epoch(pinned.table))
            reads |= names
    return tuple(sorted(reads))


def epochs_moved(plan: Plan, batch: Batch, literals: Literals, utf8: bool) -> frozenset[str]:
    """What a write moves: of the table that it is pinned in, only its keys."""
    pinned = plan.pinned_write
    if pinned is None:
        return plan.writes
    names = _names(pinned, batch, literals, utf8)
    return plan.writes - {pinned.table} | names if names else plan.writes


def group_of_text(kind: KeyType, value: bytes) -> int | None:
    """The group of a value as the server writes it, in its own encoding; None where it can't be
    told."""
    try:
        key = key_from_text_bytes(value, kind) if value.isascii() else None
    except UnreadableKey:
        return None
    return None if key is None else _group(key)


def _names(pinned: Pinned, batch: Batch, literals: Literals, utf8: bool) -> frozenset[str]:
    """The epochs of the groups of the keys; none where a key can't be told for sure."""
    names: set[str] = set()
    try:
        for value in pinned.values:
            key = _key(value, pinned, batch, literals, utf8)
            if key is None:
                return _NONE
            names.add(key_epoch(pinned.table, _group(key)))
    except (UnreadableKey, ProtocolViolation):
        return _NONE
    return frozenset(names)


def _group(key: Key) -> int:
    data = key if isinstance(key, bytes) else b"%d" % key if isinstance(key, int) else b""
    return crc32(data) % KEY_GROUPS


def _key(value: KeyValue, pinned: Pinned, batch: Batch, literals: Literals, utf8: bool) -> Key:
    """The value by the column's type; None where it can't be told. Raises UnreadableKey."""
    kind = TYPES_BY_NAME[pinned.type]
    if isinstance(value, Literal):
        if value.text is None or not (utf8 or value.text.isascii()):
            return None
        return key_from_constant(value.text, value.quoted, kind)
    index, data, binary, oid = value.index - 1, None, False, 0
    if batch.text is not None:
        data = literals[index] if 0 <= index < len(literals) else None
    else:
        statement = batch.bound[0]
        bound = decode_parameters(batch.binds[0])
        count = len(bound.values)
        if 0 <= index < count:
            data, binary = bound.values[index], bound.format_of(index) == 1
            oid = statement.oids[index] if index < len(statement.oids) else 0
        elif 0 <= index - count < len(statement.literals):
            data = statement.literals[index - count]
    if data is None or not (utf8 or kind.family != "string" or data.isascii()):
        return None
    return key_from_parameter(data, binary, oid, value.type, kind)
