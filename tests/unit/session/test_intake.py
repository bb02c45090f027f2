"""A client's bytes to batches: the same batches however the bytes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.batch import FLUSH, FUNCTION_CALL, OVERFLOW, QUERY, SYNC, TERMINATE, Batch
from proxy.session.intake import MAX_BATCH, CopyIntake, Intake
from proxy.session.prepared import PreparedRegistry
from proxy.wire.errors import ProtocolViolation
from tests.integration.session import raw
from tests.unit.session.streams import POINTS, bytewise, cuts

LIMIT = 1 << 30


def batches(*pieces: bytes) -> list[Batch]:
    """What comes out while the pieces go in."""
    intake = Intake(PreparedRegistry(), LIMIT)
    found = []
    for piece in pieces:
        intake.append(piece)
        while (batch := intake.next()) is not None:
            found.append(batch)
    return found


def summary(batch: Batch) -> tuple[object, ...]:
    """All that matters of a batch, but how its bytes are cut into parts."""
    references = [
        (b"".join((batch.parts or [])[: each.index]), each.prepared.content, each.action)
        for each in batch.references or ()
    ]
    return (
        batch.end,
        batch.shape,
        batch.payload,
        batch.text,
        [each.content for each in batch.bound],
        batch.binds,
        batch.described.content if batch.described else None,
        batch.unnamed.content if batch.unnamed else None,
        references,
    )


NAMES = st.sampled_from(["", "a", "b"])
MESSAGES = st.one_of(
    st.builds(raw.parse, st.sampled_from(["SELECT 1", "SELECT $1", ""]), NAMES),
    st.builds(raw.bind, st.binary(max_size=20), name=NAMES, portal=NAMES),
    st.builds(raw.execute, NAMES, st.sampled_from([0, 5])),
    st.builds(raw.describe, NAMES),
    st.builds(raw.describe_portal, NAMES),
    st.builds(raw.close, NAMES),
    st.builds(raw.close_portal, NAMES),
    st.builds(raw.query, st.sampled_from(["SELECT 2", ""])),
    st.just(raw.SYNC),
    st.just(raw.FLUSH),
    st.builds(raw.copy_data, st.binary(max_size=9)),
    st.just(raw.message("F", b"\0\0\0\1\0\0\0\0\0\0")),
)


@given(st.lists(MESSAGES, max_size=25), POINTS)
def test_any_cut_gives_the_same_batches(stream: list[bytes], points: list[int]) -> None:
    data = b"".join(stream) + raw.SYNC
    whole = [summary(batch) for batch in batches(data)]
    assert [summary(batch) for batch in batches(*cuts(data, points))] == whole
    assert [summary(batch) for batch in batches(*bytewise(data))] == whole


@given(st.lists(MESSAGES, max_size=25))
def test_what_names_no_statement_is_sent_as_it_came(stream: list[bytes]) -> None:
    kept = [
        each for each in stream if each[:1] in b"QESHF" or (each[:1] == b"D" and each[5:6] == b"P")
    ]
    data = b"".join(kept) + raw.SYNC
    assert b"".join(batch.payload for batch in batches(data)) == data


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (raw.query("x"), [(QUERY, b"Q")]),
        (raw.run("x") + raw.SYNC, [(SYNC, b"PBES")]),
        (
            raw.parse("x") + raw.bind() + raw.describe_portal() + raw.execute() + raw.SYNC,
            [(SYNC, b"PBDES")],
        ),
        (raw.parse("x", "s") + raw.describe("s") + raw.FLUSH, [(FLUSH, b"PdH")]),
        (raw.run("x") + raw.FLUSH + raw.SYNC, [(FLUSH, b"PBEH"), (SYNC, b"S")]),
        (raw.run("x") + raw.query("y"), [(OVERFLOW, b"PBE"), (QUERY, b"Q")]),
        (raw.SYNC + raw.SYNC, [(SYNC, b"S"), (SYNC, b"S")]),
        (raw.parse("x") + raw.bind(portal="p") + raw.execute("p", 9) + raw.SYNC, [(SYNC, b"PbeS")]),
        (raw.bind(name="unknown") + raw.execute() + raw.SYNC, [(SYNC, b"B?ES")]),
        (raw.close("s") + raw.close_portal("p") + raw.SYNC, [(SYNC, b"CCS")]),
        (raw.message("F", b"abc"), [(FUNCTION_CALL, b"F")]),
        (raw.TERMINATE, [(TERMINATE, b"X")]),
    ],
)
def test_shapes(stream: bytes, expected: list[tuple[int, bytes]]) -> None:
    assert [(batch.end, batch.shape) for batch in batches(stream)] == expected


def test_statement_names_become_the_servers() -> None:
    (batch,) = batches(
        raw.parse("SELECT 1", "mine") + raw.bind(name="mine") + raw.describe("mine") + raw.SYNC
    )
    name = batch.bound[0].name
    assert b"mine" not in batch.payload
    assert batch.payload == (raw.bind(name=name.decode()) + raw.describe(name.decode()) + raw.SYNC)


def test_the_same_text_has_the_same_name_for_all() -> None:
    registry = PreparedRegistry()
    found = []
    for name in ("one", "two"):
        intake = Intake(registry, LIMIT)
        intake.append(raw.parse("SELECT 1", name) + raw.SYNC)
        batch = intake.next()
        assert batch is not None
        assert batch.references is not None
        found.append(batch.references[0].prepared)
    assert found[0] is found[1]


def test_types_of_parameters_make_another_statement() -> None:
    stream = raw.parse("SELECT $1", "a", [23]) + raw.parse("SELECT $1", "b", [25]) + raw.SYNC
    (batch,) = batches(stream)
    assert batch.references is not None
    first, second = (each.prepared for each in batch.references)
    assert first.name != second.name
    assert (first.oids, second.oids) == ((23,), (25,))


def test_large_batches_are_sent_in_parts() -> None:
    part = raw.run("SELECT $1", b"x" * (MAX_BATCH // 4))
    found = batches(part * 10 + raw.SYNC)
    assert [batch.end for batch in found][:-1] == [OVERFLOW] * (len(found) - 1)
    assert found[-1].end == SYNC
    assert max(len(batch.payload) for batch in found) < 2 * MAX_BATCH
    assert b"".join(batch.shape for batch in found) == b"PBE" * 10 + b"S"


def test_a_long_message_waits_for_its_end() -> None:
    intake = Intake(PreparedRegistry(), LIMIT)
    data = raw.query("x" * 500_000)
    for start in range(0, len(data) - 1000, 1000):
        intake.append(data[start : start + 1000])
        assert intake.next() is None
    assert intake.gathering
    intake.append(data[len(data) - len(data) % 1000 :] if len(data) % 1000 else data[-1000:])
    batch = intake.next()
    assert batch is not None
    assert batch.data == data
    assert not intake.gathering


@pytest.mark.parametrize(
    "garbage",
    [
        b"z\0\0\0\4",
        b"z\0\0\xff\xff",
        b"p\0\0\0\5x",
        b"Q\0\0\0\3",
        b"Q\0\0\0\0\0",
        b"Q\xff\xff\xff\xff",
    ],
)
def test_violations(garbage: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        batches(garbage)
    with pytest.raises(ProtocolViolation):
        batches(*bytewise(garbage))


@pytest.mark.parametrize(
    "garbage",
    [
        b"P\0\0\0\4",
        b"P\0\0\0\6ab",
        b"P\0\0\0\x07a\0b",
        b"B\0\0\0\4",
        b"B\0\0\0\x0cabcdefgh",
        b"D\0\0\0\4",
        b"D\0\0\0\7Sab",
        b"C\0\0\0\5S",
    ],
)
def test_what_is_malformed_inside_is_the_servers_to_refuse(garbage: bytes) -> None:
    for found in batches(garbage + raw.SYNC), batches(*bytewise(garbage + raw.SYNC)):
        (batch,) = found
        assert batch.payload == garbage + raw.SYNC
        assert batch.unseen
        assert not batch.bound


@pytest.mark.parametrize("rest", [b"\0", b"\0\0\0\0\0\0"])
def test_an_unnamed_statement_that_the_client_has_not_is_nobody_elses(rest: bytes) -> None:
    """The server's own may be another client's."""
    bind = raw.message("B", b"\0\0" + rest)
    for message, wanted in (
        (bind, raw.message("B", b"\0penstock_none\0" + rest)),
        (raw.describe(), raw.describe("penstock_none")),
    ):
        (batch,) = batches(message + raw.SYNC)
        assert batch.payload == wanted + raw.SYNC
        assert not batch.bound


def test_a_query_without_its_end_has_no_text() -> None:
    (batch,) = batches(b"Q\0\0\0\6xy")
    assert (batch.end, batch.payload, batch.text) == (QUERY, b"Q\0\0\0\6xy", None)


@given(st.binary(max_size=200), POINTS)
def test_any_bytes_are_taken_or_refused(data: bytes, points: list[int]) -> None:
    """And in the same way however they are cut."""

    def outcome(*pieces: bytes) -> str | list[tuple[object, ...]]:
        try:
            return [summary(batch) for batch in batches(*pieces)]
        except ProtocolViolation:
            return "refused"

    assert outcome(*cuts(data, points)) == outcome(data)


# COPY

COPY_MESSAGES = st.one_of(
    st.builds(raw.copy_data, st.binary(max_size=50)), st.just(raw.SYNC), st.just(raw.FLUSH)
)


@given(
    st.lists(COPY_MESSAGES, max_size=12),
    st.sampled_from([raw.COPY_DONE, raw.copy_fail("no")]),
    st.binary(max_size=30),
    POINTS,
)
def test_copy_passes_everything_up_to_its_end(
    stream: list[bytes], end: bytes, behind: bytes, points: list[int]
) -> None:
    data = b"".join(stream) + end
    intake = CopyIntake()
    passed = rest = b""
    for piece in cuts(data + behind, points):
        if intake.ended:
            rest += piece
            continue
        out, after = intake.feed(piece)
        passed += out
        rest += after
    assert intake.ended
    assert (passed, rest) == (data, behind)


@given(st.binary(min_size=10, max_size=60), st.integers(6, 60), POINTS)
def test_draining_takes_the_rest_of_a_message_and_no_more(
    body: bytes, cut: int, points: list[int]
) -> None:
    message = raw.copy_data(body)
    cut = min(cut, len(message) - 1)
    intake = CopyIntake()
    passed, _ = intake.feed(message[:cut])
    assert intake.drain()
    rest = b""
    for piece in cuts(message[cut:] + b"next", points):
        if intake.ended:
            rest += piece
            continue
        out, after = intake.feed(piece)
        passed += out
        rest += after
    assert (passed, rest) == (message, b"next")


@pytest.mark.parametrize("header", [b"", b"d", b"d\0\0\0", b"c\0\0"])
def test_between_messages_there_is_nothing_to_drain(header: bytes) -> None:
    intake = CopyIntake()
    passed, _ = intake.feed(raw.copy_data(b"x") + header)
    assert passed == raw.copy_data(b"x")
    assert not intake.drain()
    assert intake.rest() == header


@pytest.mark.parametrize("garbage", [raw.query("x"), raw.TERMINATE, b"d\0\0\0\3", b"z\0\0\0\4"])
def test_what_has_no_place_in_copy(garbage: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        CopyIntake().feed(raw.copy_data(b"1\n") + garbage)
