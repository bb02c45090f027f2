"""Taking and making connections."""

import asyncio
import errno
import socket
from collections.abc import Callable

import structlog

from proxy.net.channel import Channel, ChannelProtocol, poller

log = structlog.get_logger(__name__)

_BACKLOG = 4096
_ACCEPTS_AT_ONCE = 64
_PAUSE_WITHOUT_DESCRIPTORS = 0.2


class Listener:
    """A listening socket whose connections become channels.

    `inherited`: another process has it open too, and takes what this one leaves in its backlog.
    """

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], ChannelProtocol],
        inherited: bool = False,
    ) -> None:
        self._inherited = inherited
        self._socket = sock
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        if self._socket.family == socket.AF_UNIX:
            return str(self._socket.getsockname()), 0
        host, port = self._socket.getsockname()[:2]
        return host, port

    def _accept(self, most: int = _ACCEPTS_AT_ONCE) -> None:
        for _ in range(most):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(error)
                    return
                raise
            protocol = self._factory()
            protocol.connection_made(open_channel(connection, protocol))

    def _pause(self, error: OSError) -> None:
        """Out of descriptors or memory: clients wait in the backlog until some are free."""
        log.error("can't take a connection", error=error.strerror)
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(_PAUSE_WITHOUT_DESCRIPTORS, self._resume)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Take no more connections, but those that the kernel has accepted already: closing the
        socket would reset them."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        if not self._inherited:
            self._accept(_BACKLOG)
        self._socket.close()


def listen(
    host: str, port: int, factory: Callable[[], ChannelProtocol], reuse_port: bool = False
) -> Listener:
    """Listen on a TCP address; see `bind`."""
    return Listener(bind(host, port, reuse_port), factory)


def bind(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    """A socket that listens on a TCP address. `reuse_port`: also where another process does, if
    that allows it. Raises OSError if it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.getaddrinfo(host, port, family if ":" in host else 0, socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


async def connect(host: str, port: int, protocol: ChannelProtocol) -> None:
    """Connect `protocol` to a TCP address. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, number, _, address in found:
        sock = socket.socket(family, kind, number)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            failure = error
            sock.close()
            continue
        except BaseException:
            sock.close()
            raise
        protocol.connection_made(open_channel(sock, protocol))
        return
    raise failure or OSError(f"{host} has no address")


def open_channel(sock: socket.socket, protocol: ChannelProtocol) -> Channel:
    """A channel for a connected socket, tuned for short messages."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Channel(sock, protocol, poller())
