"""What a client sends up to a Sync, Flush or simple Query, made ready for any backend.

Statement names are already the server's; what depends on the backend (which statements it has
prepared) is settled by `render`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy.pool.description import STALE, Description
from proxy.session.prepared import MISSING_NAME, Prepared
from proxy.wire.messages import close_statement, describe_statement, parse

QUERY: Final = 81  # Q
SYNC: Final = 83  # S
FLUSH: Final = 72  # H
FUNCTION_CALL: Final = 70  # F
TERMINATE: Final = 88  # X
OVERFLOW: Final = 43  # +
"""Not a message: the batch grew so large that its first part is sent before its end is known."""

_DESCRIBE: Final = 68  # D
_PORTAL_DESCRIBED: Final = 68  # D, in a shape

# How an answer's ParseComplete or CloseComplete is passed on.
FORWARD: Final = 0
SWALLOW: Final = 1  # Penstock's own Parse or Close
AS_PARSE: Final = 2  # a Close that stood in for the client's Parse

# What a reference does.
USES: Final = 0  # Bind or Describe of a statement: it must be prepared before
PARSES: Final = 1  # the client's Parse of a named statement
PARSES_AGAIN: Final = 2  # the client's Parse of a name that it has already: the server must object
CLOSES: Final = 3  # the client's Close of a name that it has: others may go on with the statement
REQUIRES: Final = 4  # an EXECUTE in SQL: the server must know it


@dataclass(slots=True)
class Reference:
    """A place in a batch, before its part `index`, that names a statement."""

    index: int
    prepared: Prepared
    action: int
    client_name: bytes
    unnamed: bool = False
    unsure: bool = False
    """The client may have been told a description that nobody has kept."""


@dataclass(slots=True)
class Ack:
    """An expected ParseComplete or CloseComplete, or the answer to Describe of a statement."""

    action: int
    prepared: Prepared | None = None
    client_name: bytes | None = None
    evicts: bytes | None = None
    closes: bool = False
    """`client_name` stood for `prepared`, and does again if the Close is skipped."""
    describes: bool = False
    expected: Description | None = None
    """What the answer to Describe must agree with."""
    replaces: bool = False
    """Before this Parse the statement was closed."""


_NOTHING_BOUND: Final[list[Prepared]] = []
_NO_BINDS: Final[list[bytes]] = []


class Batch:
    """One unit of work; see the module's docstring."""

    __slots__ = (
        "binds",
        "bound",
        "closed_statements",
        "data",
        "described",
        "describes",
        "end",
        "one_row",
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
        self.bound: list[Prepared] = _NOTHING_BOUND
        """Statements bound, in order; the first makes a list of its own, as for `binds`."""
        self.described: Prepared | None = None
        """The statement parsed or described last: what routes a batch that binds nothing."""
        self.describes: list[tuple[bytes, Prepared | None]] | None = None
        """(client's name, statement) of each Describe of a statement, in order."""
        self.binds: list[bytes] = _NO_BINDS
        """Their Bind messages from the parameter formats on."""
        self.unnamed: Prepared | None = None
        """What the unnamed statement is after this batch, if it parses one."""
        self.unseen = False
        """It binds a statement whose text is not known."""
        self.closed_statements = 0
        self.parsed: list[bytes] | None = None
        """Names parsed up to here since the last Sync, where the server knows them by these."""
        self.one_row = False
        """The last Execute asks for one row, as drivers' calls for a single row or value do."""
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


def is_ready(
    batch: Batch, prepared: dict[bytes, Description | None], unnamed: object | None
) -> bool:
    """Whether the batch can be sent as it is to a backend that has these statements."""
    if batch.describes is not None:
        return False
    references = batch.references
    if references is None:
        return True
    for reference in references:
        if reference.action != USES:
            return False
        statement = reference.prepared
        if reference.unnamed:
            if statement is not unnamed:
                return False
            continue
        told, has = statement.description, prepared.get(statement.name, STALE)
        if has is STALE or (has is not told and told is not None):
            return False
        if told is None and _PORTAL_DESCRIBED in batch.shape:
            return False
    return True


def unverified(
    batch: Batch, prepared: dict[bytes, Description | None], unnamed: object | None
) -> list[Reference]:
    """Statements, each once, that may be others on this backend than the client was told."""
    found: dict[bytes, Reference] = {}
    for reference in batch.references or ():
        statement = reference.prepared
        told = statement.description
        if reference.action != USES or told is None or reference.client_name in found:
            continue
        if reference.unnamed:
            if statement is not unnamed and told.returns_rows:
                found[b""] = reference
        else:
            has = prepared.get(statement.name, STALE)
            if has is None or (told.returns_rows and (has is STALE or not has.agrees(told))):
                found[reference.client_name] = reference
    return list(found.values())


def render(
    batch: Batch,
    prepared: dict[bytes, Description | None],
    unnamed: object | None,
    capacity: int,
    afresh: bool = False,
) -> tuple[bytes, list[Ack]]:
    """The bytes for a backend that has `prepared` (brought up to date here), and the acks to come.

    Statements that are missing are parsed first, and described where the client was told what
    they are. A Parse of one that is there becomes a Close of nothing, whose answer takes the place
    of ParseComplete, unless all must be parsed `afresh`. Over `capacity` the oldest are closed.
    """
    references = batch.references or []
    parts = batch.parts if batch.parts is not None else [batch.data]
    described = iter(batch.describes or ())
    learns = _PORTAL_DESCRIBED in batch.shape and batch.describes is None
    out: list[bytes] = []
    acks: list[Ack] = []
    done = 0
    for reference in references:
        while done < reference.index:
            out.append(parts[done])
            acks.extend(_own_acks(parts[done], described))
            done += 1
        if reference.unnamed:
            if unnamed is not reference.prepared:
                unnamed = reference.prepared
                provide(reference.prepared, b"", STALE, False, out, acks)
        else:
            _settle(reference, prepared, learns, afresh, out, acks)
    for part in parts[done:]:
        out.append(part)
        acks.extend(_own_acks(part, described))
    evictions = _evict(batch, prepared, capacity)
    if evictions:
        first = b"".join(close_statement(name) for name in evictions)
        return first + b"".join(out), [Ack(SWALLOW, evicts=name) for name in evictions] + acks
    return b"".join(out), acks


def _settle(
    reference: Reference,
    prepared: dict[bytes, Description | None],
    learns: bool,
    afresh: bool,
    out: list[bytes],
    acks: list[Ack],
) -> None:
    statement, action = reference.prepared, reference.action
    if action == CLOSES:
        out.append(close_statement(MISSING_NAME))
        acks.append(Ack(FORWARD, statement, reference.client_name, closes=True))
        return
    name = statement.name
    there = name in prepared
    has = prepared.get(name, STALE)
    if action == PARSES and has is not STALE and not afresh:
        out.append(close_statement(MISSING_NAME))
        acks.append(Ack(AS_PARSE, statement, reference.client_name))
    elif action == PARSES:
        if there:
            out.append(close_statement(name))
            acks.append(Ack(SWALLOW))
        out.append(parse(name, statement.content))
        acks.append(Ack(FORWARD, statement, reference.client_name, replaces=there))
        has = None
    if action == PARSES:
        if learns and has is None:
            _describe(statement, name, out, acks)
        prepared[name] = has
    else:
        prepared[name] = provide(statement, name, has, there, out, acks, learns)
    if action == PARSES_AGAIN:
        out.append(parse(name, statement.content))
        acks.append(Ack(FORWARD))


def provide(
    statement: Prepared,
    name: bytes,
    has: Description | None,
    there: bool,
    out: list[bytes],
    acks: list[Ack],
    learns: bool = False,
) -> Description | None:
    """Have the backend prepare the statement as `name`, and say what it is, as far as needed.

    `has` is what it is on the backend: STALE or another description than the client's makes it
    parsed, after a Close where it is `there`. Returns what it is then, if all goes well.
    """
    told = statement.description
    if has is not None and has is not STALE and (told is None or has.agrees(told)):
        return has
    if has is not None:
        if there:
            out.append(close_statement(name))
            acks.append(Ack(SWALLOW))
        out.append(parse(name, statement.parse_body))
        acks.append(Ack(SWALLOW, statement if name else None, replaces=there))
        if told is not None and told.parameters is not None and not told.returns_rows:
            return told
    if told is not None or learns:
        _describe(statement, name, out, acks)
    return told


def _describe(statement: Prepared, name: bytes, out: list[bytes], acks: list[Ack]) -> None:
    out.append(describe_statement(name))
    acks.append(
        Ack(SWALLOW, statement if name else None, describes=True, expected=statement.description)
    )


def _evict(batch: Batch, prepared: dict[bytes, Description | None], capacity: int) -> list[bytes]:
    excess = len(prepared) - capacity
    if excess <= 0:
        return []
    needed = {reference.prepared.name for reference in batch.references or ()}
    names = [name for name in prepared if name not in needed][:excess]
    for name in names:
        del prepared[name]
    return names


def _own_acks(part: bytes, described: Iterator[tuple[bytes, Prepared | None]]) -> list[Ack]:
    """An Ack for every Parse, Close and Describe of a statement that the client itself sent."""
    acks = []
    position = 0
    while position + 5 <= len(part):
        kind = part[position]
        if kind in b"PC":
            acks.append(Ack(FORWARD))
        elif kind == _DESCRIBE and part[position + 5 : position + 6] == b"S":
            client_name, statement = next(described, (b"", None))
            acks.append(Ack(FORWARD, statement, client_name, describes=True))
        position += 1 + int.from_bytes(part[position + 1 : position + 5])
    return acks
