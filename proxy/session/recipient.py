"""Who gets what nobody asked for: a client, as far as notifications need to know it."""

from proxy.net.channel import Channel, ChannelProtocol
from proxy.session import states
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.wire.errors import PgError


class Recipient(ChannelProtocol):
    """A client's channel and its state. `downstream.Downstream` is the one that there is."""

    def __init__(self, context: DatabaseContext, client: Client) -> None:
        self.context = context
        self.client = client
        self.state = states.IDLE
        self.congested = False
        """The client doesn't read as fast as it is written to."""
        self._transport: Channel | None = None

    def write(self, data: bytes) -> None:
        """Send to the client."""
        if self._transport is not None and self.state != states.CLOSED:
            self.context.counters.bytes_out += len(data)
            self._transport.write(data)

    def fatal(self, error: PgError) -> None:
        """Tell the client why, and close."""

    def overwhelmed(self, error: PgError) -> None:
        """The client doesn't take what waits for it: close at once."""
