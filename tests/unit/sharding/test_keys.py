"""Key values as PostgreSQL's input functions read them."""

import struct
import uuid

import pytest

from proxy.sharding.keys import (
    BIGINT,
    INTEGER,
    SMALLINT,
    TEXT,
    UUID,
    VARCHAR,
    KeyType,
    UnreadableKey,
    UnsupportedKey,
    key_from_binary,
    key_from_number,
    key_from_text,
    key_from_text_bytes,
    parameter_type,
)

SOME_UUID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("+5", 5),
        ("-5", -5),
        (" \t\n\v\f\r42 \n", 42),
        ("007", 7),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-0x_ff", -255),
        ("0o17", 15),
        ("0B1_01", 5),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_integer_text(text: str, value: int) -> None:
    assert key_from_text(text, BIGINT) == value
    assert key_from_text_bytes(text.encode(), BIGINT) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "4.0",
        "1e3",
        "1__0",
        "_1",
        "1_",
        "0x",
        "0xg",
        "- 5",
        "--5",
        "4 2",
        "٤",
        "1\u00a0",
    ],
)
def test_not_an_integer(text: str) -> None:
    with pytest.raises(UnreadableKey, match="not a whole number"):
        key_from_text(text, BIGINT)
    with pytest.raises(UnreadableKey, match="not a whole number"):
        key_from_text_bytes(text.encode(), BIGINT)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("9223372036854775808", BIGINT, None),
        ("2147483647", INTEGER, 2**31 - 1),
        ("2147483648", INTEGER, None),
        ("-2147483649", INTEGER, None),
        ("-32768", SMALLINT, -32768),
        ("32768", SMALLINT, None),
    ],
)
def test_no_row_is_out_of_range(text: str, key: KeyType, value: int | None) -> None:
    assert key_from_text(text, key) == value
    assert key_from_text_bytes(text.encode(), key) == value


@pytest.mark.parametrize(
    "text",
    [
        str(SOME_UUID),
        str(SOME_UUID).upper(),
        f"{{{SOME_UUID}}}",
        SOME_UUID.hex,
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
    ],
)
def test_uuid_spellings(text: str) -> None:
    assert key_from_text(text, UUID) == SOME_UUID.bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        f" {SOME_UUID}",
        f"{SOME_UUID} ",
        f"{{{SOME_UUID}",
        f"{SOME_UUID}}}",
        f"{SOME_UUID}-",
        "a0-eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        SOME_UUID.hex[:-1],
        SOME_UUID.hex + "0",
    ],
)
def test_not_a_uuid(text: str) -> None:
    with pytest.raises(UnreadableKey, match="not a uuid"):
        key_from_text(text, UUID)


@pytest.mark.parametrize("text", ["", " two blanks ", "größe", "漢字" * 100])
def test_text_is_taken_as_it_is(text: str) -> None:
    assert key_from_text(text, TEXT) == text.encode()


def test_varchar_with_trailing_blanks_is_refused() -> None:
    assert key_from_text(" a", VARCHAR) == b" a"
    with pytest.raises(UnsupportedKey, match="may cut off"):
        key_from_text("a ", VARCHAR)


@pytest.mark.parametrize(
    ("number", "key", "value"),
    [("42", BIGINT, 42), ("-42", INTEGER, -42), ("42", TEXT, b"42"), ("-7", VARCHAR, b"-7")],
)
def test_constants_without_quotes(number: str, key: KeyType, value: int | bytes) -> None:
    assert key_from_number(number, key) == value


@pytest.mark.parametrize(
    ("number", "key"),
    [("4.0", BIGINT), ("1e3", BIGINT), ("007", TEXT), ("1.5", TEXT), ("true", TEXT), ("42", UUID)],
)
def test_constants_that_postgresql_would_convert(number: str, key: KeyType) -> None:
    with pytest.raises(UnreadableKey):
        key_from_number(number, key)


def test_binary_values() -> None:
    assert key_from_binary(struct.pack("!q", -5), BIGINT, BIGINT) == -5
    assert key_from_binary(struct.pack("!i", -5), INTEGER, BIGINT) == -5
    assert key_from_binary(struct.pack("!h", -5), SMALLINT, INTEGER) == -5
    assert key_from_binary(struct.pack("!q", 2**40), BIGINT, INTEGER) is None
    assert key_from_binary("é".encode(), TEXT, VARCHAR) == "é".encode()
    assert key_from_binary(SOME_UUID.bytes, UUID, UUID) == SOME_UUID.bytes


@pytest.mark.parametrize(
    ("data", "sent_as"), [(b"\0" * 7, BIGINT), (b"", INTEGER), (b"\0" * 8, INTEGER)]
)
def test_binary_of_the_wrong_length(data: bytes, sent_as: KeyType) -> None:
    with pytest.raises(UnreadableKey, match="bytes"):
        key_from_binary(data, sent_as, BIGINT)


def test_text_must_be_utf8() -> None:
    with pytest.raises(UnreadableKey, match="UTF-8"):
        key_from_binary(b"\xe9", TEXT, TEXT)
    for key in (TEXT, UUID, BIGINT):
        with pytest.raises(UnreadableKey, match="UTF-8"):
            key_from_text_bytes(b"\xe9", key)


@pytest.mark.parametrize(
    ("oid", "cast", "key", "expected"),
    [
        (0, None, INTEGER, INTEGER),
        (705, None, UUID, UUID),
        (20, None, INTEGER, BIGINT),
        (0, "int8", INTEGER, BIGINT),
        (23, "bigint", BIGINT, INTEGER),
        (25, None, VARCHAR, TEXT),
        (1043, "text", TEXT, VARCHAR),
        (2950, "uuid", UUID, UUID),
    ],
)
def test_parameter_types(oid: int, cast: str | None, key: KeyType, expected: KeyType) -> None:
    assert parameter_type(oid, cast, key) == expected


@pytest.mark.parametrize(
    ("oid", "cast", "key", "message"),
    [
        (1700, None, BIGINT, "OID 1700"),
        (25, None, BIGINT, "type is text"),
        (0, "numeric", BIGINT, "cast to numeric"),
        (20, "text", BIGINT, "cast to text"),
        (20, None, TEXT, "type is bigint"),
        (0, "varchar(3)", TEXT, "cast to varchar"),
    ],
)
def test_parameters_that_would_be_converted(
    oid: int, cast: str | None, key: KeyType, message: str
) -> None:
    with pytest.raises(UnsupportedKey, match=message):
        parameter_type(oid, cast, key)
