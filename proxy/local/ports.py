"""Free TCP ports on the loopback interface."""

import random
import socket

from proxy.local.errors import LocalStackError

HOST = "127.0.0.1"
# Below the range from which operating systems lend ports to outgoing connections.
_CANDIDATES = range(15_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(avoid: set[int]) -> int:
    """A port that is free now and not among `avoid`.

    Raises LocalStackError when chance finds none, which means that something is wrong.
    """
    for _ in range(200):
        port = random.choice(_CANDIDATES)
        if port not in avoid and is_free(port):
            return port
    raise LocalStackError(
        f"no free TCP port between {_CANDIDATES.start} and {_CANDIDATES.stop} on {HOST}; "
        "are sockets forbidden here?"
    )
