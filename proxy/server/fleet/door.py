"""How connected sockets go from one process to another: one message and one descriptor each."""

import asyncio
import os
import socket
from collections.abc import Callable

_MOST_BYTES = 4096
_AT_ONCE = 64


def door() -> tuple[socket.socket, socket.socket]:
    """Two ends; messages keep their bounds."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def hand_over(through: socket.socket, connection: socket.socket, note: bytes) -> None:
    """Give a connection away; close it here afterwards. `note` must not be empty.

    Raises OSError: BlockingIOError where the other side takes none at the moment.
    """
    socket.send_fds(through, [note], [connection.fileno()])


class Doorkeeper:
    """Takes what comes through a door. `taken` gets each connection with its note."""

    def __init__(self, end: socket.socket, taken: Callable[[socket.socket, bytes], None]) -> None:
        self._end = end
        self._taken = taken
        end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end.fileno(), self._take)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                note, descriptors, _, _ = socket.recv_fds(self._end, _MOST_BYTES, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                note, descriptors = b"", []
            if not note:
                self.close()
                return
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
                self._taken(socket.socket(fileno=descriptor), note)

    def close(self) -> None:
        """Take no more."""
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end.fileno())
            self._end.close()
