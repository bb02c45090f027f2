"""What systemd expects of a service: state notifications, and sockets that it opened before.

Source: sd_notify(3), sd_listen_fds(3). Both are plain environment variables and descriptors, so no
library is needed.
"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

_FIRST_DESCRIPTOR = 3
HTTP_NAMES = frozenset({"http", "metrics"})
"""FileDescriptorName= of a socket that is the HTTP listener; any other is the SQL listener."""


class ActivationError(Exception):
    """The sockets that were passed in can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Activated:
    """Listening sockets that the service manager has passed in."""

    sql: socket.socket | None = None
    http: socket.socket | None = None


def notify(*assignments: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell the service manager, such as "READY=1"; false where none listens.

    A manager that can't be reached is no reason to stop serving: it is logged.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    path = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto("\n".join(assignments).encode(), path)
    except OSError as error:
        log.warning("the service manager can't be told", address=address, error=error.strerror)
        return False
    return True


def ready() -> None:
    """Clients are served, by this process."""
    notify("READY=1", f"MAINPID={os.getpid()}", "STATUS=serving")


def reloading() -> None:
    """The configuration is being read; `ready` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")


def stopping(status: str) -> None:
    """No more clients are taken."""
    notify("STOPPING=1", f"STATUS={status}")


def activated(environ: Mapping[str, str] = os.environ) -> Activated:
    """The sockets passed in by LISTEN_FDS; none where they are meant for another process.

    Raises ActivationError for more than one of a kind, and for what is no listening TCP or Unix
    stream socket.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return Activated()
    try:
        count = int(environ.get("LISTEN_FDS", "0"))
    except ValueError:
        raise ActivationError(f"LISTEN_FDS is no number: {environ['LISTEN_FDS']!r}") from None
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    for index in range(count):
        name = names[index] if index < len(names) else ""
        kind = "http" if name.lower() in HTTP_NAMES else "sql"
        if kind in found:
            raise ActivationError(
                f"{count} sockets were passed in and two of them are for {kind}: one SQL socket, "
                f"and one with FileDescriptorName=http, are taken (names: {':'.join(names)})"
            )
        found[kind] = _socket(_FIRST_DESCRIPTOR + index)
    return Activated(found.get("sql"), found.get("http"))


def _socket(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ActivationError(
            f"descriptor {descriptor}, passed in by LISTEN_FDS, is no socket: {error.strerror}"
        ) from None
    if not listening or sock.type != socket.SOCK_STREAM:
        raise ActivationError(f"descriptor {descriptor} is no listening stream socket")
    sock.setblocking(False)
    os.set_inheritable(descriptor, False)
    return sock
