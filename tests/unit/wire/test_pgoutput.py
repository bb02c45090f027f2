"""Messages of pgoutput and of the stream around them: decoded, or refused."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import ProtocolViolation
from proxy.wire.pgoutput import (
    Begin,
    Change,
    Column,
    Commit,
    Message,
    Origin,
    Relation,
    Truncate,
    Type,
    decode,
)
from proxy.wire.replication import Keepalive, XLogData, decode_stream, standby_status

ROW = b"N\0\2t\0\0\0\1an"

EXAMPLES = [
    (b"B" + struct.pack(">QqI", 0x16B374D848, 5, 731), Begin(0x16B374D848, 5, 731)),
    (b"C\0" + struct.pack(">QQq", 7, 9, 5), Commit(7, 9, 5)),
    (b"O" + struct.pack(">Q", 3) + b"elsewhere\0", Origin(3, "elsewhere")),
    (
        b"R"
        + struct.pack(">I", 16384)
        + b"public\0orders\0d"
        + struct.pack(">H", 2)
        + b"\1id\0"
        + struct.pack(">Ii", 23, -1)
        + b"\0note\0"
        + struct.pack(">Ii", 1043, 14),
        Relation(
            16384,
            "public",
            "orders",
            "d",
            (Column(True, "id", 23, -1), Column(False, "note", 1043, 14)),
        ),
    ),
    (
        b"R" + struct.pack(">I", 1) + b"\0pg_x\0n\0\0",
        Relation(1, "pg_catalog", "pg_x", "n", ()),
    ),
    (b"Y" + struct.pack(">I", 99) + b"public\0mood\0", Type(99, "public", "mood")),
    (b"I" + struct.pack(">I", 5) + ROW, Change("I", 5, ROW)),
    (b"U" + struct.pack(">I", 5) + b"K" + ROW[1:] + ROW, Change("U", 5, b"K" + ROW[1:] + ROW)),
    (b"D" + struct.pack(">I", 5) + b"O" + ROW[1:], Change("D", 5, b"O" + ROW[1:])),
    (b"T" + struct.pack(">IBII", 2, 3, 5, 6), Truncate((5, 6), True, True)),
    (
        b"M\1" + struct.pack(">Q", 8) + b"penstock.ddl\0" + struct.pack(">I", 3) + b"tag",
        Message(True, 8, "penstock.ddl", b"tag"),
    ),
]


@pytest.mark.parametrize(("data", "expected"), EXAMPLES)
def test_decoded(data: bytes, expected: object) -> None:
    assert decode(data) == expected


@pytest.mark.parametrize(("data", "expected"), EXAMPLES)
def test_cut_short(data: bytes, expected: object) -> None:
    """No piece of a message passes for it, but where the cut is in a row: those are not decoded."""
    for end in range(len(data)):
        if isinstance(expected, Change) and end > 5:
            continue
        with pytest.raises(ProtocolViolation):
            decode(data[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"S" + bytes(5),  # a streamed transaction, which was not asked for
        b"I" + struct.pack(">I", 5) + b"K" + ROW[1:],
        b"D" + struct.pack(">I", 5) + ROW,
        b"U" + struct.pack(">I", 5) + b"X",
        b"C\0" + bytes(24) + b"!",
        b"T" + struct.pack(">IBI", 0xFFFFFFFF, 0, 1),
        b"R" + struct.pack(">I", 1) + b"\0a\0d" + struct.pack(">H", 5000),
        b"M\1" + bytes(8) + b"p\0" + struct.pack(">I", 0xFFFFFFFF) + b"x",
        b"Y" + struct.pack(">I", 1) + b"no end",
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode(data)


@given(st.sampled_from(b"BCORYIUDTMSEcAP"), st.binary(max_size=200))
def test_anything_is_decoded_or_refused(kind: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        decode(bytes((kind,)) + body)


@given(st.sampled_from([data for data, _ in EXAMPLES]), st.data())
def test_damage_is_decoded_or_refused(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolViolation):
        decode(bytes(damaged))


def test_the_stream() -> None:
    assert decode_stream(b"w" + struct.pack(">QQq", 1, 2, 3) + b"B...") == XLogData(
        1, 2, 3, b"B..."
    )
    assert decode_stream(b"k" + struct.pack(">QqB", 9, 8, 1)) == Keepalive(9, 8, True)
    assert decode_stream(b"k" + struct.pack(">QqB", 9, 8, 0)) == Keepalive(9, 8, False)


@given(st.binary(max_size=40))
def test_anything_in_the_stream_is_decoded_or_refused(data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        decode_stream(data)
    with contextlib.suppress(ProtocolViolation):
        decode_stream(b"k" + data)
    with contextlib.suppress(ProtocolViolation):
        decode_stream(b"w" + data)


def test_a_status() -> None:
    sent = standby_status(1, 2, 3, 4, reply=True)
    assert sent[:5] == b"d" + struct.pack(">I", 38)
    assert struct.unpack(">cQQQqB", sent[5:]) == (b"r", 1, 2, 3, 4, 1)
