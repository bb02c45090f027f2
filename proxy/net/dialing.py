"""Making connections to servers: TCP or Unix socket, with TLS or without.

Source: PostgreSQL documentation, "SSL Session Encryption" (message flow) and libpq's sslmode.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field

from proxy.config.transport import ServerTlsSettings, TcpSettings
from proxy.net.certificates import ServerTls
from proxy.net.channel import ChannelProtocol
from proxy.net.contexts import TlsRefused
from proxy.net.listener import open_channel, socket_path
from proxy.net.tls_channel import TlsChannel
from proxy.net.tuning import tune

_SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)


def _no_tls() -> ServerTls:
    return ServerTls(ServerTlsSettings.model_validate({"mode": "disable"}))


def _default_tcp() -> TcpSettings:
    return TcpSettings.model_validate({})


@dataclass(frozen=True, slots=True)
class Dialing:
    """How a server is reached, beside its address."""

    tls: ServerTls = field(default_factory=_no_tls)
    tcp: TcpSettings = field(default_factory=_default_tcp)


def attempts(mode: str, host: str) -> tuple[bool, ...]:
    """With TLS or without, in the order in which libpq tries for this sslmode. A Unix socket is
    never encrypted."""
    if mode == "disable" or host.startswith("/"):
        return (False,)
    if mode == "allow":
        return (False, True)
    return (True, False) if mode == "prefer" else (True,)


async def connect(
    host: str, port: int, protocol: ChannelProtocol, dialing: Dialing, encrypted: bool
) -> None:
    """Connect `protocol` to a server; `host` may be a Unix socket's directory.

    `encrypted` is one of `attempts`. With mode "prefer", a server that declines TLS is talked to
    without. Raises OSError, and `TlsRefused` where it is TLS that can't be had.
    """
    sock = await _open(host, port, dialing.tcp)
    context = dialing.tls.context if encrypted else None
    try:
        if context is not None and not await _offered(sock, host, port):
            if dialing.tls.mode != "prefer":
                raise TlsRefused(
                    f"the server does not do TLS, which the mode {dialing.tls.mode} demands"
                )
            context = None
    except BaseException:
        sock.close()
        raise
    if context is None:
        protocol.connection_made(open_channel(sock, protocol))
        return
    await _secure(sock, host, protocol, context)


async def _open(host: str, port: int, tcp: TcpSettings) -> socket.socket:
    """A connected socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    if host.startswith("/"):
        path = str(socket_path(host, port))
        return await _connected(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)
    failure: OSError | None = None
    for family, kind, number, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, number)
        tune(sock, tcp)
        try:
            return await _connected(sock, address)
        except OSError as error:
            failure = error
    raise failure or OSError(f"{host} has no address")


async def _connected(sock: socket.socket, address: object) -> socket.socket:
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


async def _offered(sock: socket.socket, host: str, port: int) -> bool:
    """Ask for TLS. One byte is read and no more: what an attacker might put behind the answer is
    then taken for TLS, and fails (CVE-2021-23222)."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _SSL_REQUEST)
    answer = await loop.sock_recv(sock, 1)
    if answer not in (b"S", b"N"):
        what = f"answered {answer!r} to" if answer else "closed the connection at"
        raise TlsRefused(f"{host}:{port} {what} the request for TLS")
    return answer == b"S"


async def _secure(
    sock: socket.socket, host: str, protocol: ChannelProtocol, context: ssl.SSLContext
) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_secured(error: ssl.SSLError | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(TlsRefused(f"TLS with {host} failed: {tls_reason(error)}"))

    nobody = ChannelProtocol()
    plain = open_channel(sock, nobody)
    try:
        channel = TlsChannel(plain, nobody, context, on_secured, server_hostname=host)
    except BaseException:
        plain.abort()
        raise
    channel.begin()
    try:
        await done
    except BaseException:
        channel.abort()
        raise
    if channel.is_closing():
        raise TlsRefused(f"{host} closed the connection after the TLS handshake")
    channel.set_protocol(protocol)
    protocol.connection_made(channel)


def tls_reason(error: ssl.SSLError) -> str:
    """What went wrong, in words. Errors that OpenSSL did not raise have none of its attributes."""
    if message := getattr(error, "verify_message", None):
        return f"the certificate is not accepted: {message}"
    if reason := getattr(error, "reason", None):
        return str(reason).replace("_", " ").lower()
    return str(error.args[-1]) if error.args else type(error).__name__
