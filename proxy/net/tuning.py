"""Options of TCP sockets."""

import socket

from proxy.config.transport import TcpSettings


def tune(sock: socket.socket, settings: TcpSettings) -> None:
    """Set a socket up for short messages and as the settings say. Sockets accepted by a listening
    one inherit it (tcp(7)). Does nothing to Unix sockets."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(settings.keepalive))
    for option, value in (
        (socket.TCP_KEEPIDLE, _seconds(settings.keepalive_idle)),
        (socket.TCP_KEEPINTVL, _seconds(settings.keepalive_interval)),
        (socket.TCP_KEEPCNT, settings.keepalive_count),
        (socket.TCP_USER_TIMEOUT, int(settings.user_timeout * 1000)),
    ):
        if value:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _seconds(duration: float) -> int:
    """Whole seconds, at least one of anything that is set."""
    return max(1, round(duration)) if duration else 0
