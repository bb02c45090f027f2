"""Calls of the functions of the schema `penstock`, carried out on the cache of one database."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.cache.errors import CacheError, CacheUnavailable
from proxy.cache.manager import CacheManager, SetOptions
from proxy.tasks import spawn
from proxy.wire import errors
from proxy.wire.errors import PgError

Value = str | float | None
Result = str | int | bool | None
Done = Callable[[Result | PgError], None]

_AT_ONCE: Final = 16
"""Calls that Redis is asked for at a time; further ones wait."""
_ANEW: Final = "try again once SHOW CACHE in the admin console says that Redis is up"


class CacheCalls:
    """`manage` makes the manager when it is first needed, and again after a failure. `usable`:
    whether this process may ask the cache: it may owe an invalidation to a Redis that others
    reach."""

    def __init__(
        self, manage: Callable[[], Awaitable[CacheManager]], usable: Callable[[], bool]
    ) -> None:
        self._manage = manage
        self._usable = usable
        self._manager: CacheManager | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def call(self, function: str, arguments: tuple[Value, ...], done: Done) -> None:
        """Carry out a call; `done` gets its result or what the client is to be told."""
        spawn(self._call(function, arguments, done), f"penstock.{function}")

    async def close(self) -> None:
        """Close the connections to Redis."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with contextlib.suppress(CacheUnavailable, OSError):
                await manager.close()

    async def _call(self, function: str, arguments: tuple[Value, ...], done: Done) -> None:
        try:
            async with self._turns:
                outcome = await self._result(function, arguments)
        except PgError as error:
            done(error)
        except CacheUnavailable as error:
            await self.close()  # the primary may be another by now
            done(PgError(errors.IO_ERROR, str(error), _ANEW))
        except (CacheError, ValueError) as error:
            done(PgError(errors.INVALID_PARAMETER_VALUE, str(error)))
        else:
            done(outcome)

    async def _result(self, function: str, arguments: tuple[Value, ...]) -> Result:
        if not self._usable():
            raise CacheUnavailable(f"could not call penstock.{function}: Redis is away")
        manager, first = self._manager or await self._manage(), str(arguments[0])
        self._manager = manager
        if function == "cache_get":
            return _as_text(await manager.get(first))
        if function == "cache_set":
            ttl = arguments[2] if len(arguments) > 2 else SetOptions().ttl
            assert isinstance(ttl, float)
            if not 0 < ttl < 1e9:
                raise ValueError(f"a TTL of {ttl:g} s: it must be more than 0 and below 1e9")
            return await manager.set(first, str(arguments[1]).encode(), SetOptions(ttl=ttl))
        if function == "cache_del":
            return await manager.delete(first)
        return (await manager.invalidate(first)).removed


def _as_text(value: bytes | None) -> str | None:
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text is not None and "\0" in text:
        raise PgError(
            errors.CHARACTER_NOT_IN_REPERTOIRE,
            "the value under this key is no text",
            "read it with CacheManager.get, which gives bytes",
        )
    return text
