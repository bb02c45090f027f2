"""The sockets on which clients are waited for, as the settings want them."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.admin.http import ListenError
from proxy.config.settings import Settings
from proxy.config.types import HostPort
from proxy.net.listener import Listener, bind, bind_unix, socket_path
from proxy.net.tuning import tune


@dataclass(frozen=True, slots=True)
class Entries:
    """Sockets that listen, and where."""

    tcp: socket.socket
    address: HostPort
    inherited: bool
    """The TCP socket is another process's too."""
    unix: socket.socket | None
    path: Path | None
    """Of the Unix socket."""

    def listen(self, taken: Callable[[socket.socket], None]) -> Sequence[Listener]:
        """Have `taken` get every connection from now on."""
        listeners = [Listener(self.tcp, taken, self.inherited)]
        if self.unix is not None:
            listeners.append(Listener(self.unix, taken))
        return listeners

    def close(self) -> None:
        """Where nobody listens after all: leave no socket behind."""
        self.tcp.close()
        if self.unix is not None and self.path is not None:
            self.path.unlink(missing_ok=True)
            self.unix.close()


def open_entries(settings: Settings, activated: socket.socket | None) -> Entries:
    """`activated`: a TCP socket that listens already. Raises ListenError if one can't be had."""
    server, tcp = settings.server, settings.client_tcp
    try:
        if activated is None:
            sock = bind(*server.listen, tcp, server.reuse_port)
        else:
            sock = activated
            tune(sock, tcp)
    except OSError as error:
        raise ListenError(
            f"can't listen on {server.listen} (server.listen): {error.strerror or error}"
        ) from error
    address = _address(sock)
    if server.unix_socket_dir is None:
        return Entries(sock, address, activated is not None, None, None)
    path = socket_path(server.unix_socket_dir, address.port)
    try:
        unix = bind_unix(path, server.unix_socket_mode, server.reuse_port)
    except OSError as error:
        sock.close()
        raise ListenError(
            f"can't listen on {path} (server.unix_socket_dir): {error.strerror or error}"
        ) from error
    return Entries(sock, address, activated is not None, unix, path)


def _address(sock: socket.socket) -> HostPort:
    """Host and port; of a Unix socket that was inherited its path, and 0."""
    if sock.family == socket.AF_UNIX:
        return HostPort(str(sock.getsockname()), 0)
    host, port = sock.getsockname()[:2]
    return HostPort(host, port)
