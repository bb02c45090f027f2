"""Penstock's own answers and exchanges, and what of an answer is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pool.exchange import Exchange
from proxy.session.answers import (
    CACHEABLE_SHAPES,
    add_preamble,
    answer,
    failure,
    strip_preamble,
)
from proxy.session.batch import FLUSH, SYNC, Batch
from proxy.wire.errors import PgError, error_response
from proxy.wire.framing import split_messages
from proxy.wire.messages import (
    BIND_COMPLETE,
    NO_DATA,
    PARSE_COMPLETE,
    command_complete,
    data_row,
    message,
    ready_for_query,
    text_row_description,
)
from tests.unit.session.streams import POINTS, cuts

DESCRIPTION = text_row_description(["n"])
RESULT = data_row(["1"]) + command_complete("SELECT 1")
IDLE, IN_TRANSACTION = b"IT"


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        (b"Q", "TDCZ"),
        (b"PBDES", "12TDCZ"),
        (b"PBES", "12DCZ"),
        (b"PdH", "1tT"),
        (b"PdS", "1tTZ"),
        (b"BES", "2DCZ"),
        (b"CCS", "33Z"),
        (b"S", "Z"),
        (b"bDeH", "2TDC"),
    ],
)
def test_answers_in_the_shape_of_the_question(shape: bytes, kinds: str) -> None:
    given_back = answer(shape, DESCRIPTION, RESULT, IDLE)
    assert "".join(chr(kind) for kind, _ in split_messages(given_back)) == kinds


def test_commands_have_no_description() -> None:
    tag = command_complete("BEGIN")
    assert answer(b"Q", NO_DATA, tag, IN_TRANSACTION) == tag + ready_for_query(IN_TRANSACTION)
    assert answer(b"PBDES", NO_DATA, tag, IDLE).count(NO_DATA) == 1


def test_failures() -> None:
    error = PgError("42601", "no")
    synced, flushed = Batch(SYNC, b"PBES", b""), Batch(FLUSH, b"PBEH", b"")
    assert failure(synced, error, IDLE) == error.encode() + ready_for_query(IDLE)
    assert failure(flushed, error, IDLE) == error.encode()
    assert failure(synced, None, IN_TRANSACTION) == ready_for_query(IN_TRANSACTION)
    assert failure(flushed, None, IDLE) == b""


@pytest.mark.parametrize("shape", sorted(CACHEABLE_SHAPES))
@pytest.mark.parametrize("status", [IDLE, IN_TRANSACTION])
def test_what_is_kept_gives_the_same_answer_again(shape: bytes, status: int) -> None:
    whole = answer(shape, DESCRIPTION, RESULT, status)
    kept = strip_preamble(whole)
    assert kept is not None
    assert add_preamble(shape, kept, status) == whole


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        RESULT,
        PARSE_COMPLETE + BIND_COMPLETE + RESULT,
        RESULT + ready_for_query(ord("E")),
    ],
)
def test_what_is_no_whole_answer_is_not_kept(reply: bytes) -> None:
    assert strip_preamble(reply) is None


ROWS = st.lists(
    st.lists(st.one_of(st.none(), st.text(alphabet="ab\u20ac", max_size=9)), max_size=4), max_size=5
)


@given(ROWS, POINTS, st.binary(max_size=9))
def test_an_exchange_gathers_however_it_comes(
    rows: list[list[str | None]], points: list[int], behind: bytes
) -> None:
    data = (
        DESCRIPTION
        + message(b"S", b"TimeZone\0UTC\0")
        + b"".join(map(data_row, rows))
        + command_complete("SELECT")
        + ready_for_query(IN_TRANSACTION)
    )
    exchange = Exchange()
    over = False
    for piece in cuts(data, points):
        assert not over
        over = exchange.feed(piece)
    assert over
    assert exchange.rows == [[v if v is None else v.encode() for v in row] for row in rows]
    assert exchange.statuses == [b"TimeZone\0UTC\0"]
    assert exchange.status == IN_TRANSACTION
    assert exchange.error is None
    other = Exchange()
    assert other.feed(data + behind)
    assert other.rest == behind


def test_an_exchange_keeps_the_first_error() -> None:
    exchange = Exchange()
    errors = error_response("42601", "first") + error_response("42602", "second")
    assert exchange.feed(errors + ready_for_query(ord("E")))
    assert exchange.error is not None
    assert exchange.error.sqlstate == "42601"
