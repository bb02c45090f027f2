"""The packets before authentication."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import ProtocolViolation
from proxy.wire.startup import (
    MAX_STARTUP_LENGTH,
    CancelRequest,
    EncryptionRequest,
    StartupMessage,
    decode,
    encode_cancel,
    encode_startup,
    needed,
    negotiate_version,
    negotiation,
    parse_options,
)

WORDS = st.text(
    alphabet=st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20
)


@given(st.dictionaries(WORDS.filter(lambda name: not name.startswith("_pq_.")), WORDS))
def test_what_is_encoded_is_decoded(parameters: dict[str, str]) -> None:
    packet = encode_startup(parameters)
    assert needed(packet) == len(packet)
    assert decode(packet) == StartupMessage(0, parameters)


def test_a_startup_packet_of_libpq() -> None:
    packet = b"\0\0\0\x25\0\3\0\0user\0app\0database\0orders\0\0"
    packet = struct.pack(">I", len(packet)) + packet[4:]
    assert decode(packet) == StartupMessage(0, {"user": "app", "database": "orders"})


def test_an_empty_value_is_a_value() -> None:
    body = b"\0\3\0\0user\0app\0options\0\0\0"
    packet = struct.pack(">I", len(body) + 4) + body
    assert decode(packet) == StartupMessage(0, {"user": "app", "options": ""})


def test_protocol_options_and_minor_versions() -> None:
    body = b"\0\3\0\2user\0app\0_pq_.a\0on\0_pq_.b\0x\0\0"
    packet = struct.pack(">I", len(body) + 4) + body
    assert decode(packet) == StartupMessage(2, {"user": "app"}, ("_pq_.a", "_pq_.b"))
    assert negotiate_version(0, ("_pq_.a",)) == b"v\0\0\0\x13\0\3\0\0\0\0\0\1_pq_.a\0"


@pytest.mark.parametrize(
    ("minor", "options", "answer"),
    [
        (0, (), b""),
        (2, (), b""),
        (3, (), negotiate_version(2, ())),
        (0, ("_pq_.a",), negotiate_version(0, ("_pq_.a",))),
        (2, ("_pq_.a",), negotiate_version(2, ("_pq_.a",))),
        (9, ("_pq_.a",), negotiate_version(2, ("_pq_.a",))),
    ],
)
def test_negotiation(minor: int, options: tuple[str, ...], answer: bytes) -> None:
    assert negotiation(StartupMessage(minor, {"user": "app"}, options)) == answer


@pytest.mark.parametrize("length", [0, 257])
def test_cancel_keys_that_no_server_gives(length: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"a key of {length} bytes"):
        decode(encode_cancel(1, bytes(length)))


def test_requests() -> None:
    assert decode(struct.pack(">II", 8, 80877103)) == EncryptionRequest(gss=False)
    assert decode(struct.pack(">II", 8, 80877104)) == EncryptionRequest(gss=True)
    cancel = b"\0\0\0\x10\4\xd2\x16\x2e\0\0\x12\x67abcd"
    assert encode_cancel(4711, b"abcd") == cancel
    assert decode(cancel) == CancelRequest(4711, b"abcd")
    long_key = encode_cancel(1, bytes(200))  # protocol 3.2
    assert decode(long_key) == CancelRequest(1, bytes(200))


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\x10\0\3\0"])
def test_eight_bytes_are_always_needed(data: bytes) -> None:
    assert needed(data) == 8


@pytest.mark.parametrize("length", [0, 4, 7, MAX_STARTUP_LENGTH + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lengths_that_no_packet_has(length: int) -> None:
    with pytest.raises(ProtocolViolation):
        needed(struct.pack(">II", length, 196608))


@pytest.mark.parametrize("version", [0, 2 << 16, 4 << 16, 0x16030100, 0x47455420])
def test_versions_that_are_not_spoken(version: int) -> None:
    with pytest.raises(ProtocolViolation):
        decode(struct.pack(">II", 8, version))


@pytest.mark.parametrize("body", [b"", b"user", b"user\0\0", b"user\0app", b"user\0\xff\0\0"])
def test_malformed_parameters(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode(struct.pack(">II", len(body) + 8, 196608) + body)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        length = needed(data)
        if len(data) >= length:
            decode(data[:length])
    except ProtocolViolation:
        pass


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", {}),
        ("-c geqo=off", {"geqo": "off"}),
        ("-cgeqo=off  --work-mem=1MB", {"geqo": "off", "work_mem": "1MB"}),
        (r"-c application_name=two\ words", {"application_name": "two words"}),
        (r"-c a=back\\slash", {"a": r"back\slash"}),
        ("-c search_path=a,b -c search_path=c", {"search_path": "c"}),
        ("-c a=b=c", {"a": "b=c"}),
        ("--my.tenant=7", {"my.tenant": "7"}),
    ],
)
def test_options(options: str, settings: dict[str, str]) -> None:
    assert parse_options(options) == settings


@pytest.mark.parametrize("options", ["-x", "words", "-c", "-c geqo", "-B 100", "--geqo"])
def test_options_that_are_no_settings(options: str) -> None:
    with pytest.raises(ValueError, match="option"):
        parse_options(options)
