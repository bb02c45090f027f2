"""Taking connections."""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import structlog

from proxy.config.transport import TcpSettings
from proxy.net.channel import Channel, ChannelProtocol, poller
from proxy.net.tuning import tune

log = structlog.get_logger(__name__)

_BACKLOG = 4096
_ACCEPTS_AT_ONCE = 64
_PAUSE_WITHOUT_DESCRIPTORS = 0.2
_LONGEST_PATH = 107
"""Bytes; unix(7)."""


class Listener:
    """A listening socket; `taken` gets each connection.

    `inherited`: another process has it open too, and takes what this one leaves in its backlog.
    """

    def __init__(
        self,
        sock: socket.socket,
        taken: Callable[[socket.socket], None],
        inherited: bool = False,
    ) -> None:
        self._inherited = inherited
        self._socket = sock
        self._taken = taken
        self._loop = asyncio.get_running_loop()
        self._path: Path | None = None
        self._inode = 0
        if sock.family == socket.AF_UNIX and not inherited:
            self._path = Path(sock.getsockname())
            self._inode = self._path.stat().st_ino
        self._loop.add_reader(sock.fileno(), self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on; of a Unix socket its path, and 0."""
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
            self._taken(connection)

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
        socket would reset them. A Unix socket's file goes, unless it is another's by now."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        if self._path is not None and _inode(self._path) == self._inode:
            self._path.unlink(missing_ok=True)
        if not self._inherited:
            self._accept(_BACKLOG)
        self._socket.close()


def bind(host: str, port: int, tcp: TcpSettings, reuse_port: bool = False) -> socket.socket:
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
        tune(sock, tcp)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def socket_path(directory: str | Path, port: int) -> Path:
    """Where PostgreSQL's clients look for a Unix socket."""
    return Path(directory, f".s.PGSQL.{port}")


def bind_unix(path: Path, mode: int, take_over: bool = False) -> socket.socket:
    """A socket that listens at `path`, whose file has `mode`. What a process that has ended left
    there is replaced; with `take_over` the socket of one that listens too, whose clients keep
    theirs. Raises OSError if it can't be had."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OSError(f"the path is longer than {_LONGEST_PATH} bytes")
    _remove_stale(path, take_over)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(mode)  # nobody can connect before it listens
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path, take_over: bool) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(f"{path} is there and is no socket")
    except FileNotFoundError:
        return
    if take_over:
        path.unlink(missing_ok=True)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        try:
            trial.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # somebody listens whose backlog is full
    raise OSError(errno.EADDRINUSE, f"another process listens on {path}")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def open_channel(sock: socket.socket, protocol: ChannelProtocol) -> Channel:
    """A channel for a connected socket."""
    sock.setblocking(False)
    return Channel(sock, protocol, poller())
