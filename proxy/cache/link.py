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
from collections.abc import Callable
from typing import Protocol

import hiredis
import structlog

from proxy.cache.breaker import Breaker
from proxy.cache.commands import STORE_SCRIPT
from proxy.cache.connection import Callback, Connection
from proxy.cache.endpoint import Endpoint, dial, log_in
from proxy.cache.errors import CacheError, LinkLost, TooSlow
from proxy.cache.site import LEASE_SECONDS, Site
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


class RedisLink:
    """See the module's docstring. `request` may be called in any state: it never raises and never
    waits; in any state but UP the callback gets a LinkLost at once.

    `timeout`: seconds for a reply; an attempt to connect and settle may take twice that, and
    longer by a lease where others have to be asked first.
    `reconnect_interval`: seconds between attempts."""

    def __init__(
        self, site: Site, timeout: float, reconnect_interval: float, breaker: Breaker
    ) -> None:
        self.state = LinkState.CONNECTING
        self.resting = False
        """Redis was too slow too often: reads had better not ask it now."""
        self.where: Endpoint | None = None
        """The server that is used, or was last."""
        self._site = site
        self._breaker = breaker
        self.request: Request = self._refuse
        self._timeout = timeout
        self._patience = 2 * timeout + (LEASE_SECONDS if site.changes else 0.0)
        """Seconds for an attempt: who gives up too soon leaves others without its invalidations."""
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
        self._site.close()
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
                async with asyncio.timeout(self._patience):
                    self._connections = []
                    where = await self._site.locate()
                    commands = await self._connect(where, listener, lost)
                    messages = await self._connect(where, listener, lost)
                    await self._set_up(where, commands, messages, listener, lost)
            except Exception as error:
                # Whatever it is: writes may be held until this attempt has ended.
                self._gone_away(listener, error)
                await asyncio.sleep(self._interval)
                continue
            since = loop.time()
            watch = spawn(self._watch(where), "place of Redis")
            broken = await lost
            watch.cancel()
            self._note(str(broken))
            if isinstance(broken, TooSlow) and self._breaker.timed_out():
                self._rest()
            if loop.time() - since < self._interval:
                # It comes and goes: don't hurry, or this becomes a busy loop.
                self._gone_away(listener, broken)
                await asyncio.sleep(self._interval)

    async def _watch(self, where: Endpoint) -> None:
        try:
            reason = await self._site.watch(where)
        except Exception as error:
            # Unwatched, it must not be used.
            log.exception("the place of Redis could not be watched")
            reason = f"the place of Redis could not be watched: {error}"
        self.break_off(reason)

    def _rest(self) -> None:
        """Let reads pass by until the breaker is closed again."""
        left = self._breaker.seconds_left
        if left > 0:
            if not self.resting:
                log.warning(
                    "redis was too slow too often: reads bypass the cache for a while",
                    redis=self._site.name,
                    seconds=round(left, 3),
                )
            self.resting = True
            asyncio.get_running_loop().call_later(left, self._rest)
        else:
            self.resting = False

    async def _connect(
        self, where: Endpoint, listener: LinkListener, lost: asyncio.Future[LinkLost]
    ) -> Connection:
        def on_lost(error: LinkLost) -> None:
            if self.state is LinkState.UP:
                self.state = LinkState.CONNECTING
            self.request = self._refuse
            self._down = error
            listener.lost()
            if not lost.done():
                lost.set_result(error)
                self.break_off(str(error))

        # Ours before it is connected: a timeout must find it to close it.
        connection = Connection(self._timeout, on_lost, listener.heard)
        self._connections.append(connection)
        await dial(connection, where)
        return connection

    async def _set_up(
        self,
        where: Endpoint,
        commands: Connection,
        messages: Connection,
        listener: LinkListener,
        lost: asyncio.Future[LinkLost],
    ) -> None:
        """Log in, listen, load the script, settle, and be UP."""
        await log_in(commands, where)
        await log_in(messages, where)
        incarnation = await _incarnation(commands)
        if await _incarnation(messages) != incarnation:
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
            self.where = where
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
        reason = str(error) or f"no answer within {self._patience:g} s"
        self._down = LinkLost(reason)
        self.break_off(reason)
        self._note(reason)
        listener.away()

    def _note(self, reason: str | None) -> None:
        """Log changes only: an outage is one line, however many attempts it takes."""
        if reason == self._logged:
            return
        if reason is None:
            log.info("redis is back: the cache is in use again", redis=self._site.name)
        else:
            log.warning("redis is away: reads bypass the cache", redis=self._site.name, why=reason)
        self._logged = reason


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
        raise CacheError("this Redis is a replica, and the primary is needed")
    run = re.search(rb"^run_id:(\w+)", server, re.M)
    history = re.search(rb"^master_replid:(\w+)", replication, re.M)
    if run is None or history is None:
        return None
    return f"{run[1].decode()} {history[1].decode()}"
