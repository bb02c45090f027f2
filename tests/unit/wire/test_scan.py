"""Loops over messages: what they recognise, and that both forms give the same.

The compiled form is that of the tree which PENSTOCK_TREE names, as in `make test-compiled`.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import scan
from tests.compiled import compiled_module, needs

NONE = bytes(256)
ERRORS = bytes(kind == ord("E") for kind in range(256))


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


PARSE = message(b"P", b"\0select $1\0\0\0")
BIND = message(b"B", b"\0\0\0\0\0\1\0\0\0\x0212\0\0")
NAMED = message(b"B", b"\0one\0\0\0\0\1\0\0\0\x0212\0\0")
DESCRIBE = message(b"D", b"P\0")
EXECUTE = message(b"E", bytes(5))
SYNC = message(b"S")
READY = message(b"Z", b"I")


@pytest.mark.parametrize(
    ("batch", "content", "name", "describes"),
    [
        (PARSE + BIND + DESCRIBE + EXECUTE + SYNC, b"select $1\0\0\0", b"", 1),
        (PARSE + BIND + EXECUTE + SYNC, b"select $1\0\0\0", b"", 0),
        (NAMED + DESCRIBE + EXECUTE + SYNC, None, b"one", 1),
        (BIND + EXECUTE + SYNC, None, b"", 0),
    ],
)
def test_an_execution_is_recognised(
    batch: bytes, content: bytes | None, name: bytes, describes: int
) -> None:
    tail = b"\0\0\0\1\0\0\0\x0212\0\0"
    expected = (len(batch) + 3, content, name, tail, describes)
    assert scan.execution(b"abc" + batch + b"rest", 3) == expected
    assert scan.execution_in_python(b"abc" + batch + b"rest", 3) == expected


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        PARSE,
        PARSE + BIND + EXECUTE,
        PARSE + NAMED + EXECUTE + SYNC,
        message(b"P", b"one\0select 1\0\0\0") + BIND + EXECUTE + SYNC,
        message(b"P", b"\0select 1") + BIND + EXECUTE + SYNC,
        message(b"B", b"portal\0\0\0\0\0\0\0\0") + EXECUTE + SYNC,
        message(b"B", b"\0\0\0\0\0") + EXECUTE + SYNC,
        BIND + message(b"D", b"S\0") + EXECUTE + SYNC,
        BIND + message(b"E", b"\0\0\0\0\1") + SYNC,
        BIND + message(b"E", b"p\0\0\0\0\0") + SYNC,
        BIND + EXECUTE + message(b"H"),
        BIND + EXECUTE + message(b"S", b"x"),
        (BIND + EXECUTE + SYNC)[:-1],
    ],
)
def test_nothing_else_is_taken_for_an_execution(batch: bytes) -> None:
    assert scan.execution(batch, 0) is None
    assert scan.execution_in_python(batch, 0) is None


def test_a_statement_gets_another_name() -> None:
    batch = NAMED + DESCRIBE + EXECUTE + SYNC
    start, end = 2, 2 + len(batch)
    expected = message(b"B", b"\0another" + NAMED[9:]) + DESCRIBE + EXECUTE + SYNC
    assert scan.renamed(b"ab" + batch + b"c", start, end, 3, b"another") == expected
    assert scan.renamed_in_python(b"ab" + batch + b"c", start, end, 3, b"another") == expected


def test_whole_messages_that_do_not_matter_are_passed_over() -> None:
    row, error = message(b"D", b"row"), message(b"E", b"bad")
    data = row + row + error + row
    assert scan.skip(data, 0, NONE) == len(data)
    assert scan.skip(data, 0, ERRORS) == 2 * len(row)
    assert scan.skip(data[:-1], 0, NONE) == len(data) - len(row)


def test_an_answer_is_known_by_its_end() -> None:
    row = message(b"D", b"row")
    assert scan.answered(row + READY, 0, ERRORS_AND_READY) == ord("I")
    assert scan.answered(b"of a row" + READY, 8, ERRORS_AND_READY) == ord("I")
    assert scan.answered(message(b"E", b"bad") + READY, 0, ERRORS_AND_READY) == 0
    assert scan.answered(READY + row, 0, ERRORS_AND_READY) == 0
    assert scan.answered(row, 0, ERRORS_AND_READY) == 0


ERRORS_AND_READY = bytes(kind in b"EZ" for kind in range(256))

messages = st.builds(
    message,
    st.sampled_from([b"P", b"B", b"D", b"E", b"S", b"Z", b"C", b"H", b"Q"]),
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from([b"P\0", b"\0select\0\0\0", bytes(5), b"I", bytes(8), b"\0s\0" + bytes(6)]),
    ),
)
texts = st.builds(
    lambda parts, extra, cut: (b"".join(parts) + extra)[: None if cut == 0 else -cut],
    st.lists(st.one_of(messages, st.sampled_from([PARSE, BIND, NAMED, DESCRIBE, EXECUTE, SYNC]))),
    st.binary(max_size=6),
    st.integers(0, 4),
)

COMPILED = compiled_module("wire", "_scan")
needs_compiled = needs(COMPILED)


@needs_compiled
@given(texts, st.integers(0, 40))
def test_both_forms_give_the_same(data: bytes, position: int) -> None:
    assert COMPILED is not None
    assert COMPILED.skip(data, position, ERRORS) == scan.skip_in_python(data, position, ERRORS)
    assert COMPILED.execution(data, position) == scan.execution_in_python(data, position)
    assert COMPILED.answered(data, position, ERRORS_AND_READY) == scan.answered_in_python(
        data, position, ERRORS_AND_READY
    )


@needs_compiled
@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40), st.binary(max_size=9))
def test_both_forms_rename_alike(rest: bytes, start: int, old: int, name: bytes) -> None:
    assert COMPILED is not None
    data = bytes(start) + message(b"B", b"\0" + rest)
    end = len(data)
    if old > len(rest):
        with pytest.raises(ValueError, match="no Bind"):
            COMPILED.renamed(data, start, end, old, name)
    else:
        expected = scan.renamed_in_python(data, start, end, old, name)
        assert COMPILED.renamed(data, start, end, old, name) == expected


@needs_compiled
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("skip", (b"", -1, NONE)),
        ("skip", (b"", 0, b"short")),
        ("skip", ("text", 0, NONE)),
        ("skip", (b"",)),
        ("answered", (b"", 0, b"")),
        ("execution", (bytearray(b"B"), 0)),
        ("execution", (b"", "0")),
        ("renamed", (b"B", 0, 99, 0, b"")),
        ("renamed", (b"B", 1 << 80, 1, 0, b"")),
    ],
)
def test_wrong_arguments_are_refused(function: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        getattr(COMPILED, function)(*arguments)
