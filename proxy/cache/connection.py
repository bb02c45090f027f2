"""One connection to Redis: commands out in batches, replies back in order.

Callbacks, not futures: a lookup on the hit path costs one append on the way out and one call on the
way back. All commands of one turn of the event loop leave in one write.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
import structlog

from proxy.cache.commands import pack
from proxy.cache.errors import LinkLost, TooSlow

log = structlog.get_logger(__name__)

Callback = Callable[[Any], None]
"""Takes the reply (bytes, int, None, list, dict or hiredis.ReplyError) or a LinkLost."""
Listener = Callable[[bytes, bytes], None]
"""Takes a message that was published: its channel, and itself."""

_INCOMPLETE = object()
_TICKS = 4
_HIGH_WATER = 8 << 20


class Connection(asyncio.Protocol):
    """See the module's docstring. `timeout`: seconds that any reply may take; a reply that is later
    breaks the connection (at most a quarter of that time late). `on_lost` is called once, before
    the pending callbacks get their LinkLost. `on_message` gets what is published on the channels
    listened to (RESP3), in order with the replies."""

    def __init__(
        self, timeout: float, on_lost: Callable[[LinkLost], None], on_message: Listener
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_seconds = timeout / _TICKS
        self._on_lost = on_lost
        self._on_message = on_message
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._pending: deque[Callback] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._lost: LinkLost | None = None
        self._answered = 0
        self._ticker: asyncio.TimerHandle | None = None
        self._sent_by_tick: deque[int] = deque()
        self.congested = False
        """Redis reads more slowly than we write: big things had better wait."""

    @property
    def pending(self) -> int:
        """Commands that wait for their reply."""
        return len(self._pending)

    def request(self, command: bytes, callback: Callback) -> None:
        """Send a packed command; `callback` gets its reply, or a LinkLost."""
        if self._lost is not None:
            callback(self._lost)
            return
        self._pending.append(callback)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(command)

    async def call(self, *arguments: bytes) -> Any:
        """One command and its reply, for set-up. Raises hiredis.ReplyError and LinkLost."""
        answer: asyncio.Future[Any] = self._loop.create_future()

        def answered(reply: Any) -> None:
            if answer.done():  # the caller was cancelled
                return
            if isinstance(reply, Exception):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

        self.request(pack(*arguments), answered)
        return await answer

    def lose(self, reason: str) -> None:
        """Close at once; every pending command gets a LinkLost with this reason."""
        self._lose(LinkLost(reason))

    def _lose(self, error: LinkLost) -> None:
        if self._lost is not None:
            return
        self._lost = error
        if self._ticker is not None:
            self._ticker.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._out.clear()
        pending, self._pending = self._pending, deque()
        self._on_lost(error)
        for callback in pending:
            self._deliver(callback, error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is not one by its class
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(f"Redis closed the connection ({exc})" if exc else "Redis closed the connection")

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        next_reply = self._reader.gets
        try:
            while (reply := next_reply()) is not _INCOMPLETE:
                if type(reply) is hiredis.PushNotification and self._published(reply):
                    continue
                callback = self._pending.popleft()
                self._answered += 1
                self._deliver(callback, reply)
        except IndexError:
            self.lose("Redis sent a reply that nothing had asked for")
        except hiredis.ProtocolError as error:
            self.lose(f"Redis sent what is no reply: {error}")

    def _published(self, push: list[Any]) -> bool:
        """Pass a message on; False for what answers a SUBSCRIBE, which has no other reply."""
        if push[0] == b"message":
            try:
                self._on_message(push[1], push[2])
            except Exception:
                # What was to be dropped may not have been.
                log.exception("a message of the cache could not be taken")
                self.lose("a message could not be taken")
        return bool(push[0] != b"subscribe")

    def _deliver(self, callback: Callback, reply: Any) -> None:
        try:
            callback(reply)
        except Exception:
            # One caller's mistake must not cost the others their replies.
            log.exception("a cache callback failed")

    def _flush(self) -> None:
        if self._lost is not None or self._transport is None:
            return
        out = self._out
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()
        if self._ticker is None:
            self._ticker = self._loop.call_later(self._tick_seconds, self._tick)

    def _tick(self) -> None:
        """What had been sent by the tick `_TICKS` ago must be answered by now.

        Counted in ticks, not in time: while the loop itself stands still no tick passes, so a stall
        of this process is not blamed on Redis.
        """
        self._ticker = None
        if not self._pending:
            self._sent_by_tick.clear()
            return
        marks = self._sent_by_tick
        marks.append(self._answered + len(self._pending))
        if len(marks) > _TICKS and self._answered < marks.popleft():
            seconds = self._tick_seconds * _TICKS
            self._lose(TooSlow(f"Redis did not answer within {seconds:g} s"))
            return
        self._ticker = self._loop.call_later(self._tick_seconds, self._tick)
