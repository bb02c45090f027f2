"""Awaiting what the cache tells by calls."""

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis

from proxy.cache.errors import CacheUnavailable, LinkLost


async def reply_to(start: Callable[[Callable[[Any], None]], None]) -> Any:
    """The reply that `start` has its argument called with. Raises CacheUnavailable where Redis was
    away or has refused."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(reply: Any) -> None:
        if not answer.done():
            answer.set_result(reply)

    start(done)
    reply = await answer
    if isinstance(reply, LinkLost | hiredis.ReplyError):
        raise CacheUnavailable(f"Redis: {reply}") from reply
    return reply
