"""A server's answer on its way: the same bytes and findings however it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pool.description import describe
from proxy.session.batch import AS_PARSE, FORWARD, SWALLOW, Ack
from proxy.session.relay import Relay
from proxy.wire.errors import CHANGED_RESULT, ProtocolViolation, error_response
from proxy.wire.messages import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    NO_DATA,
    PARSE_COMPLETE,
    command_complete,
    data_row,
    message,
    ready_for_query,
    text_row_description,
)
from tests.unit.session.streams import POINTS, bytewise, cuts

READY = ready_for_query(ord("I"))
ROW = data_row(["x" * 50])
ANSWER = text_row_description(["n"]) + ROW * 3 + command_complete("SELECT 3")


def relayed(
    *pieces: bytes,
    readies: int = 1,
    acks: list[Ack] | None = None,
    retry: bool = False,
    room: int = 0,
    hold: bool = False,
) -> tuple[bytes, Relay]:
    """(what was passed on, the relay at the end)."""
    relay = Relay()
    relay.begin(readies, acks, retry, room, hold)
    passed = b""
    for piece in pieces:
        if relay.done:
            relay.rest += piece
        else:
            passed += relay.feed(piece)
    return passed, relay


BODIES = st.one_of(
    st.sampled_from([ROW, ANSWER, BIND_COMPLETE, NO_DATA, message(b"s", b"")]),
    st.builds(lambda text: error_response("22012", text), st.text(alphabet="abc", max_size=30)),
    st.builds(lambda text: message(b"N", b"M" + text + b"\0\0"), st.binary(max_size=20)),
    st.builds(
        lambda value: message(b"S", b"TimeZone\0" + value + b"\0"), st.sampled_from([b"a", b"b"])
    ),
    st.builds(lambda body: message(b"d", body), st.binary(max_size=60)),
    st.builds(lambda body: message(b"D", body), st.binary(max_size=200)),
)


@given(
    st.lists(BODIES, max_size=12),
    POINTS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=9),
)
def test_any_cut_passes_the_same(
    stream: list[bytes], points: list[int], retry: bool, capture: bool, hold: bool, behind: bytes
) -> None:
    data = b"".join(stream) + READY
    room = 10_000 if capture else 0
    for pieces in (cuts(data + behind, points), bytewise(data + behind)):
        passed, relay = relayed(*pieces, retry=retry, room=room, hold=hold)
        whole, at_once = relayed(data + behind, retry=retry, room=room, hold=hold)
        assert passed + relay.held == whole + at_once.held == data
        assert relay.done
        assert relay.rest == behind
        assert relay.status == ord("I")
        assert relay.errors == at_once.errors
        assert relay.statuses == at_once.statuses
        assert relay.captured() == at_once.captured()


def test_a_captured_answer_is_what_the_client_saw() -> None:
    data = BIND_COMPLETE + ANSWER + READY
    for pieces in ([data], bytewise(data)):
        passed, relay = relayed(*pieces, room=len(data))
        assert relay.captured() == passed == data
    _, relay = relayed(data, room=len(data) - 1)
    assert relay.captured() is None


@pytest.mark.parametrize(
    "spoiling",
    [
        error_response("22012", "no"),
        message(b"N", b"Mnotice\0\0"),
        message(b"S", b"a\0b\0"),
        message(b"A", b"\0\0\0\1a\0b\0"),
    ],
)
def test_answers_that_are_not_captured(spoiling: bytes) -> None:
    passed, relay = relayed(ANSWER + spoiling + READY, room=10_000)
    assert passed == ANSWER + spoiling + READY
    assert relay.captured() is None


def acks() -> list[Ack]:
    """Our Parse, the client's Parse, our Close of an old one, a Close that stands for a Parse."""
    return [Ack(SWALLOW), Ack(FORWARD), Ack(SWALLOW), Ack(AS_PARSE)]


def test_acks_are_swallowed_forwarded_and_replaced() -> None:
    data = PARSE_COMPLETE * 2 + CLOSE_COMPLETE + CLOSE_COMPLETE + BIND_COMPLETE + ANSWER + READY
    expected = PARSE_COMPLETE * 2 + BIND_COMPLETE + ANSWER + READY
    for pieces in ([data], list(bytewise(data))):
        passed, relay = relayed(*pieces, acks=acks(), room=10_000)
        assert passed == expected
        assert relay.captured() == expected


def test_acks_of_a_later_part() -> None:
    relay = Relay()
    relay.begin(0, [Ack(FORWARD)], False, 0, False)
    relay.extend(1, [Ack(SWALLOW)])
    assert relay.feed(PARSE_COMPLETE + ANSWER) == PARSE_COMPLETE + ANSWER
    assert relay.feed(PARSE_COMPLETE + BIND_COMPLETE + READY) == BIND_COMPLETE + READY
    assert relay.done


def test_an_error_takes_the_acks_behind_it_away() -> None:
    error = error_response("42601", "no")
    passed, relay = relayed(PARSE_COMPLETE + error + READY, acks=acks())
    assert passed == error + READY
    assert [ack.action for ack in relay.failed_acks] == [FORWARD, SWALLOW, AS_PARSE]
    relay.begin(1, None, False, 0, False)
    assert relay.feed(ANSWER + READY) == ANSWER + READY
    assert (relay.failed_acks, relay.errors) == ([], [])


def test_parts_behind_an_error_get_no_acks() -> None:
    relay = Relay()
    relay.begin(0, [], False, 0, False)
    relay.feed(error_response("42601", "no"))
    relay.extend(1, [Ack(SWALLOW)])
    assert relay.feed(READY) == READY
    assert len(relay.failed_acks) == 1


def test_an_ack_that_nobody_expects() -> None:
    with pytest.raises(ProtocolViolation):
        relayed(PARSE_COMPLETE * 2, acks=[Ack(SWALLOW)])


REFUSED = error_response("25006", "cannot execute INSERT in a read-only transaction")


def test_what_a_standby_refuses_is_not_passed_on() -> None:
    for stream in (REFUSED + READY, PARSE_COMPLETE + BIND_COMPLETE + REFUSED + READY):
        for pieces in ([stream], bytewise(stream)):
            passed, relay = relayed(*pieces, retry=True)
            assert passed + relay.held == b""
            assert relay.retry
            assert relay.done


def test_what_a_primary_refuses_is() -> None:
    passed, relay = relayed(REFUSED + READY)
    assert passed == REFUSED + READY
    assert not relay.retry


@pytest.mark.parametrize("first", [ROW, command_complete("BEGIN"), message(b"H", b"\0\0\0")])
def test_once_the_client_has_seen_something_nothing_is_retried(first: bytes) -> None:
    passed, relay = relayed(first + REFUSED + READY, retry=True)
    assert passed == first + REFUSED + READY
    assert not relay.retry
    assert not relay.untouched


def test_last_words_are_kept_until_it_is_known_what_follows() -> None:
    words = error_response("57P01", "terminating connection", severity="FATAL")
    passed, relay = relayed(words, retry=True)
    assert passed == b""
    assert relay.untouched
    assert relayed(words)[0] == words


def test_held_answers() -> None:
    data = ROW + command_complete("INSERT 0 1")
    for pieces in (
        [data + READY],
        [ROW, command_complete("INSERT 0 1"), READY],
        bytewise(data + READY),
    ):
        passed, relay = relayed(*pieces, hold=True)
        assert passed + relay.held == data + READY
        assert command_complete("INSERT 0 1") not in passed
        assert READY not in passed


@pytest.mark.parametrize("size", [100, 100_000])
def test_rows_larger_than_their_pieces_pass_at_once(size: int) -> None:
    row = message(b"D", bytes(size))
    for retry, hold in ((False, False), (True, False), (False, True)):
        relay = Relay()
        relay.begin(1, None, retry, 0, hold)
        sent = 0
        for piece in cuts(row, list(range(0, size, size // 10))):
            sent += len(piece)
            passed = relay.feed(piece)
            assert len(passed) >= len(piece) - 5
            assert relay.mid_message == (5 <= sent < len(row))
        assert not relay.mid_message


def test_copy_responses_are_noticed() -> None:
    relay = Relay()
    relay.begin(1, None, True, 0, False)
    assert relay.feed(message(b"G", b"\0\0\0")) == message(b"G", b"\0\0\0")
    assert relay.copy_in
    assert not relay.done


def test_several_readies() -> None:
    passed, relay = relayed(READY, ready_for_query(ord("T")), b"rest", readies=2)
    assert passed == READY + ready_for_query(ord("T"))
    assert relay.status == ord("T")
    assert relay.rest == b"rest"


COLUMNS = text_row_description(["n"])
TOLD = describe(b"\0\0", COLUMNS)
PARAMETERS = message(b"t", b"\0\0")


@given(POINTS)
def test_a_description_of_penstocks_own_is_compared_and_kept_from_the_client(
    points: list[int],
) -> None:
    asked = Ack(SWALLOW, describes=True, expected=TOLD)
    answer = PARSE_COMPLETE + PARAMETERS + COLUMNS + BIND_COMPLETE + ANSWER + READY
    passed, relay = relayed(*cuts(answer, points), acks=[Ack(SWALLOW), asked])
    assert passed == BIND_COMPLETE + ANSWER + READY
    assert relay.described == [(asked, TOLD)]
    assert not relay.changed


@given(POINTS)
def test_nothing_is_passed_on_of_a_statement_that_has_changed(points: list[int]) -> None:
    asked = Ack(SWALLOW, describes=True, expected=TOLD)
    other = text_row_description(["m"])
    answer = PARSE_COMPLETE + PARAMETERS + other + BIND_COMPLETE + ANSWER + READY
    passed, relay = relayed(*cuts(answer, points), acks=[Ack(SWALLOW), asked])
    assert passed == b""
    assert relay.changed
    assert relay.retry
    assert relay.done


def test_a_description_that_the_client_asked_for_is_noted() -> None:
    asked = Ack(FORWARD, describes=True)
    answer = PARSE_COMPLETE + PARAMETERS + COLUMNS + BIND_COMPLETE + COLUMNS + READY
    passed, relay = relayed(answer, acks=[Ack(FORWARD), asked])
    assert passed == answer
    assert relay.described == [(asked, TOLD)]  # that of a portal is another


@pytest.mark.parametrize("heals", [True, False])
def test_an_outdated_statement_is_retried_where_its_parse_was_left_out(heals: bool) -> None:
    error = error_response("0A000", "cached plan", routine=CHANGED_RESULT)
    relay = Relay()
    relay.begin(1, [Ack(AS_PARSE)], may_retry=False, capture_room=0, hold=False, heals=heals)
    passed = relay.feed(CLOSE_COMPLETE + error + READY)
    assert relay.retry == heals
    assert passed == (b"" if heals else PARSE_COMPLETE + error + READY)


def test_only_a_standbys_refusal_of_a_write_is_retried() -> None:
    relay = Relay()
    relay.begin(1, [Ack(AS_PARSE)], may_retry=False, capture_room=0, hold=False, heals=True)
    error = error_response("25006", "read-only")
    assert relay.feed(CLOSE_COMPLETE + error + READY) == PARSE_COMPLETE + error + READY
    assert not relay.retry


@pytest.mark.parametrize(
    "data",
    [
        b"D\0\0\0\3" + READY,
        b"D\0\0\0\0" + READY,
        b"2\0\0\0\0" + READY,
        ROW + b"D\xff\xff\xff\xff" + ROW,
        b"E\xff\xff\xff\xff" + ROW,
        b"Z\0\0\0\4",
        b"Z\0\0\0\6II",
    ],
)
def test_an_impossible_length_is_a_violation(data: bytes) -> None:
    for pieces in ([data], bytewise(data)):
        with pytest.raises(ProtocolViolation, match="length of"):
            relayed(*pieces)
