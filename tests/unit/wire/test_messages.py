"""Messages byte by byte, errors and their fields, framing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import messages
from proxy.wire.errors import PgError, error_fields, error_response, from_fields
from proxy.wire.framing import split_messages, uint32_at, whole_messages


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (messages.message(b"p", b"abc"), b"p\0\0\0\7abc"),
        (messages.ready_for_query(ord("T")), b"Z\0\0\0\5T"),
        (messages.query("SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0"),
        (messages.query(b"\xff"), b"Q\0\0\0\6\xff\0"),
        (messages.parse(b"s", b"SELECT 1\0\0\0"), b"P\0\0\0\x11s\0SELECT 1\0\0\0"),
        (messages.parse(b"", b"\0\0\0"), b"P\0\0\0\x08\0\0\0\0"),
        (messages.close_statement(b"s1"), b"C\0\0\0\x08Ss1\0"),
        (messages.describe_statement(b"s1"), b"D\0\0\0\x08Ss1\0"),
        (messages.parameter_status("a", "b"), b"S\0\0\0\x08a\0b\0"),
        (messages.backend_key_data(1, b"abcd"), b"K\0\0\0\x0c\0\0\0\1abcd"),
        (messages.command_complete("SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
        (messages.data_row(["a", None, ""]), b"D\0\0\0\x13\0\3\0\0\0\1a\xff\xff\xff\xff\0\0\0\0"),
        (
            messages.text_row_description(["n"]),
            b"T\0\0\0\x1a\0\1n\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        ),
        (messages.AUTHENTICATION_OK, b"R\0\0\0\x08\0\0\0\0"),
        (messages.NO_PARAMETERS, b"t\0\0\0\6\0\0"),
    ],
)
def test_builders(built: bytes, expected: bytes) -> None:
    assert built == expected


def test_a_text_result() -> None:
    built = messages.text_result(["n"], [["1"], [None]], "SELECT 2")
    assert [chr(kind) for kind, _ in split_messages(built)] == ["T", "D", "D", "C"]


def test_an_error_has_all_that_clients_look_for() -> None:
    built = error_response("42601", "broken", "mend it", "more", "FATAL")
    ((kind, body),) = split_messages(built)
    assert kind == ord("E")
    assert error_fields(body) == {
        "S": "FATAL",
        "V": "FATAL",
        "C": "42601",
        "M": "broken",
        "D": "more",
        "H": "mend it",
        "R": "penstock",
    }


@given(st.text(), st.text(), st.text())
def test_errors_survive_the_wire(text: str, hint: str, detail: str) -> None:
    text, hint, detail = (part.encode("utf-8", "ignore").decode() for part in (text, hint, detail))
    ((_, body),) = split_messages(PgError("XX000", text, hint, detail).encode())
    back = from_fields(error_fields(body))
    expected = [part.replace("\0", "") for part in (text, hint, detail)]
    assert back.sqlstate == "XX000"
    assert [back.hint, back.detail] == expected[1:]
    assert back.message == expected[0]


def test_an_error_without_a_message() -> None:
    error = from_fields(error_fields(b"\0"))
    assert (error.sqlstate, bool(error.message)) == ("XX000", True)


MESSAGES = st.lists(st.tuples(st.sampled_from(b"ANSZ"), st.binary(max_size=30)), max_size=8)


@given(MESSAGES, st.integers(0, 300))
def test_framing(pairs: list[tuple[int, bytes]], cut: int) -> None:
    data = b"".join(messages.message(bytes((kind,)), body) for kind, body in pairs)
    assert list(split_messages(data)) == pairs
    whole, rest = whole_messages(data[:cut])
    assert whole + rest == data[:cut]
    assert list(split_messages(whole)) == pairs[: len(list(split_messages(whole)))]
    assert whole_messages(whole + rest + data[cut:]) == (data, b"")


@given(st.integers(0, 2**32 - 1), st.binary(max_size=5))
def test_numbers(number: int, before: bytes) -> None:
    assert uint32_at(before + number.to_bytes(4), len(before)) == number
