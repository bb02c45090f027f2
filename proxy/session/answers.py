"""Answers that Penstock gives by itself, in the shape that the client asked in."""

from proxy.session.batch import FLUSH, OVERFLOW, Batch
from proxy.wire.errors import PgError
from proxy.wire.messages import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    ready_for_query,
)

_PREAMBLES = {ord("P"): PARSE_COMPLETE, ord("B"): BIND_COMPLETE, ord("b"): BIND_COMPLETE}


def answer(
    shape: bytes,
    description: bytes,
    result: bytes,
    status: int,
    parameters: bytes = NO_PARAMETERS,
) -> bytes:
    """The answer to a batch of `shape` that runs one statement.

    `description` is a RowDescription or NoData, `result` the rows with their CommandComplete,
    `parameters` a ParameterDescription.
    """
    if shape == b"Q":
        described = b"" if description == NO_DATA else description
        return b"".join((described, result, ready_for_query(status)))
    out: list[bytes] = []
    for letter in shape:
        if letter in _PREAMBLES:
            out.append(_PREAMBLES[letter])
        elif letter == 68:
            out.append(description)
        elif letter == 100:
            out += (parameters, description)
        elif letter in b"Ee":
            out.append(result)
        elif letter == 67:
            out.append(CLOSE_COMPLETE)
        elif letter == 83:
            out.append(ready_for_query(status))
    return b"".join(out)


def failure(batch: Batch, error: PgError | None, status: int) -> bytes:
    """An ErrorResponse (None: one was sent before), and ReadyForQuery where the batch ends with
    what asks for it."""
    told = b"" if error is None else error.encode()
    return told if batch.end in (FLUSH, OVERFLOW) else told + ready_for_query(status)


CACHEABLE_SHAPES = frozenset({b"Q", b"PBDES", b"BDES", b"BES", b"PBES"})
"""Batches that run one statement once, whole: their answers can be kept."""
ONE_ROW_SHAPES = frozenset({b"PBDeS", b"BDeS", b"BeS", b"PBeS"})
"""Those that ask for one row of it, if `Batch.one_row`, and end its portal where no transaction is
open."""


def strip_preamble(reply: bytes) -> bytes | None:
    """A whole answer without ParseComplete and BindComplete before, ReadyForQuery after it.

    None if it is not the answer of one statement outside a failed transaction.
    """
    start = 0
    while reply[start : start + 1] in (b"1", b"2"):
        start += 5
    if reply[-6:-1] != b"Z\0\0\0\5" or reply[-1:] not in (b"I", b"T"):
        return None
    return reply[start:-6]


def add_preamble(shape: bytes, kept: bytes, status: int) -> bytes:
    """The whole answer for a batch of a cacheable `shape` from what `strip_preamble` left."""
    if shape == b"Q":
        return kept + ready_for_query(status)
    first = PARSE_COMPLETE + BIND_COMPLETE if shape[0] == 80 else BIND_COMPLETE
    return b"".join((first, kept, ready_for_query(status)))
