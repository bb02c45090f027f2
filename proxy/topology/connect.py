"""Penstock's own connections to servers, beside the data path."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from proxy.net.dialing import attempts
from proxy.topology.node import Address

Login = tuple[str, str | None]
"""A user's name and password."""

if TYPE_CHECKING:  # generic in the type stubs alone
    Connection = asyncpg.Connection[asyncpg.Record]
    Prepared = PreparedStatement[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Prepared = PreparedStatement

LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises where a server is away, refuses, or answers with an error."""


async def connect(
    address: Address,
    login: Login,
    timeout: float,
    purpose: str,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Connection:
    """A connection to `address` that `pg_stat_activity` shows as "penstock <purpose>".

    `timeout` is in seconds, for connecting and logging in; `settings` are the server's, for this
    connection. TLS as the data path's (`net.dialing`). Raises one of `LOST`.
    """
    tries = attempts(address.dialing.tls.mode, address.host)
    async with asyncio.timeout(timeout):
        for encrypted in tries[:-1]:
            try:
                return await _attempt(address, login, timeout, purpose, settings, encrypted)
            except (TimeoutError, ConnectionRefusedError, FileNotFoundError):
                raise  # nobody listens, or nobody answers
            except (OSError, asyncpg.InvalidAuthorizationSpecificationError):
                continue  # with TLS, or without, the server may agree
        return await _attempt(address, login, timeout, purpose, settings, tries[-1])


async def _attempt(
    address: Address,
    login: Login,
    timeout: float,
    purpose: str,
    settings: Mapping[str, str],
    encrypted: bool,
) -> Connection:
    user, password = login
    return await asyncpg.connect(
        host=address.host,
        port=address.port,
        database=address.database,
        user=user,
        password=password,
        timeout=timeout,
        ssl=(address.dialing.tls.context if encrypted else None) or False,
        statement_cache_size=0,
        server_settings={
            "application_name": f"penstock {purpose}",
            # Waiting for standbys would tie the watch to what it watches.
            "synchronous_commit": "local",
            **settings,
        },
    )


class Deadline:
    """Cuts the connection off unless the block is left within `seconds`; what waits for an answer
    in it then gets one of `LOST`.

    Not a cancellation: asyncpg meets that with a cancel request over a second connection, and a
    hung server takes none.
    """

    __slots__ = ("_connection", "_handle", "_seconds", "passed")

    def __init__(self, connection: Connection, seconds: float) -> None:
        self.passed = False
        self._connection = connection
        self._seconds = seconds

    def __enter__(self) -> "Deadline":
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._cut)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _cut(self) -> None:
        self.passed = True
        self._connection.terminate()


def reason(error: BaseException) -> str:
    """What went wrong, in a line."""
    return " ".join(str(error).split()) or type(error).__name__
