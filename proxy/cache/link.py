"""The link to Redis, made again whenever it breaks: a connection for commands, one for messages.

If either breaks, the other is closed too.

    CONNECTING --settled--> UP --broke--> CONNECTING --failed--> AWAY --it answers--> CONNECTING

Results don't pass through the connection for messages: Redis allows much less to pile up on such a
one, and closes it otherwise.

Between the connection and UP stands the listener's `settle`: what could not be said while the link
was down is said first. Nothing else may use the link before.
"""

import asyncio
import enum
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis
import structlog
from redis.asyncio.connection import parse_url

from proxy.cache.commands import STORE_SCRIPT
from proxy.cache.connection import Callback, Connection
from proxy.cache.errors import CacheError, LinkLost
from proxy.tasks import spawn

log = structlog.get_logger(__name__)

Request = Callable[[bytes, Callback], None]
"""Sends a packed command; the callback gets its reply, a hiredis.ReplyError or a LinkLost."""


class LinkState(enum.Enum):
    """See the module's docstring."""

    CONNECTING = "connecting"  # at the start, right after a break, while settling: soon UP or AWAY
    UP = "up"
    AWAY = "away"  # the last attempt failed
    CLOSED = "closed"


class LinkListener(Protocol):
    """Who owns a link."""

    @property
    def channels(self) -> tuple[bytes, ...]:
        """What to listen to, from before `settle` on."""

    def heard(self, channel: bytes, message: bytes) -> None:
        """A message on one of the channels."""

    def lost(self) -> None:
        """The connection broke. Called before the callbacks that wait get their LinkLost."""

    def settle(
        self,
        incarnation: str | None,
        request: Request,
        request_in_order: Request,
        ready: Callable[[], None],
    ) -> None:
        """Say over `request` what must be said first, then call `ready`: the link is UP when that
        returns. `incarnation` names this life of the server's data; None if it can't be known.
        Replies to `request_in_order` come in order with messages."""

    def away(self) -> None:
        """Redis can't be reached for now. Called after every attempt that failed."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Redis URL, taken apart. `path`: of a Unix socket; then host and port mean nothing."""

    host: str
    port: int
    path: str | None
    tls: ssl.SSLContext | None
    username: str | None
    password: str | None
    database: int

    @property
    def name(self) -> str:
        """For messages: without credentials."""
        return self.path or f"{self.host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """What redis-py's parser reads from `url`. Raises ValueError if it is no Redis URL."""
    options: dict[str, Any] = dict(parse_url(url))
    tls = None
    if url.startswith("rediss://"):
        tls = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if options.get("ssl_cert_reqs") == "none":
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
    return Endpoint(
        options.get("host", "localhost"),
        options.get("port", 6379),
        options.get("path"),
        tls,
        options.get("username"),
        options.get("password"),
        int(options.get("db", 0)),
    )


class RedisLink:
    """See the module's docstring. `request` may be called in any state: it never raises and never
    waits; in any state but UP the callback gets a LinkLost at once.

    `timeout`: seconds for a reply; an attempt to connect and settle may take twice that.
    `reconnect_interval`: seconds between attempts. Raises ValueError for an unusable URL."""

    def __init__(self, url: str, timeout: float, reconnect_interval: float) -> None:
        self.endpoint = parse_endpoint(url)
        self.state = LinkState.CONNECTING
        self.request: Request = self._refuse
        self._timeout = timeout
        self._interval = reconnect_interval
        self._connections: list[Connection] = []
        """For commands and for messages."""
        self._down = LinkLost("not connected yet")
        self._logged: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, listener: LinkListener) -> None:
        """Connect, and stay connected until `close`."""
        self._task = spawn(self._keep_up(listener), "cache link")

    async def close(self) -> None:
        """Stop for good. Pending callbacks get a LinkLost."""
        self.state = LinkState.CLOSED
        self.break_off("the cache is shutting down")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def congested(self) -> bool:
        """Redis reads more slowly than we write."""
        return bool(self._connections) and self._connections[0].congested

    def break_off(self, reason: str) -> None:
        """Break the connections and begin anew: what they stand for is no longer certain."""
        for connection in self._connections:
            connection.lose(reason)

    def _refuse(self, command: bytes, callback: Callback) -> None:
        callback(self._down)

    async def _keep_up(self, listener: LinkListener) -> None:
        loop = asyncio.get_running_loop()
        while self.state is not LinkState.CLOSED:
            lost = loop.create_future()
            try:
                async with asyncio.timeout(2 * self._timeout):
                    self._connections = []
                    commands = await self._connect(listener, lost)
                    messages = await self._connect(listener, lost)
                    await self._set_up(commands, messages, listener, lost)
            except Exception as error:
                # Whatever it is: writes may be held until this attempt has ended.
                self._gone_away(listener, error)
                await asyncio.sleep(self._interval)
                continue
            since = loop.time()
            broken = await lost
            self._note(str(broken))
            if loop.time() - since < self._interval:
                # It comes and goes: don't hurry, or this becomes a busy loop.
                self._gone_away(listener, broken)
                await asyncio.sleep(self._interval)

    async def _connect(self, listener: LinkListener, lost: asyncio.Future[LinkLost]) -> Connection:
        def on_lost(error: LinkLost) -> None:
            if self.state is LinkState.UP:
                self.state = LinkState.CONNECTING
            self.request = self._refuse
            self._down = error
            listener.lost()
            if not lost.done():
                lost.set_result(error)
                self.break_off(str(error))

        loop = asyncio.get_running_loop()
        where = self.endpoint
        # Ours before it is connected: a timeout must find it to close it.
        connection = Connection(self._timeout, on_lost, listener.heard)
        self._connections.append(connection)
        if where.path is not None:
            await loop.create_unix_connection(lambda: connection, where.path)
        else:
            transport, _ = await loop.create_connection(
                lambda: connection, where.host, where.port, ssl=where.tls
            )
            _keep_alive(transport)
        return connection

    async def _log_in(self, connection: Connection) -> str | None:
        """Returns the server's incarnation."""
        where = self.endpoint
        if where.password is not None:
            names = (where.username,) if where.username else ()
            await connection.call(*_encoded("AUTH", *names, where.password))
        if where.database:
            await connection.call(*_encoded("SELECT", str(where.database)))
        return await _incarnation(connection)

    async def _set_up(
        self,
        commands: Connection,
        messages: Connection,
        listener: LinkListener,
        lost: asyncio.Future[LinkLost],
    ) -> None:
        """Log in, listen, load the script, settle, and be UP."""
        incarnation = await self._log_in(commands)
        if await self._log_in(messages) != incarnation:
            raise CacheError("two connections reached two servers")
        if self.state is LinkState.AWAY:
            self.state = LinkState.CONNECTING  # it lives: writes had better wait for the settling
        for connection, channels in ((commands, ()), (messages, listener.channels)):
            await _listen(connection, channels)
        await commands.call(b"SCRIPT", b"LOAD", STORE_SCRIPT)
        settled = asyncio.get_running_loop().create_future()

        def ready() -> None:
            if settled.done():  # too late: the attempt was given up
                return
            self.request = commands.request
            self.state = LinkState.UP
            self._note(None)
            settled.set_result(None)

        listener.settle(incarnation, commands.request, messages.request, ready)
        await asyncio.wait({settled, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not settled.done():
            settled.cancel()
            raise lost.result()

    def _gone_away(self, listener: LinkListener, error: Exception) -> None:
        if self.state is LinkState.CLOSED:
            return
        self.state = LinkState.AWAY
        reason = str(error) or f"no answer within {2 * self._timeout:g} s"
        self._down = LinkLost(reason)
        self.break_off(reason)
        self._note(reason)
        listener.away()

    def _note(self, reason: str | None) -> None:
        """Log changes only: an outage is one line, however many attempts it takes."""
        if reason == self._logged:
            return
        if reason is None:
            log.info("redis is back: the cache is in use again", redis=self.endpoint.name)
        else:
            log.warning(
                "redis is away: reads bypass the cache", redis=self.endpoint.name, why=reason
            )
        self._logged = reason


def _encoded(*arguments: str) -> tuple[bytes, ...]:
    return tuple(argument.encode() for argument in arguments)


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    """A peer that vanished is noticed even while nothing is asked."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _listen(connection: Connection, channels: tuple[bytes, ...]) -> None:
    """Raises CacheError where the server can't, or the user mustn't."""
    try:
        await connection.call(b"HELLO", b"3")
    except hiredis.ReplyError as error:
        if str(error).startswith("NOAUTH"):
            raise
        raise CacheError(f"it doesn't speak RESP3 (Redis 6 and Valkey do): {error}") from None
    for channel in channels:
        try:
            await connection.call(b"SUBSCRIBE", channel)
        except hiredis.ReplyError as error:
            raise CacheError(
                f"it refuses SUBSCRIBE, give the user `&<prefix>:*` in its ACL: {error}"
            ) from None


async def _incarnation(connection: Connection) -> str | None:
    """A name of this life of the server and its data: another after a restart or a promotion.

    None where the server doesn't tell. Raises CacheError where it is a replica.
    """
    try:
        server = await connection.call(b"INFO", b"server")
        replication = await connection.call(b"INFO", b"replication")
    except hiredis.ReplyError:  # an ACL may forbid INFO
        return None
    if not (isinstance(server, bytes) and isinstance(replication, bytes)):
        raise CacheError(f"this is no Redis: it answers INFO by {server!r:.40}")
    if re.search(rb"^role:(?!master)", replication, re.M):
        raise CacheError("this Redis is a replica; [cache] redis must name the primary")
    run = re.search(rb"^run_id:(\w+)", server, re.M)
    history = re.search(rb"^master_replid:(\w+)", replication, re.M)
    if run is None or history is None:
        return None
    return f"{run[1].decode()} {history[1].decode()}"
