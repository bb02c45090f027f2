"""What a client sends up to a Sync, Flush or simple Query, made ready for any backend.

Statement names are already the server's; what depends on the backend (which statements it has
prepared) is settled by `render`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.session.prepared import MISSING_NAME, Prepared
from proxy.wire.messages import close_statement, parse

QUERY: Final = 81  # Q
SYNC: Final = 83  # S
FLUSH: Final = 72  # H
FUNCTION_CALL: Final = 70  # F
TERMINATE: Final = 88  # X
OVERFLOW: Final = 43  # +
"""Not a message: the batch grew so large that its first part is sent before its end is known."""

# How an answer's ParseComplete or CloseComplete is passed on.
FORWARD: Final = 0
SWALLOW: Final = 1  # Penstock's own Parse or Close
AS_PARSE: Final = 2  # a Close that stood in for the client's Parse

# What a reference does.
USES: Final = 0  # Bind or Describe of a statement: it must be prepared before
PARSES: Final = 1  # the client's Parse of a named statement
PARSES_AGAIN: Final = 2  # the client's Parse of a name that it has already: the server must object
CLOSES: Final = 3  # the client's Close of a name that it has: others may go on with the statement


@dataclass(slots=True)
class Reference:
    """A place in a batch, before its part `index`, that names a statement."""

    index: int
    prepared: Prepared
    action: int
    client_name: bytes
    unnamed: bool = False


@dataclass(slots=True)
class Ack:
    """An expected ParseComplete or CloseComplete."""

    action: int
    prepared: Prepared | None = None
    client_name: bytes | None = None
    evicts: bytes | None = None
    closes: bool = False
    """`client_name` stood for `prepared`, and does again if the Close is skipped."""


class Batch:
    """One unit of work; see the module's docstring."""

    __slots__ = (
        "binds",
        "bound",
        "closed_statements",
        "data",
        "described",
        "end",
        "parsed",
        "parts",
        "references",
        "runs",
        "shape",
        "text",
        "unnamed",
        "unseen",
    )

    def __init__(self, end: int, shape: bytes, data: bytes, text: bytes | None = None) -> None:
        self.end = end
        self.shape = shape
        """A letter per message: P B D E C S, and b named portal, d Describe of a statement,
        e Execute with a row limit; "Q" for a simple Query."""
        self.data = data
        """What to send as it is, if `parts` is None."""
        self.text = text
        """The text of a simple Query, without its end."""
        self.parts: list[bytes] | None = None
        self.references: list[Reference] | None = None
        self.bound: list[Prepared] = []
        """Statements bound, in order."""
        self.described: Prepared | None = None
        """The statement parsed or described last: what routes a batch that binds nothing."""
        self.binds: list[bytes] = []
        """Their Bind messages from the parameter formats on."""
        self.unnamed: Prepared | None = None
        """What the unnamed statement is after this batch, if it parses one."""
        self.unseen = False
        """It binds a statement whose text is not known."""
        self.closed_statements = 0
        self.parsed: list[bytes] | None = None
        """Names parsed up to here since the last Sync, where the server knows them by these."""
        self.runs = end == QUERY
        """It has more than Close, Sync and Flush."""

    @property
    def last_unnamed(self) -> Prepared | None:
        """What the server's unnamed statement is after this batch, if the batch decides that."""
        last = self.unnamed
        if self.references is None:
            return last
        for reference in self.references:
            if reference.unnamed:
                last = reference.prepared
        return last

    @property
    def payload(self) -> bytes:
        return self.data if self.parts is None else b"".join(self.parts)


def is_ready(batch: Batch, prepared: Iterable[bytes], unnamed: object | None) -> bool:
    """Whether the batch can be sent as it is to a backend that has these statements."""
    references = batch.references
    if references is None:
        return True
    return all(
        reference.action == USES
        and (
            reference.prepared is unnamed
            if reference.unnamed
            else reference.prepared.name in prepared
        )
        for reference in references
    )


def render(
    batch: Batch, prepared: dict[bytes, None], unnamed: object | None, capacity: int
) -> tuple[bytes, list[Ack]]:
    """The bytes for a backend that has `prepared` (brought up to date here), and the acks to come.

    Statements that are missing are parsed first; a Parse of one that is there becomes a Close of
    nothing, whose answer takes the place of ParseComplete; over `capacity` the oldest are closed.
    """
    references = batch.references or []
    parts = batch.parts if batch.parts is not None else [batch.data]
    out: list[bytes] = []
    acks: list[Ack] = []
    done = 0
    for reference in references:
        while done < reference.index:
            out.append(parts[done])
            acks.extend(_own_acks(parts[done]))
            done += 1
        unnamed = _settle(reference, prepared, unnamed, out, acks)
    for part in parts[done:]:
        out.append(part)
        acks.extend(_own_acks(part))
    evictions = _evict(batch, prepared, capacity)
    if evictions:
        first = b"".join(close_statement(name) for name in evictions)
        return first + b"".join(out), [Ack(SWALLOW, evicts=name) for name in evictions] + acks
    return b"".join(out), acks


def _settle(
    reference: Reference,
    prepared: dict[bytes, None],
    unnamed: object | None,
    out: list[bytes],
    acks: list[Ack],
) -> object | None:
    statement = reference.prepared
    if reference.unnamed:
        if unnamed is not statement:
            out.append(parse(b"", statement.content))
            acks.append(Ack(SWALLOW))
        return statement
    if reference.action == CLOSES:
        out.append(close_statement(MISSING_NAME))
        acks.append(Ack(FORWARD, statement, reference.client_name, closes=True))
        return unnamed
    known = statement.name in prepared
    if reference.action == PARSES and known:
        out.append(close_statement(MISSING_NAME))
        acks.append(Ack(AS_PARSE, statement, reference.client_name))
    elif reference.action == PARSES:
        out.append(parse(statement.name, statement.content))
        acks.append(Ack(FORWARD, statement, reference.client_name))
    elif not known:
        out.append(parse(statement.name, statement.content))
        acks.append(Ack(SWALLOW, statement))
    if reference.action == PARSES_AGAIN:
        out.append(parse(statement.name, statement.content))
        acks.append(Ack(FORWARD))
    prepared[statement.name] = None
    return unnamed


def _evict(batch: Batch, prepared: dict[bytes, None], capacity: int) -> list[bytes]:
    excess = len(prepared) - capacity
    if excess <= 0:
        return []
    needed = {reference.prepared.name for reference in batch.references or ()}
    names = [name for name in prepared if name not in needed][:excess]
    for name in names:
        del prepared[name]
    return names


def _own_acks(part: bytes) -> list[Ack]:
    """An Ack for every Parse and Close that the client itself sent in this part."""
    acks = []
    position = 0
    while position + 5 <= len(part):
        if part[position] in b"PC":
            acks.append(Ack(FORWARD))
        position += 1 + int.from_bytes(part[position + 1 : position + 5])
    return acks
