"""The commonest batch has a way of its own through the intake: it must not show."""

from hypothesis import example, given
from hypothesis import strategies as st

from proxy.session.batch import Batch
from proxy.session.intake import Intake
from proxy.session.prepared import PreparedRegistry
from proxy.wire.errors import ProtocolViolation


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


PARSE = message(b"P", b"\0select $1\0\0\0")
BIND = message(b"B", b"\0\0\0\0\0\1\0\0\0\x0212\0\0")
NAMED = message(b"B", b"\0one\0\0\0\0\1\0\0\0\x0212\0\0")
DESCRIBE = message(b"D", b"P\0")
EXECUTE = message(b"E", bytes(5))
SYNC = message(b"S")

texts = st.lists(
    st.one_of(
        st.sampled_from([PARSE, BIND, NAMED, DESCRIBE, EXECUTE, SYNC]),
        st.sampled_from([PARSE + BIND, BIND + EXECUTE + SYNC, NAMED + DESCRIBE + EXECUTE + SYNC]),
        st.builds(message, st.sampled_from([b"B", b"D", b"E", b"H"]), st.binary(max_size=9)),
    )
).map(b"".join)


def batches(data: bytes, at_once: bool) -> list[tuple[object, ...]]:
    """What an intake makes of `data`, given whole or byte by byte."""
    intake = Intake(PreparedRegistry(), 1 << 20)
    intake.append(message(b"P", b"one\0select 1\0\0\0") + SYNC)
    found = [intake.next()]
    for piece in [data] if at_once else [data[at : at + 1] for at in range(len(data))]:
        intake.append(piece)
        try:
            while (batch := intake.next()) is not None:
                found.append(batch)
        except ProtocolViolation:
            return [*map(told, found), ("violation",)]
    return [*map(told, found)]


def told(batch: Batch | None) -> tuple[object, ...]:
    assert batch is not None
    references = [
        (one.prepared.name, one.action, one.client_name, one.unnamed)
        for one in batch.references or ()
    ]
    names = [one.name for one in batch.bound]
    described = batch.described and batch.described.name
    unnamed = batch.unnamed and batch.unnamed.name
    return (
        *(batch.end, batch.shape, batch.payload, references, names, batch.binds),
        *(described, unnamed, batch.closed_statements, batch.unseen, batch.runs),
    )


@given(texts)
@example(PARSE + BIND + DESCRIBE + EXECUTE + SYNC + NAMED + EXECUTE + SYNC)
@example(BIND + EXECUTE + SYNC)
@example(PARSE + SYNC + BIND + EXECUTE + SYNC)
def test_batches_are_the_same_however_their_bytes_come(data: bytes) -> None:
    assert batches(data, at_once=True) == batches(data, at_once=False)
