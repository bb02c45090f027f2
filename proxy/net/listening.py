"""Channels for listeners outside the compiled packages.

A compiled class can have compiled subclasses only, so who is not compiled listens by way of one.
"""

from typing import Protocol

from proxy.net.channel import Channel, ChannelProtocol


class ChannelListener(Protocol):
    """As ChannelProtocol, for a channel that is open already."""

    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Listening(ChannelProtocol):
    """Hands a channel's events on."""

    def __init__(self, listener: ChannelListener) -> None:
        self._listener = listener

    def data_received(self, data: bytes) -> None:
        self._listener.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connection_lost(exc)

    def pause_writing(self) -> None:
        self._listener.pause_writing()

    def resume_writing(self) -> None:
        self._listener.resume_writing()


def listen_to(channel: Channel, listener: ChannelListener) -> None:
    """The channel's events go to `listener` from now on."""
    channel.set_protocol(Listening(listener))
