"""Damaged bytes of clients and servers, in pieces of any size: refused, or understood; nothing else
happens, and no more is kept than came."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from proxy.session.intake import Intake
from proxy.session.prepared import PreparedRegistry
from proxy.session.relay import Relay
from proxy.wire import startup
from proxy.wire.errors import ProtocolViolation
from tests import fuzzing
from tests.unit.session.streams import POINTS, cuts

LARGEST = 1 << 20
SESSIONS, LOGINS = fuzzing.sessions(), fuzzing.logins()


def test_the_corpus_is_understood() -> None:
    """But for what is misplaced on purpose."""
    assert len(LOGINS) >= 2
    refused = 0
    for session in SESSIONS:
        intake, found = Intake(PreparedRegistry(), LARGEST), 0
        intake.append(b"".join(session))
        try:
            while intake.next() is not None:
                found += 1
        except ProtocolViolation:
            refused += 1
        else:
            assert found >= 5
    assert (len(SESSIONS) - refused, refused) == (6, 1)


@given(fuzzing.damaged(SESSIONS), POINTS)
def test_batches_hold_no_more_than_came(data: bytes, points: list[int]) -> None:
    intake = Intake(PreparedRegistry(), LARGEST)
    payloads = 0
    with contextlib.suppress(ProtocolViolation):
        for piece in cuts(data, points):
            intake.append(piece)
            while (batch := intake.next()) is not None:
                payloads += len(batch.payload)
    # A Sync is added where none came, and a name where the client has no unnamed statement: 13
    # bytes to a message of 7 at least.
    assert payloads <= 3 * len(data) + 64


@given(fuzzing.damaged(LOGINS))
def test_packets_before_the_login(data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        length = startup.needed(data)
        if len(data) >= length:
            startup.decode(data[:length])


@given(fuzzing.damaged(SESSIONS), POINTS, st.integers(1, 3))
def test_a_servers_answer(data: bytes, points: list[int], readies: int) -> None:
    """Servers' messages are framed alike: what is passed on is what came."""
    relay = Relay()
    relay.begin(readies, None, False, 0, False, False)
    passed = 0
    with contextlib.suppress(ProtocolViolation):
        for piece in cuts(data, points):
            passed += len(relay.feed(piece))
            if relay.done:
                break
    assert passed <= len(data)
