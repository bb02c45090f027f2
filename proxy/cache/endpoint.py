"""Where a Redis is and how one gets in; opening connections there."""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import parse_url

from proxy.cache.connection import Connection
from proxy.config.cache_settings import CacheSettings
from proxy.net.certificates import ServerTls


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Redis server. `path`: of a Unix socket; then host and port mean nothing."""

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


class Access:
    """How Penstock gets into each Redis that the settings name or that others tell of.

    Raises TlsError where the files of TLS can't be used."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._tls = ServerTls(settings.tls, "cache.tls") if settings.encrypted else None

    def context(self) -> ssl.SSLContext | None:
        """By the files as they are now; None: no TLS."""
        if self._tls is None:
            return None
        self._tls.refresh()
        context = self._tls.context
        if context is not None:
            context.set_alpn_protocols([])  # that of PostgreSQL's
        return context

    def of_url(self) -> Endpoint:
        """The Redis that the URL names. Raises ValueError if it is unusable."""
        url = self._settings.redis or ""
        options: dict[str, Any] = dict(parse_url(url))
        return Endpoint(
            options.get("host", "localhost"),
            options.get("port", 6379),
            options.get("path"),
            self.context(),
            options.get("username") or self._settings.user,
            options.get("password") or _shown(self._settings.password),
            int(options.get("db", 0)),
        )

    def of_redis(self, host: str, port: int) -> Endpoint:
        """A Redis that others tell of."""
        settings = self._settings
        password = _shown(settings.password)
        return Endpoint(host, port, None, self.context(), settings.user, password, settings.db)

    def of_sentinel(self, host: str, port: int) -> Endpoint:
        """A Sentinel."""
        user, password = self._settings.sentinel_user, self._settings.sentinel_password
        return Endpoint(host, port, None, self.context(), user, _shown(password), 0)


def _shown(secret: Any) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def dial(connection: Connection, where: Endpoint) -> None:
    """Connect it to the server. Raises OSError."""
    loop = asyncio.get_running_loop()
    if where.path is not None:
        await loop.create_unix_connection(lambda: connection, where.path)
        return
    name = where.host if where.tls is not None else None
    transport, _ = await loop.create_connection(
        lambda: connection, where.host, where.port, ssl=where.tls, server_hostname=name
    )
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        # A peer that vanished is noticed even while nothing is asked.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def log_in(connection: Connection, where: Endpoint) -> None:
    """Give user and password, choose the database. Raises hiredis.ReplyError and LinkLost."""
    if where.password is not None:
        names = (where.username,) if where.username else ()
        await connection.call(*_encoded("AUTH", *names, where.password))
    if where.database:
        await connection.call(*_encoded("SELECT", str(where.database)))


def _encoded(*arguments: str) -> tuple[bytes, ...]:
    return tuple(argument.encode() for argument in arguments)
