"""Shard key values: from text or binary, as PostgreSQL's input functions would read them.

A value becomes an `int` for the integer types and `bytes` for text, varchar and uuid; None is a
value that no row can have (NULL, or an integer beyond the key's type). What PostgreSQL might read
differently from us is refused, never guessed at.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal as OneOf

Key = int | bytes | None
Family = OneOf["integer", "string", "uuid"]


class UnreadableKey(ValueError):
    """A value that can't be a key of its type. The text says why, without naming the column."""

    sqlstate = "22P02"  # invalid_text_representation


class UnsupportedKey(UnreadableKey):
    """A value that PostgreSQL would convert, in a way that is not known here."""

    sqlstate = "0A000"  # feature_not_supported


@dataclass(frozen=True, slots=True)
class KeyType:
    """A type that a shard key may have. `size` is its binary length in bytes, None if it varies."""

    name: str
    family: Family
    oid: int
    size: int | None = None


BIGINT = KeyType("bigint", "integer", 20, 8)
INTEGER = KeyType("integer", "integer", 23, 4)
SMALLINT = KeyType("smallint", "integer", 21, 2)
TEXT = KeyType("text", "string", 25)
VARCHAR = KeyType("varchar", "string", 1043)
UUID = KeyType("uuid", "uuid", 2950, 16)

TYPES_BY_OID: Mapping[int, KeyType] = {
    each.oid: each for each in (BIGINT, INTEGER, SMALLINT, TEXT, VARCHAR, UUID)
}
TYPES_BY_NAME: Mapping[str, KeyType] = {
    **{each.name: each for each in TYPES_BY_OID.values()},
    "int8": BIGINT,
    "int": INTEGER,
    "int4": INTEGER,
    "int2": SMALLINT,
    "character varying": VARCHAR,
}
UNKNOWN_OIDS = frozenset((0, 705))
"""Not said in Parse, and the pseudo-type `unknown`: the server infers the type of the column."""

_WHITESPACE = " \t\n\v\f\r"  # isspace() in the C locale
_INTEGER = re.compile(
    r"([+-]?)(?:(0[xX](?:_?[0-9a-fA-F])+)|(0[oO](?:_?[0-7])+)|(0[bB](?:_?[01])+)"
    r"|([0-9]+(?:_[0-9]+)*))"
)
_UUID = re.compile(r"(\{)?((?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4})(?(1)\})")
_SURE_DIGITS = 18
"""A number of so many digits fits a bigint."""
_PLAIN_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")


def key_from_text(text: str, key: KeyType) -> Key:
    """The key that `text` is, given to the input function of `key`'s type.

    Raises `UnreadableKey`. Source: int8in and its siblings (numutils.c), uuid_in (uuid.c), textin.
    """
    if key.family == "integer":
        return _integer_key(_integer(text), key)
    if key.family == "uuid":
        match = _UUID.fullmatch(text)
        if match is None:
            raise UnreadableKey(f"{_shown(text)} is not a uuid")
        return bytes.fromhex(match[2].replace("-", ""))
    return _string_key(text.encode(), key)


def key_from_text_bytes(data: bytes, key: KeyType) -> Key:
    """`key_from_text` for a parameter's UTF-8 bytes. Raises `UnreadableKey`."""
    if key is BIGINT and len(data) <= _SURE_DIGITS and data.isdigit():
        return int(data)
    if key.family == "string":
        return _string_key(data, key)
    try:
        return key_from_text(data.decode(), key)
    except UnicodeDecodeError:
        raise UnreadableKey("it is not valid UTF-8") from None


def key_from_number(text: str, key: KeyType) -> Key:
    """The key that an unquoted constant is, such as 42 in `WHERE id = 42`.

    PostgreSQL gives it a type of its own before it compares or stores it. Raises `UnreadableKey`
    for what is not a whole number written plainly.
    """
    if key.family == "integer":
        return _integer_key(_integer(text), key)
    if key.family == "string" and _PLAIN_NUMBER.fullmatch(text):
        return str(int(text)).encode()
    raise UnreadableKey(f"{_shown(text)} without quotes is not a {key.name}")


def key_from_binary(data: bytes, sent_as: KeyType, key: KeyType) -> Key:
    """The key that a binary parameter of type `sent_as` is. Raises `UnreadableKey`."""
    if sent_as.size is not None and len(data) != sent_as.size:
        raise UnreadableKey(
            f"a binary {sent_as.name} has {sent_as.size} bytes, this one has {len(data)}"
        )
    if key.family == "integer":
        return _integer_key(int.from_bytes(data, "big", signed=True), key)
    if key.family == "uuid":
        return data
    return _string_key(data, key)


def key_from_constant(text: str, quoted: bool, key: KeyType) -> Key:
    """The key that a constant in a statement is. Raises `UnreadableKey`."""
    return key_from_text(text, key) if quoted else key_from_number(text, key)


def key_from_parameter(value: bytes, binary: bool, oid: int, cast: str | None, key: KeyType) -> Key:
    """The key that a parameter is; `oid` and `cast` as for `parameter_type`.

    Raises `UnreadableKey`, and `UnsupportedKey` as that does."""
    # The common case first: no OID and no cast, or just the key's own type.
    sent_as = key if oid == key.oid and cast is None else parameter_type(oid, cast, key)
    return key_from_binary(value, sent_as, key) if binary else key_from_text_bytes(value, key)


def parameter_type(oid: int, cast: str | None, key: KeyType) -> KeyType:
    """The type in which a parameter for a column of type `key` arrives.

    `oid` is the type that Parse declared (0 for none), `cast` the type written around it. Raises
    `UnsupportedKey` where PostgreSQL would convert the value on the way to the column.
    """
    cast_type = key if cast is None else TYPES_BY_NAME.get(cast.lower())
    if cast_type is None or cast_type.family != key.family:
        raise UnsupportedKey(f"it is cast to {cast}")
    if oid in UNKNOWN_OIDS:
        return cast_type
    sent_as = TYPES_BY_OID.get(oid)
    if sent_as is None or sent_as.family != key.family:
        raise UnsupportedKey(f"its type is {sent_as.name if sent_as else f'OID {oid}'}")
    return sent_as


def _integer(text: str) -> int:
    match = _INTEGER.fullmatch(text.strip(_WHITESPACE))
    if match is None:
        raise UnreadableKey(f"{_shown(text)} is not a whole number")
    sign, hexadecimal, octal, binary, decimal = match.groups()
    # int(…, 0) would refuse the leading zeros that PostgreSQL takes, so decimals go their own way.
    value = int(decimal) if decimal else int(hexadecimal or octal or binary, 0)
    return -value if sign == "-" else value


def _integer_key(value: int, key: KeyType) -> int | None:
    """None beyond the type's range: no row has it, and storing it is the server's error."""
    assert key.size is not None
    limit = 1 << (8 * key.size - 1)
    return value if -limit <= value < limit else None


def _string_key(data: bytes, key: KeyType) -> bytes:
    if key is VARCHAR and data.endswith(b" "):
        # varchar(n) cuts trailing spaces beyond n when it stores, and n is not known here.
        raise UnsupportedKey("it ends with spaces, which varchar(n) may cut off; use type text")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise UnreadableKey("it is not valid UTF-8") from None
    return data


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")
