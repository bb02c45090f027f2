"""Bytes of an authenticated client to batches. Pure: no socket, no clock, no routing."""

from typing import Final

from proxy.session.batch import (
    CLOSES,
    FLUSH,
    FUNCTION_CALL,
    OVERFLOW,
    PARSES,
    PARSES_AGAIN,
    QUERY,
    REQUIRES,
    SYNC,
    TERMINATE,
    USES,
    Batch,
    Reference,
)
from proxy.session.prepared import MISSING_NAME, Prepared, PreparedRegistry, renamed
from proxy.sql.prepared import executed
from proxy.wire import messages, scan
from proxy.wire.errors import ProtocolViolation
from proxy.wire.framing import uint32_at
from proxy.wire.scan import Execution

_execution: Final = scan.execution
_renamed: Final = scan.renamed
_PARSE: Final = 80  # P
_BIND: Final = 66  # B
_DESCRIBE: Final = 68  # D
_EXECUTE: Final = 69  # E
_CLOSE: Final = 67  # C
_COPY_DATA: Final = 100  # d
_COPY_DONE: Final = 99  # c
_COPY_FAIL: Final = 102  # f
_KINDS: Final = b"PBDECSHQFXdcf"
_STATEMENT: Final = 83  # S
_ZERO_ROWS: Final = b"\0\0\0\0"
_ONE_ROW: Final = b"\0\0\0\1"

MAX_BATCH: Final = 1 << 20
"""Bytes of a batch whose end has not come at which its first part is sent."""
MAX_PIPELINE: Final = 1 << 17
"""The same where it executes more than once: the client may want to hear of an error early."""
_EXECUTES: Final = 69  # E


class Intake:
    """A client's unread bytes, its prepared statements, and the batch that is being gathered.

    A message that is malformed inside goes to the server as it is, whose error the client gets.

    `keeps_names`: the client has a server connection of its own, where its statements have the
    names that it gives them.
    """

    __slots__ = (
        "_batch",
        "_data",
        "_generation",
        "_keeps_names",
        "_last",
        "_max_message",
        "_parsed",
        "_parts_size",
        "_pending",
        "_pending_need",
        "_pending_size",
        "_portals_described",
        "_position",
        "_registry",
        "_shape",
        "_size",
        "statements",
        "unnamed",
    )

    def __init__(
        self, registry: PreparedRegistry, max_message: int, keeps_names: bool = False
    ) -> None:
        self._registry = registry
        self._last: Prepared | None = None
        """What the registry gave last, in its `_generation`."""
        self._generation = 0
        self._keeps_names = keeps_names
        self._parsed: list[bytes] = []
        """Names parsed since the last Sync, if it keeps them."""
        self._max_message = max_message
        self._data = b""
        self._position = 0
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._pending_need = 0
        self._batch: Batch | None = None
        self._shape = bytearray()
        self._size = 0
        self.statements: dict[bytes, Prepared] = {}
        self.unnamed: Prepared | None = None
        self._portals_described = False
        """The client has ever been told of an unnamed statement's result by way of a portal."""

    @property
    def unread(self) -> int:
        """Bytes received and not yet part of a batch that was handed out."""
        return len(self._data) - self._position + self._pending_size

    @property
    def gathering(self) -> bool:
        """Whether part of a batch has come."""
        return self._batch is not None or self.unread > 0

    def append(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._pending:
            self._pending.append(data)
            self._pending_size += len(data)
            if self._pending_size >= self._pending_need:
                self._data, self._position = b"".join(self._pending), 0
                self._pending, self._pending_size = [], 0
        elif self._position >= len(self._data):
            self._data, self._position = data, 0
        else:
            self._data, self._position = self._data[self._position :] + data, 0

    def served(self, request: bytes, before: bytes) -> None:
        """The fast path has served requests, this one last; `before`: if that ran a statement by
        its name, the last that didn't."""
        if request[0] != _BIND:
            before = request
        if before:
            self._portals_described = True
            self.unnamed = self._registry.parsed_by(before)

    def forget(self, name: bytes) -> bool:
        """The client no longer has this statement; whether only Penstock needs to know that."""
        return self.statements.pop(name, None) is not None and not self._keeps_names

    def doubt(self, names: list[bytes]) -> None:
        """What these names stand for is not known: the server has not taken all their Parses."""
        for name in names:
            self.statements.pop(name, None)

    def undo(self, name: bytes, prepared: Prepared, closed: bool) -> None:
        """A Parse or Close of this name has had no effect."""
        if closed:
            self.statements.setdefault(name, prepared)
        else:
            self.statements.pop(name, None)

    def tell(self, name: bytes, prepared: Prepared, told: Prepared) -> None:
        """The client has been told what this statement of its is."""
        if not name:
            if self.unnamed is prepared:
                self.unnamed = told
        elif self.statements.get(name) is prepared:
            self.statements[name] = told

    def _is_unsure(self, unnamed: Prepared) -> bool:
        """Whether the client may have been told of this unnamed statement by way of a portal."""
        told = unnamed.description
        return told is None and self._portals_described and not self._keeps_names

    def forget_all(self) -> None:
        """The client has no statements any more."""
        self.statements.clear()
        self.unnamed = None

    def take_unread(self) -> bytes:
        """All bytes not yet read, for a mode in which they are not batches (COPY)."""
        rest = b"".join([self._data[self._position :], *self._pending])
        self._data, self._position, self._pending, self._pending_size = b"", 0, [], 0
        return rest

    def next(self) -> Batch | None:
        """The next batch, or None until more bytes have come. Raises ProtocolViolation."""
        data = self._data
        size = len(data)
        position = start = self._position
        if self._batch is None and position < size and data[position] in (_PARSE, _BIND):
            found = _execution(data, position)
            if found is not None:
                batch = self._execution(position, found)
                if batch is not None:
                    return batch
        while size - position >= 5:
            kind = data[position]
            length = uint32_at(data, position + 1)
            end = position + 1 + length
            if length < 4 or length > self._max_message:
                raise ProtocolViolation(
                    f"message {chr(kind)!r} with a length of {length} bytes: a length is from 4 to "
                    f"{self._max_message} (server.max_message_size)"
                )
            if end > size:
                if kind not in _KINDS:
                    raise _unknown(kind)
                self._keep_rest(start, position, length + 1)
                return None
            if kind in (QUERY, FUNCTION_CALL, TERMINATE):
                if self._batch is not None and (self._shape or position > start):
                    return self._finish(OVERFLOW, start, position)
                return self._single(kind, position, end)
            if kind in (SYNC, FLUSH):
                return self._finish(kind, start, end)
            if kind in (_COPY_DATA, _COPY_DONE, _COPY_FAIL):
                if self._batch is not None and (_EXECUTE in self._shape or 101 in self._shape):
                    return self._finish(OVERFLOW, start, position)  # it may be what begins COPY
                self._flush(start, position)  # outside COPY the server ignores them too
                start = end
            else:
                start = self._gather(kind, start, position, end)
            position = end
            if self._size + position - start > MAX_PIPELINE and self._is_too_large(start, position):
                return self._finish(OVERFLOW, start, position)
        self._keep_rest(start, position, 5)
        return None

    def _execution(self, start: int, found: Execution) -> Batch | None:
        """The batch as the messages one by one would give it; None where they have to be asked."""
        end, content, name, bind, describes = found
        if end - start > MAX_BATCH or end - start > self._max_message or self._parsed:
            return None
        data = self._data
        if content is not None:
            prepared = self.unnamed = self._registered(content)
            if prepared.executes is not None:
                return None
            whole = data if start == 0 and end == len(data) else data[start:end]
            batch = Batch(SYNC, b"PBDES" if describes else b"PBES", whole)
            batch.described = batch.unnamed = prepared
        else:
            known = self.statements.get(name) if name else self.unnamed
            if known is None or known.executes is not None:
                return None
            prepared = known
            if name and not self._keeps_names:
                whole = _renamed(data, start, end, len(name), prepared.name)
            else:
                whole = data if start == 0 and end == len(data) else data[start:end]
            batch = Batch(SYNC, b"BDES" if describes else b"BES", whole)
            if not name or not self._keeps_names:
                unsure = not name and self._is_unsure(prepared)
                batch.references = [Reference(0, prepared, USES, name, not name, unsure)]
        if describes:
            self._portals_described = True
        batch.bound = [prepared]
        batch.binds = [bind]
        batch.runs = True
        self._position = end
        return batch

    def _registered(self, content: bytes) -> Prepared:
        """The statement with this content, most often the same as last time."""
        last, registry = self._last, self._registry
        if last is not None and last.content == content and self._generation == registry.generation:
            registry.asked += 1
            return last
        found = registry.get(content)
        self._last, self._generation = found, registry.generation
        return found

    def _is_too_large(self, start: int, position: int) -> bool:
        if self._shape.count(_EXECUTES) > 1:
            return True
        return self._size + position - start > MAX_BATCH

    @property
    def unended(self) -> Batch | None:
        """Whole messages whose Sync or Flush has not come."""
        return self._batch

    def cut(self) -> Batch:
        """Give up waiting for the end of the batch that is unended."""
        return self._finish(OVERFLOW, self._position, self._position)

    def _single(self, kind: int, position: int, end: int) -> Batch:
        """A batch of one message: Query, FunctionCall or Terminate."""
        data = self._data
        self._batch = None
        self._position = end
        whole = data if position == 0 and end == len(data) else data[position:end]
        if kind != QUERY:
            return Batch(kind, b"F" if kind == FUNCTION_CALL else b"X", whole)
        self.unnamed = None
        if whole[-1]:  # length 4, or no zero byte at its end
            batch = Batch(QUERY, b"Q", whole)
            batch.unseen = True
            return batch
        return Batch(QUERY, b"Q", whole, whole[5:-1])

    def _keep_rest(self, start: int, position: int, need: int) -> None:
        self._flush(start, position)
        rest = self._data[position:]
        self._data, self._position = rest, 0
        if need > len(rest) + 65536:  # join the pieces of a large message once, when it is whole
            self._pending, self._pending_size, self._pending_need = [rest], len(rest), need
            self._data = b""

    def _open(self) -> Batch:
        if self._batch is None:
            self._batch = Batch(SYNC, b"", b"")
            self._shape = bytearray()
            self._size = 0
        return self._batch

    def _flush(self, start: int, end: int) -> None:
        """Messages from start to end go to the server as they are."""
        if end > start:
            batch = self._open()
            if batch.parts is None:
                batch.parts = []
            batch.parts.append(self._data[start:end])
            self._size += end - start

    def _finish(self, kind: int, start: int, end: int) -> Batch:
        batch = self._open()
        if batch.parts is None:
            data = self._data
            batch.data = data if start == 0 and end == len(data) else data[start:end]
        else:
            self._flush(start, end)
        if kind != OVERFLOW:
            self._shape.append(kind)
        batch.end = kind
        batch.shape = bytes(self._shape)
        if self._parsed:
            batch.parsed = self._parsed
            self._parsed = [] if kind == SYNC else list(self._parsed)
        self._batch = None
        self._position = end
        return batch

    def _replace(self, start: int, position: int, message: bytes) -> None:
        """Send `message` instead of the client's at `position`."""
        self._flush(start, position)
        batch = self._open()
        if batch.parts is None:
            batch.parts = []
        batch.parts.append(message)
        self._size += len(message)

    def _refer(
        self, start: int, position: int, prepared: Prepared, action: int, name: bytes
    ) -> None:
        """Note that the next part names a statement."""
        self._flush(start, position)
        batch = self._open()
        if batch.parts is None:
            batch.parts = []
        if batch.references is None:
            batch.references = []
        unnamed = not name and action == USES
        unsure = unnamed and self._is_unsure(prepared)
        batch.references.append(
            Reference(len(batch.parts), prepared, action, name, unnamed, unsure)
        )

    def _gather(self, kind: int, start: int, position: int, end: int) -> int:
        """Take one message of the extended protocol; gives the new start of what goes as it is."""
        batch = self._open()
        if kind != _CLOSE:
            batch.runs = True
        if kind == _BIND:
            return self._bind(batch, start, position, end)
        if kind == _EXECUTE:
            if self._data.startswith(_ZERO_ROWS, end - 4):
                self._shape.append(_EXECUTE)
            else:
                self._shape.append(101)
                batch.one_row = self._data.startswith(_ONE_ROW, end - 4)
            return start
        if kind == _PARSE:
            return self._parse(batch, start, position, end)
        if kind in (_DESCRIBE, _CLOSE):
            return self._describe_or_close(batch, kind, start, position, end)
        raise _unknown(kind)

    def _parse(self, batch: Batch, start: int, position: int, end: int) -> int:
        self._shape.append(_PARSE)
        data = self._data
        name_end = data.find(b"\0", position + 5, end)
        if name_end < 0 or data.find(b"\0", name_end + 1, end) < 0:
            batch.unseen = True
            return start
        prepared = self._registry.get(data[name_end + 1 : end])
        batch.described = prepared
        name = data[position + 5 : name_end]
        if prepared.executes is not None:
            prepared = batch.described = self._resolved(prepared)
            if prepared.runs is not None:  # the server takes its result's columns from that
                self._refer(start, position, prepared.runs, REQUIRES, b"")
                start = position
        if not name:
            self.unnamed = batch.unnamed = prepared
            if prepared.runs is None:
                return start
            self._replace(start, position, messages.parse(b"", prepared.content))
            return end
        if self._keeps_names:
            self._parsed.append(name)
            self.statements[name] = prepared
            return start
        action = PARSES_AGAIN if name in self.statements else PARSES
        if action == PARSES:
            self.statements[name] = prepared
        self._refer(start, position, prepared, action, name)
        return end

    def _bind(self, batch: Batch, start: int, position: int, end: int) -> int:
        data = self._data
        portal_end = data.find(b"\0", position + 5, end)
        self._shape.append(_BIND if portal_end == position + 5 else 98)
        name_end = data.find(b"\0", portal_end + 1, end) if portal_end >= 0 else -1
        if name_end < 0:
            batch.unseen = True
            return start
        name = data[portal_end + 1 : name_end]
        prepared = self._known(name)
        if prepared is None:
            batch.unseen = True
            self._shape.append(63)  # a statement that Penstock doesn't know: SQL PREPARE's, or none
            if self._keeps_names:
                return start
            # The server may have an unnamed one, of another client.
            known_as = name or MISSING_NAME
            bind = _bind(data[position + 5 : portal_end + 1], known_as, data[name_end:end])
            self._replace(start, position, bind)
            return end
        if end - name_end < 7:
            batch.unseen = True  # too short: the server looks at the name before it says so
        elif batch.bound:
            batch.bound.append(prepared)
            batch.binds.append(data[name_end + 1 : end])
        else:
            batch.bound, batch.binds = [prepared], [data[name_end + 1 : end]]
        if name and self._keeps_names:
            return start
        if prepared.runs is not None:
            self._refer(start, position, prepared.runs, REQUIRES, b"")
            start = position
        if name:
            self._refer(start, position, prepared, USES, name)
            head = data[position + 5 : portal_end + 1]
            self._replace(position, position, _bind(head, prepared.name, data[name_end:end]))
            return end
        if batch.unnamed is not prepared:
            self._refer(start, position, prepared, USES, b"")
            return position
        return start

    def _describe_or_close(
        self, batch: Batch, kind: int, start: int, position: int, end: int
    ) -> int:
        data = self._data
        if end - position < 7 or data[end - 1]:
            self._shape.append(63)
            batch.unseen = True
            return start
        of_statement = data[position + 5] == _STATEMENT
        name = data[position + 6 : end - 1]
        if kind == _CLOSE:
            self._shape.append(_CLOSE)
            if not of_statement:
                return start
            batch.closed_statements += 1
            if not name:
                self.unnamed = None
                return start
            closed = self.statements.pop(name, None)
            if closed is None or self._keeps_names:
                return start
            self._refer(start, position, closed, CLOSES, name)
            return end
        self._shape.append(100 if of_statement else _DESCRIBE)
        if not of_statement:
            self._portals_described = True
            return start
        prepared = self._known(name)
        if batch.describes is None:
            batch.describes = []
        batch.describes.append((name, prepared))
        if prepared is None:
            if name or self._keeps_names:
                return start
            self._replace(start, position, _describe(MISSING_NAME))
            return end
        batch.described = prepared
        if name and self._keeps_names:
            return start
        if prepared.runs is not None:
            self._refer(start, position, prepared.runs, REQUIRES, b"")
            start = position
        if name:
            self._refer(start, position, prepared, USES, name)
            self._replace(position, position, _describe(prepared.name))
            return end
        if batch.unnamed is not prepared:
            self._refer(start, position, prepared, USES, b"")
            return position
        return start

    def _known(self, name: bytes) -> Prepared | None:
        """What the client has under this name now; "" is the unnamed statement."""
        prepared = self.statements.get(name) if name else self.unnamed
        if prepared is None or prepared.executes is None:
            return prepared
        current = self._resolved(prepared)
        if current is not prepared:
            if name:
                self.statements[name] = current
            else:
                self.unnamed = current
        return current

    def _resolved(self, prepared: Prepared) -> Prepared:
        """An EXECUTE in SQL, as it has to be for the server, which has names of Penstock's."""
        if self._keeps_names:
            return prepared
        sent = prepared if prepared.original is None else prepared.original
        target = None if sent.executes is None else self.statements.get(sent.executes)
        return prepared.running(target, self._registry)

    def execute(self, batch: Batch) -> Prepared | None:
        """What this simple Query of an EXECUTE runs, if the client has prepared that by the
        protocol: the batch is then made to name it as the server does."""
        found = None if batch.text is None or self._keeps_names else executed(batch.text)
        target = None if found is None else self.statements.get(found[0])
        if batch.text is not None and target is not None:
            batch.text = renamed(batch.text, target)
            batch.data = messages.query(batch.text)
            batch.references = [Reference(0, target, REQUIRES, b"")]
        return target


def _unknown(kind: int) -> ProtocolViolation:
    return ProtocolViolation(f"message of unknown type {chr(kind)!r} ({kind})")


def _bind(portal: bytes, name: bytes, rest: bytes) -> bytes:
    """Bind of a statement; the portal's name with the zero byte behind it, all behind the
    statement's with the one in front."""
    length = 4 + len(portal) + len(name) + len(rest)
    return b"".join((b"B", length.to_bytes(4), portal, name, rest))


def _describe(name: bytes) -> bytes:
    return b"D" + (len(name) + 6).to_bytes(4) + b"S" + name + b"\0"


class CopyIntake:
    """A client's bytes while the server waits for COPY data: passed on, with their end noticed."""

    __slots__ = ("_draining", "_head", "_remaining", "ended")

    def __init__(self) -> None:
        self._head = b""
        self._remaining = 0
        self._draining = False
        self.ended = False
        """CopyDone or CopyFail has been passed on, or what was left of a message."""

    def drain(self) -> bool:
        """Pass on no more than the rest of the message at hand; false if there is none."""
        self._draining = self._remaining > 0
        return self._draining

    def rest(self) -> bytes:
        """What has been taken and not passed on."""
        return self._head

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(bytes for the server, bytes that came after CopyDone or CopyFail).

        Raises ProtocolViolation for a message that has no place in COPY.
        """
        data = self._head + data
        position = self._remaining
        if self._draining:
            self._remaining -= min(position, len(data))
            self.ended = not self._remaining
            return data[:position], data[position:]
        while position + 5 <= len(data):
            kind = data[position]
            length = uint32_at(data, position + 1)
            if length < 4 or kind not in b"dcfHSX":
                raise ProtocolViolation(f"message {chr(kind)!r} of {length} bytes during COPY")
            if kind == TERMINATE:
                raise ProtocolViolation("the client left during COPY")
            position += 1 + length
            if kind in (_COPY_DONE, _COPY_FAIL):
                if position > len(data):
                    self._remaining, self._head = 0, data[position - 1 - length :]
                    return data[: position - 1 - length], b""
                self.ended = True
                return data[:position], data[position:]
        if position >= len(data):
            self._remaining, self._head = position - len(data), b""
            return data, b""
        self._remaining, self._head = 0, data[position:]
        return data[:position], b""
