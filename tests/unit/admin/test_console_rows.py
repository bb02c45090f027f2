"""Typed rows as bytes, and the messages that ask for them."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.console import messages
from proxy.admin.console.rows import columns, data_row, row_description
from proxy.wire.errors import ProtocolViolation

ONE_OF_EACH = columns("name count:int share:number fit:bool")


def values_of(row: bytes) -> list[bytes | None]:
    assert row[:1] == b"D"
    assert int.from_bytes(row[1:5]) == len(row) - 1
    count, at, values = int.from_bytes(row[5:7]), 7, list[bytes | None]()
    for _ in range(count):
        (size,) = struct.unpack_from(">i", row, at)
        at += 4
        values.append(None if size < 0 else row[at : at + size])
        at += max(size, 0)
    assert at == len(row)
    return values


def test_text_format() -> None:
    row = data_row(ONE_OF_EACH, ("ö", -3, 0.5, True))
    assert values_of(row) == ["ö".encode(), b"-3", b"0.5", b"t"]


def test_binary_format() -> None:
    row = data_row(ONE_OF_EACH, ("ö", -3, 0.5, False), (1,))
    assert values_of(row) == [
        "ö".encode(),
        struct.pack(">q", -3),
        struct.pack(">d", 0.5),
        b"\0",
    ]


def test_each_column_in_its_own_format_and_null_in_any() -> None:
    row = data_row(ONE_OF_EACH, (None, 7, 2.0, None), (0, 1, 0, 1))
    assert values_of(row) == [None, struct.pack(">q", 7), b"2.0", None]


def test_a_wrong_number_of_formats() -> None:
    with pytest.raises(ValueError, match="3 result formats for 4 columns"):
        row_description(ONE_OF_EACH, (0, 1, 0))


def test_a_description_names_types_and_formats() -> None:
    description = row_description(ONE_OF_EACH, (1,))
    assert description[5:7] == b"\0\4"
    assert b"count\0" + struct.pack(">IhIhih", 0, 0, 20, 8, -1, 1) in description


def test_bind() -> None:
    body = b"p\0s\0" + struct.pack(">hhhi2sihh", 1, 1, 2, 2, b"xy", -1, 1, 1)
    assert messages.bind(body) == messages.Bind("p", "s", 2, (1,))


@pytest.mark.parametrize(
    "broken",
    [
        lambda: messages.query(b"SHOW POOLS"),
        lambda: messages.query(b"SHOW\0POOLS\0"),
        lambda: messages.query(b"\xff\0"),
        lambda: messages.parse(b"s\0SHOW POOLS\0\0\2\0\0\0\0"),
        lambda: messages.bind(b"p\0s\0\0\0\0\1\0\0\0\x09x"),
        lambda: messages.bind(b"p\0s\0\0\0\0\0\0\1\0\7"),
        lambda: messages.named("Describe", b"Xname\0"),
        lambda: messages.named("Close", b""),
        lambda: messages.execute(b"p\0\0\0"),
    ],
)
def test_malformed_bodies(broken: object) -> None:
    assert callable(broken)
    with pytest.raises(ProtocolViolation):
        broken()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_violation(body: bytes) -> None:
    for decode in (messages.query, messages.parse, messages.bind, messages.execute):
        with contextlib.suppress(ProtocolViolation):
            assert decode(body) is not None
