"""Channels of one event loop: what goes wrong in one stays there."""

import asyncio
import socket

from proxy.net.channel import Channel, ChannelProtocol
from proxy.net.listener import open_channel


class Echo(ChannelProtocol):
    """Sends back what it gets; fails at "fail"."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        assert self.channel is not None
        if data == b"fail":
            raise RuntimeError("a mistake")
        self.channel.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def connected() -> tuple[Echo, socket.socket]:
    """A channel's protocol, and the other end."""
    ours, theirs = socket.socketpair()
    protocol = Echo()
    protocol.channel = open_channel(ours, protocol)
    theirs.setblocking(False)
    return protocol, theirs


async def test_a_protocol_that_fails_loses_its_connection_and_no_other() -> None:
    loop = asyncio.get_running_loop()
    (bad, to_bad), (good, to_good) = connected(), connected()
    for _ in range(3):
        to_good.send(b"hello")
        assert await asyncio.wait_for(loop.sock_recv(to_good, 100), 5) == b"hello"
        if not bad.lost.is_set():
            to_bad.send(b"fail")
            assert await asyncio.wait_for(loop.sock_recv(to_bad, 100), 5) == b""
            await asyncio.wait_for(bad.lost.wait(), 5)
    assert not good.lost.is_set()
    to_good.close()
    await asyncio.wait_for(good.lost.wait(), 5)
    to_bad.close()
