"""Non-blocking socket calls of the data path, in C where it was compiled (`_kernel.c`).

Python's own give up and take back the interpreter's lock at each call: together as much again as
the session's logic for a small query. Both forms do the same. `ready` is for where there is no fast
path, which asks by itself.
"""

import select
from collections.abc import Callable
from os import read, write
from typing import Final

MOST_EVENTS: Final = 256
"""That one call of `ready` gives."""
_EVENTS: Final = 0xFF


def receive_in_python(descriptor: int, size: int) -> bytes | None:
    """At most `size` bytes, none at the end, None if there are none yet. Raises OSError."""
    try:
        return read(descriptor, size)
    except (BlockingIOError, InterruptedError):
        return None


def send_in_python(descriptor: int, data: bytes | memoryview) -> int:
    """How many bytes of `data` the socket took, which may be none. Raises OSError."""
    try:
        return write(descriptor, data)
    except (BlockingIOError, InterruptedError):
        return 0


def ready(polled: select.epoll, limit: int) -> list[int]:
    """What is ready now: descriptor << 8 | events, `limit` of them at most. Raises OSError."""
    found = polled.poll(0, min(limit, MOST_EVENTS))
    return [descriptor << 8 | (events & _EVENTS) for descriptor, events in found]


receive: Callable[[int, int], bytes | None] = receive_in_python
send: Callable[[int, bytes | memoryview], int] = send_in_python

try:
    from proxy.net import _kernel
except ImportError:
    pass
else:
    receive, send = _kernel.receive, _kernel.send
