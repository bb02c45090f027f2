"""A server's answer on its way to a client. Pure: bytes in, bytes out, and what was noticed.

Bodies are never parsed but for the few messages that matter: ReadyForQuery ends a batch,
ErrorResponse may send it elsewhere, ParameterStatus and the COPY responses change the session.
Rows of any size pass through in the pieces in which they came.
"""

from collections import deque
from typing import Final

from proxy.pool.description import Description, describe
from proxy.session.batch import AS_PARSE, FORWARD, Ack, Reference
from proxy.wire import scan
from proxy.wire.errors import (
    CHANGED_RESULT,
    LAST_WORDS,
    READ_ONLY_SQL_TRANSACTION,
    ProtocolViolation,
    error_fields,
)
from proxy.wire.framing import uint32_at
from proxy.wire.messages import PARSE_COMPLETE

_answered: Final = scan.answered
_skip: Final = scan.skip
_READY: Final = 90  # Z
_ERROR: Final = 69  # E
_STATUS: Final = 83  # S
_COPY_IN: Final = 71  # G
_COPY_BOTH: Final = 87  # W
_PARSE_COMPLETE: Final = 49  # 1
_CLOSE_COMPLETE: Final = 51  # 3
_COMMAND_COMPLETE: Final = 67  # C
_DATA_ROW: Final = 68  # D
_COPY_DATA: Final = 100  # d
_NOTICE: Final = 78  # N
_NOTIFICATION: Final = 65  # A
_PARAMETER_DESCRIPTION: Final = 116  # t
_ROW_DESCRIPTION: Final = 84  # T
_NO_DATA: Final = 110  # n

# What a relay looks at beyond the messages above; the sum picks a table.
_ACKS: Final = 1
_CAPTURE: Final = 2
_RETRY: Final = 4
_HOLD: Final = 8
_COUNTS: Final = 16
_TABLE_BITS: Final = 31
_LINGERS: Final = 32
"""Something is held back that must go first."""
_ON_PRIMARY: Final = 64
"""A refusal to write is none of a standby's."""

_ANSWERS: Final = b"123TnCIs"
"""One of them for each message of the extended protocol, if there is no error."""

_MAX_HELD: Final = 1 << 20
_MAX_LENGTH: Final = 1 << 30
"""PostgreSQL makes no longer messages (MaxAllocSize in memutils.h)."""


def _table(flags: int) -> bytes:
    kinds = set(b"ZESGW")
    if flags & _ACKS:
        kinds |= set(b"13tTn")
    if flags & _CAPTURE:
        kinds |= set(b"NA")
    if flags & _RETRY:
        kinds |= set(b"DCIsdHV")
    if flags & _HOLD:
        kinds |= set(b"C")
    if flags & _COUNTS:
        kinds |= set(_ANSWERS)
    return bytes(kind in kinds for kind in range(256))


PLAIN: Final = _table(0)
"""Flags by type of message: whether it makes an answer one that has to be looked at."""
_TABLES: Final = tuple(_table(flags) for flags in range(_TABLE_BITS + 1))


class Relay:
    """The state of one client's answers; `begin` starts a batch, `feed` takes the server's bytes.

    After each `feed`: `done` (the batch ended, with transaction `status`, and `rest` came behind
    it), `copy_in` (the server waits for COPY data), `retry` (a standby refused it and the client
    has seen nothing), `statuses` (bodies of ParameterStatus), `errors` (of ErrorResponse).
    """

    __slots__ = (
        "_capture",
        "_capture_room",
        "_describing",
        "_flags",
        "_head",
        "_heals",
        "_holding",
        "_parameters",
        "_preamble",
        "_remaining",
        "_table",
        "acks",
        "answered",
        "awaiting",
        "changed",
        "copy_in",
        "described",
        "done",
        "errors",
        "failed_acks",
        "held",
        "muted",
        "noteworthy",
        "rest",
        "retry",
        "status",
        "statuses",
        "tells",
    )

    def __init__(self) -> None:
        self.acks: deque[Ack] = deque()
        self.awaiting = 0
        """ReadyForQuery messages that are still to come."""
        self.answered = 0
        """Messages answered since `begin`, counted if its batch had no end."""
        self.done = True
        self.status = ord("I")
        self.copy_in = False
        self.retry = False
        self.statuses: list[bytes] = []
        self.errors: list[bytes] = []
        self.failed_acks: list[Ack] = []
        """Acks that an error kept from coming."""
        self.described: list[tuple[Ack, Description]] = []
        """Answers to Describe of a statement."""
        self.tells: list[Reference] = []
        """Statements of which the client is told by way of a portal."""
        self.noteworthy = False
        """There are errors, descriptions, or `tells`."""
        self.changed = False
        """A statement turned out to be another than the client was told: nothing is passed on."""
        self.held = b""
        """The end of an answer that may be passed on only when the caller says so."""
        self.muted = False
        """Notifications are not passed on: the client gets them by another way."""
        self.rest = b""
        self._flags = 0
        self._table = _TABLES[0]
        self._head = b""
        self._remaining = 0
        self._preamble = b""
        self._holding = False
        self._heals = False
        self._describing: Ack | None = None
        self._parameters = b""
        self._capture: list[bytes] | None = None
        self._capture_room = 0

    def begin(
        self,
        readies: int,
        acks: list[Ack] | None,
        may_retry: bool,
        capture_room: int,
        hold: bool,
        heals: bool = False,
    ) -> None:
        """A batch was sent whose answer ends with the last of `readies` ReadyForQuery messages.

        `capture_room`: bytes of the answer to keep for the cache, 0 for none. `hold`: keep back
        the pieces of the answer from the first CommandComplete on. `heals`: `retry` also where a
        prepared statement's result has changed.
        """
        self.awaiting = readies
        flags = 0
        self.done = False
        capture = capture_room or self.muted
        if acks or may_retry or capture or hold or not readies or self._flags:
            flags = (
                (_ACKS if acks else 0)
                | (_CAPTURE if capture else 0)
                | (_RETRY if may_retry or heals else 0)
                | (_ON_PRIMARY if heals and not may_retry else 0)
                | (_HOLD if hold else 0)
                | (0 if readies else _COUNTS)
            )
            if acks or self.acks:
                self.acks = deque(acks or ())
            self.answered = 0
            self._heals, self.changed, self._describing = heals, False, None
            self._capture = [] if capture_room else None
            self._capture_room = capture_room
            self._holding = False
            self.held = self._preamble = b""
            self._flags = flags
            self._table = _TABLES[flags & _TABLE_BITS]
        self.retry = self.copy_in = False
        if self.noteworthy:
            self.errors, self.failed_acks, self.described, self.tells = [], [], [], []
            self.noteworthy = False

    def extend(self, readies: int, acks: list[Ack] | None) -> None:
        """More was sent as part of the same exchange."""
        self.awaiting += readies
        self.done = False
        if acks and self.errors:  # the server skips all until Sync
            self.failed_acks.extend(acks)
        elif acks:
            self.acks.extend(acks)
            self._flags |= _ACKS
            self._table = _TABLES[self._flags & _TABLE_BITS]

    @property
    def untouched(self) -> bool:
        """Whether the client has seen nothing of a batch that may be tried again."""
        return bool(self._flags & _RETRY)

    @property
    def mid_message(self) -> bool:
        """Whether the client has been sent part of a message."""
        return self._remaining > 0

    def captured(self) -> bytes | None:
        """The whole answer as the client saw it, or None where it can't be kept."""
        return None if self._capture is None else b"".join(self._capture)

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on now. Raises ProtocolViolation if the server lost its way."""
        size = len(data)
        if self._head:
            data = self._head + data
            self._head = b""
            size = len(data)
        elif self._flags | _RETRY == _RETRY and self.awaiting == 1 and not self._preamble:
            status = _answered(data, self._remaining, _TABLES[0])
            if status:  # the whole of an answer, or all that was missing, as nearly always
                self.awaiting = self._remaining = 0
                self.done = True
                self.status = status
                return data
        position = self._remaining
        if position >= size:
            self._remaining = position - size
            return self._pass(data)
        self._remaining = 0
        table = self._table
        out: list[bytes] | None = None
        start = 0
        while True:
            position = _skip(data, position, table)
            if size - position < 5:
                break
            length = uint32_at(data, position + 1)
            end = position + 1 + length
            kind = data[position]
            if length < 4:
                raise _impossible(kind, length)
            if not table[kind]:
                pass
            elif end <= size or kind in (_DATA_ROW, _COPY_DATA):
                passed = self._notice(kind, data, position, end)
                table = self._table
                if passed is not None:
                    out = out or []
                    out.append(data[start:position])
                    out.append(passed)
                    start = end
                if self.done:
                    self.rest = data[end:]
                    data, size, position = data[:end], end, end
                    break
                if end <= size:
                    position = end
                    continue
            elif length <= _MAX_LENGTH:
                break  # a message that matters is looked at when it is whole
            if length > _MAX_LENGTH:
                raise _impossible(kind, length)
            self._remaining = end - size
            position = size
        if position < size:
            self._head = data[position:]
            data = data[:position]
        if start:
            data = data[start:]
        if out is not None:
            out.append(data)
            data = b"".join(out)
        return self._pass(data)

    def _pass(self, data: bytes) -> bytes:
        """What of `data` may go to the client now."""
        if not self._flags:
            return data
        if self.retry:
            return b""
        if self._flags & _RETRY and not self.done:
            self._preamble += data
            return b""
        if self._preamble:
            data, self._preamble = self._preamble + data, b""
        if self._capture is not None:
            self._capture_room -= len(data)
            if self._capture_room < 0:
                self._capture = None
            else:
                self._capture.append(data)
        if self._holding:
            self.held += data
            data = b""
            if len(self.held) > _MAX_HELD and not self.done:
                data, self.held = self.held, b""
        return data

    def _notice(self, kind: int, data: bytes, position: int, end: int) -> bytes | None:
        """Act on a message that matters; bytes to pass on in its place, or None to leave it."""
        if self._flags & _COUNTS and kind in _ANSWERS:
            self.answered += 1
        if kind == _READY:
            if end - position != 6:
                raise _impossible(kind, end - position - 1)
            self.status = data[position + 5]
            self.awaiting -= 1
            self.done = self.awaiting <= 0
            self._holding = bool(self._flags & _HOLD)
        elif kind in (_PARSE_COMPLETE, _CLOSE_COMPLETE):
            return self._ack()
        elif kind == _PARAMETER_DESCRIPTION:
            return self._begin_description(data[position + 5 : end])
        elif kind in (_ROW_DESCRIPTION, _NO_DATA):
            return self._end_description(data[position:end])
        elif kind == _ERROR:
            self._error(data[position + 5 : end])
        elif kind == _STATUS:
            self.statuses.append(data[position + 5 : end])
            self._capture = None
        elif kind in (_COPY_IN, _COPY_BOTH):
            self.copy_in = True
            self._capture = None
            self._no_retry()
        elif kind in (_NOTICE, _NOTIFICATION):
            self._capture = None
            if self.muted and kind == _NOTIFICATION:
                return b""
        else:
            self._no_retry()
            self._holding = self._holding or (kind == _COMMAND_COMPLETE and self._flags & _HOLD > 0)
        return None

    def _no_retry(self) -> None:
        if self._flags & _RETRY:
            self._flags &= ~_RETRY
            self._table = _TABLES[self._flags & _TABLE_BITS]
            self._flags |= _LINGERS  # keeps `_pass` at work until what it holds back has gone

    def _begin_description(self, parameters: bytes) -> bytes | None:
        if not self.acks or not self.acks[0].describes:
            raise ProtocolViolation("the server described a statement that nobody asked about")
        self._describing, self._parameters = self.acks.popleft(), parameters
        return None if self._describing.action == FORWARD else b""

    def _end_description(self, message: bytes) -> bytes | None:
        ack, self._describing = self._describing, None
        if ack is None:
            return None  # of a portal
        found = describe(self._parameters, message)
        self.described.append((ack, found))
        self.noteworthy = True
        if ack.expected is not None and not found.agrees(ack.expected):
            self.changed = self.retry = True
        return None if ack.action == FORWARD else b""

    def _ack(self) -> bytes | None:
        if not self.acks or self.acks[0].describes:
            raise ProtocolViolation("the server completed a Parse or Close that nobody sent")
        ack = self.acks.popleft()
        if ack.action == FORWARD:
            return None
        return PARSE_COMPLETE if ack.action == AS_PARSE else b""

    def _error(self, body: bytes) -> None:
        self.errors.append(body)
        self.noteworthy = True
        self._capture = None
        self.failed_acks.extend(self.acks)
        self.acks.clear()
        if self._flags & _RETRY:
            fields = error_fields(body)
            sqlstate, standby = fields.get("C"), not self._flags & _ON_PRIMARY
            if (standby and sqlstate == READ_ONLY_SQL_TRANSACTION) or (
                self._heals and fields.get("R") == CHANGED_RESULT
            ):
                self.retry = True
            elif not standby or sqlstate not in LAST_WORDS:  # the connection's end is made good
                self._no_retry()


def _impossible(kind: int, length: int) -> ProtocolViolation:
    return ProtocolViolation(f"the server sent a message {chr(kind)!r} with a length of {length}")
