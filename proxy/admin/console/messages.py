"""Bodies of a frontend's messages, as far as the console needs them.

Source: PostgreSQL documentation, "Message Formats" (Parse, Bind, Describe, Execute, Close, Query).
"""

import struct
from dataclasses import dataclass

from proxy.wire.errors import ProtocolViolation


@dataclass(frozen=True, slots=True)
class Parse:
    """Prepare `text` under `name`, "" being the unnamed statement."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Bind:
    """Open `portal` on `statement`."""

    portal: str
    statement: str
    parameters: int
    """How many values came."""
    result_formats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """Describe or Close: what of, "S" a statement or "P" a portal, and its name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a portal; `most_rows` 0: all."""

    portal: str
    most_rows: int


class _Body:
    """Reads a body from its start to its end. Every method raises ProtocolViolation."""

    def __init__(self, what: str, body: bytes) -> None:
        self._what = what
        self._body = body
        self._at = 0

    def string(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ProtocolViolation(f"{self._what} has a string without an end")
        start, self._at = self._at, end + 1
        try:
            return self._body[start:end].decode()
        except UnicodeDecodeError:
            raise ProtocolViolation(f"{self._what} has a string that is not UTF-8") from None

    def bytes(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._body):
            raise ProtocolViolation(f"{self._what} is shorter than it says")
        start, self._at = self._at, self._at + size
        return self._body[start : self._at]

    def int16(self) -> int:
        return int(struct.unpack(">h", self.bytes(2))[0])

    def int32(self) -> int:
        return int(struct.unpack(">i", self.bytes(4))[0])

    def int16s(self) -> tuple[int, ...]:
        return tuple(self.int16() for _ in range(self.int16()))

    def end(self) -> None:
        if self._at != len(self._body):
            raise ProtocolViolation(f"{self._what} is longer than it says")


def query(body: bytes) -> str:
    """A Query's text."""
    read = _Body("Query", body)
    text = read.string()
    read.end()
    return text


def parse(body: bytes) -> Parse:
    """A Parse; the types of parameters are left aside."""
    read = _Body("Parse", body)
    decoded = Parse(read.string(), read.string())
    for _ in range(read.int16()):
        read.int32()
    read.end()
    return decoded


def bind(body: bytes) -> Bind:
    """A Bind; the parameters' values are left aside."""
    read = _Body("Bind", body)
    portal, statement = read.string(), read.string()
    read.int16s()
    parameters = read.int16()
    for _ in range(parameters):
        size = read.int32()
        if size != -1:
            read.bytes(size)
    formats = read.int16s()
    read.end()
    if not set(formats) <= {0, 1}:
        raise ProtocolViolation(f"Bind asks for result formats {formats}: there are 0 and 1")
    return Bind(portal, statement, parameters, formats)


def named(what: str, body: bytes) -> Named:
    """A Describe or Close, whichever `what` says."""
    read = _Body(what, body)
    decoded = Named(chr(read.bytes(1)[0]), read.string())
    read.end()
    if decoded.kind not in ("S", "P"):
        raise ProtocolViolation(f"{what} of {decoded.kind!r}: there are S and P")
    return decoded


def execute(body: bytes) -> Execute:
    """An Execute."""
    read = _Body("Execute", body)
    decoded = Execute(read.string(), read.int32())
    read.end()
    return decoded
