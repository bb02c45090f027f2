"""A client that speaks raw messages, for what drivers never send.

It builds its messages by itself: a mistake in `proxy.wire` must not hide in the tests as well.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from proxy.wire.scram import ScramClient
from tests.proxies import Proxy

PATIENCE = 20.0
"""Seconds after which an answer that hasn't come is missing."""


class Gone(Exception):
    """The connection ended where a message was expected."""


def message(kind: str, body: bytes = b"") -> bytes:
    """One message with its type byte."""
    return kind.encode() + struct.pack(">I", len(body) + 4) + body


def startup(parameters: dict[str, str], version: int = 196608) -> bytes:
    """A startup packet."""
    body = struct.pack(">I", version)
    body += b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def query(sql: str) -> bytes:
    return message("Q", sql.encode() + b"\0")


def parse(sql: str, name: str = "", oids: Sequence[int] = ()) -> bytes:
    types = struct.pack(f">H{len(oids)}I", len(oids), *oids)
    return message("P", f"{name}\0{sql}\0".encode() + types)


def bind(
    *values: bytes | None, name: str = "", portal: str = "", formats: Sequence[int] = ()
) -> bytes:
    """Bind with `values`, text unless `formats` says otherwise, results in text."""
    parts = [
        f"{portal}\0{name}\0".encode(),
        struct.pack(f">H{len(formats)}H", len(formats), *formats),
    ]
    parts.append(struct.pack(">H", len(values)))
    for value in values:
        parts.append(
            struct.pack(">i", -1) if value is None else struct.pack(">I", len(value)) + value
        )
    parts.append(b"\0\0")
    return message("B", b"".join(parts))


def describe(name: str = "") -> bytes:
    """Describe of a statement."""
    return message("D", f"S{name}\0".encode())


def describe_portal(portal: str = "") -> bytes:
    return message("D", f"P{portal}\0".encode())


def row_description(*columns: tuple[str, int, int], table: int = 0) -> bytes:
    """A server's RowDescription: columns of (name, type OID, type modifier)."""
    body = struct.pack(">H", len(columns)) + b"".join(
        name.encode() + b"\0" + struct.pack(">IhIhih", table, 1, oid, 4, modifier, 0)
        for name, oid, modifier in columns
    )
    return message("T", body)


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message("E", portal.encode() + b"\0" + struct.pack(">I", rows))


def close(name: str) -> bytes:
    """Close of a statement."""
    return message("C", f"S{name}\0".encode())


def close_portal(portal: str) -> bytes:
    return message("C", f"P{portal}\0".encode())


def copy_data(data: bytes) -> bytes:
    return message("d", data)


SYNC = message("S")
FLUSH = message("H")
TERMINATE = message("X")
COPY_DONE = message("c")


def copy_fail(reason: str) -> bytes:
    return message("f", reason.encode() + b"\0")


def run(sql: str, *values: bytes | None) -> bytes:
    """Parse, Bind and Execute on the unnamed statement and portal."""
    return parse(sql) + bind(*values) + execute()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the server's."""

    kind: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse."""
        parts = [part for part in self.body.split(b"\0") if part]
        return {chr(part[0]): part[1:].decode() for part in parts}

    @property
    def row(self) -> tuple[str | None, ...]:
        """Of a DataRow in text."""
        values: list[str | None] = []
        position = 2
        for _ in range(struct.unpack_from(">H", self.body)[0]):
            (length,) = struct.unpack_from(">i", self.body, position)
            position += 4
            if length < 0:
                values.append(None)
            else:
                values.append(self.body[position : position + length].decode())
                position += length
        return tuple(values)


@dataclass(slots=True)
class Reply:
    """Messages up to a ReadyForQuery, or up to what else was asked for."""

    messages: list[Message] = field(default_factory=list)

    @property
    def kinds(self) -> str:
        """The types in order, such as "12DCZ", without notices and ParameterStatus."""
        return "".join(each.kind for each in self.messages if each.kind not in "NS")

    @property
    def rows(self) -> list[tuple[str | None, ...]]:
        return [each.row for each in self.messages if each.kind == "D"]

    @property
    def value(self) -> str | None:
        """The only value of the only row."""
        ((value,),) = self.rows
        return value

    @property
    def tags(self) -> list[str]:
        """Of CommandComplete."""
        return [each.body[:-1].decode() for each in self.messages if each.kind == "C"]

    @property
    def errors(self) -> list[str]:
        """SQLSTATEs."""
        return [each.fields["C"] for each in self.messages if each.kind == "E"]

    @property
    def status(self) -> str:
        """What the last ReadyForQuery says: I, T or E."""
        return next(m.body.decode() for m in reversed(self.messages) if m.kind == "Z")


class RawClient:
    """One connection. Every wait ends after PATIENCE with TimeoutError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.parameters: dict[str, str] = {}
        self.process_id = 0
        self.secret = b""

    @classmethod
    async def open(cls, proxy: Proxy, limit: int = 1 << 16) -> "RawClient":
        """Connected, nothing sent."""
        return cls(*await asyncio.open_connection(proxy.host, proxy.port, limit=limit))

    @classmethod
    async def login(
        cls,
        proxy: Proxy,
        *,
        user: str | None = None,
        password: str | None = None,
        database: str | None = None,
        **parameters: str,
    ) -> "RawClient":
        """Connected and ready; Gone or LoginRefused otherwise."""
        self = await cls.open(proxy)
        user = user or proxy.database.user
        own = {"user": user, "database": database or proxy.database.name, **parameters}
        self.send(startup(own))
        await self.authenticate(password or proxy.database.password)
        return self

    async def authenticate(self, password: str) -> None:
        """Answer the requests for a password, and read on until ReadyForQuery."""
        scram = ScramClient(password)
        while True:
            got = await self.receive()
            if got.kind == "E":
                raise LoginRefused(got.fields)
            if got.kind == "R":
                self._authentication(scram, got.body)
            elif got.kind == "K":
                self.process_id, self.secret = int.from_bytes(got.body[:4]), got.body[4:]
            elif got.kind == "Z":
                return

    def _authentication(self, scram: ScramClient, body: bytes) -> None:
        request = int.from_bytes(body[:4])
        if request == 10:
            first = scram.first()
            self.send(message("p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first))
        elif request == 11:
            self.send(message("p", scram.final(body[4:])))
        elif request == 12:
            scram.verify(body[4:])

    def send(self, *parts: bytes) -> None:
        """Everything in one packet, as far as the kernel agrees."""
        self.writer.write(b"".join(parts))

    async def receive(self) -> Message:
        """The next message."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self.reader.readexactly(5)
                body = await self.reader.readexactly(int.from_bytes(head[1:]) - 4)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone(str(error)) from None
        got = Message(chr(head[0]), body)
        if got.kind == "S":
            name, value = body[:-1].decode().split("\0")
            self.parameters[name] = value
        return got

    async def until(self, kind: str) -> Reply:
        """Messages up to the first of this type."""
        reply = Reply()
        while True:
            got = await self.receive()
            reply.messages.append(got)
            if got.kind == kind:
                return reply

    async def ask(self, *parts: bytes) -> Reply:
        """Send, and read up to ReadyForQuery."""
        self.send(*parts)
        return await self.until("Z")

    async def query(self, sql: str) -> Reply:
        """One simple Query."""
        return await self.ask(query(sql))

    async def rest(self) -> list[Message]:
        """Everything up to the end of the connection."""
        found = []
        with contextlib.suppress(Gone):
            while True:
                found.append(await self.receive())
        return found

    async def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for a while."""
        try:
            async with asyncio.timeout(seconds):
                return not await self.reader.read(1)
        except TimeoutError:
            return True

    def vanish(self) -> None:
        """End the connection without a word."""
        self.writer.transport.abort()

    async def leave(self) -> None:
        """Terminate as a client should."""
        with contextlib.suppress(ConnectionError):
            self.send(TERMINATE)
            self.writer.close()
            await self.writer.wait_closed()


class LoginRefused(Exception):
    """The server said no; `fields` of its ErrorResponse."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields.get("M"))
        self.fields = fields


@contextlib.asynccontextmanager
async def client(proxy: Proxy, **options: str) -> AsyncIterator[RawClient]:
    """A logged-in client for a block."""
    self = await RawClient.login(proxy, **options)
    try:
        yield self
    finally:
        await self.leave()
