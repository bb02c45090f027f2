"""A socket of the data path: a transport with less between it and the kernel.

All channels of a process are in one epoll set that the event loop watches as a single descriptor.
All that are ready are read once, then their protocols called, then what these wrote is sent: the
kernel's code and that of the protocols, neither of which leaves the other much room in the
processor's caches, take turns once a round instead of twice a query, and a process that is woken
by a send can't take the processor in the midst of it. Outside such a round a write goes to the
socket at once. What a socket doesn't take is kept. Per query that is two receives and two sends, no
handle, no task and no callback object. Protocols can't tell a channel from a transport of the event
loop.
"""

import asyncio
import contextlib
import select
import socket
import struct
from collections import deque
from time import perf_counter
from typing import Any, Final

import structlog

from proxy.net import fast_path, kernel
from proxy.net.clock import clock

log = structlog.get_logger(__name__)

_READ: Final = select.EPOLLIN
_WRITE: Final = select.EPOLLOUT
_GONE: Final = select.EPOLLHUP | select.EPOLLERR

_SMALL_READ: Final = 4096
"""Bytes; so many are read into a block on the stack (`_kernel.c`)."""
_LARGE_READ: Final = 64 * 1024
"""Bytes; larger blocks would be mapped anew by malloc for each read."""
_SMALL_READS_IN_A_ROW: Final = 32
"""After so many small messages a channel is read in small blocks again."""
_EVENTS: Final = 128
_FEW: Final = 2
"""Fewer channels than this at once: more are hardly ready by now, so don't ask in vain."""
_MOST_PUT_OFF: Final = 16 * 1024
"""Bytes; what is written beyond goes to the socket at once, also in a round."""
_ROUNDS: Final = 8
"""Times that the set is asked before the event loop's other work gets its turn."""


class ChannelProtocol:
    """What a channel calls; as asyncio.Protocol."""

    def connection_made(self, transport: "Channel") -> None:
        """The channel is open; called by who opened it."""

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The last call."""

    def pause_writing(self) -> None:
        """The peer takes less than it is sent."""

    def resume_writing(self) -> None:
        """The peer has taken all."""

    def failed(self) -> None:
        """One of the calls has raised; the channel is about to be aborted."""

    def dismissed(self, request: bytes, before: bytes, started: float) -> None:
        """The channel has left the fast path, where it was a client's. `request`: the last that
        was served there, if any; `before`: if that ran a statement by its name, the last one that
        didn't; `started`: when the last came, in seconds of time.perf_counter()."""

    def resumed(
        self, server: "ChannelProtocol", request: bytes, before: bytes, started: float
    ) -> None:
        """As `dismissed`, while the request is under way: the server has been sent it."""

    def returned(self, request: bytes) -> None:
        """The channel has left the fast path, where it was a server's, idle. `request`: the last
        that it has served there and ran no statement by its name, if any: whole if that began with
        Parse, else one byte of it."""


class Poller:
    """The epoll set of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # Attributes of an object are found faster than names of a module.
        self.receive, self.send = kernel.receive, kernel.send
        self._epoll = select.epoll()
        self._descriptor = self._epoll.fileno()
        self._channels: dict[int, Channel] = {}
        self.fast = fast_path.AVAILABLE
        """Channels may take the fast path."""
        self.in_round = False
        """Protocols are being called; what they write is put off until all have been."""
        self.putting_off: list[Channel] = []
        """Channels with something put off."""
        loop.add_reader(self._descriptor, self._poll)

    def add(self, descriptor: int, channel: "Channel") -> None:
        """Watch a channel for reading."""
        self._channels[descriptor] = channel
        self._epoll.register(descriptor, _READ)

    def watch(self, descriptor: int, read: bool, write: bool) -> None:
        """Change what a channel is watched for."""
        if self.fast:
            self.take_back(descriptor)
        self._epoll.modify(descriptor, (_READ if read else 0) | (_WRITE if write else 0))

    def remove(self, descriptor: int) -> None:
        """Forget a channel; before its socket is closed."""
        if self.fast:
            self.take_back(descriptor)
        if self._channels.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _poll(self) -> None:
        for _ in range(_ROUNDS):
            if self.fast:
                left = fast_path.turn(self._descriptor, _EVENTS)
                if left is None:
                    break
                found = left
            else:
                found = kernel.ready(self._epoll, _EVENTS)
            clock.round = perf_counter()
            self.in_round = True
            if self.fast:
                self._take_odd()
            self._serve(self._read(found))
            self._send()
            self.in_round = False
            if len(found) < _FEW:
                break
        clock.round = 0.0

    def _read(self, found: list[int]) -> list["Channel"]:
        """Receive on all that are ready to; which have something for their protocols."""
        channels = self._channels
        arrived: list[Channel] = []
        for event in found:
            channel, events = channels.get(event >> 8), event & 0xFF
            if channel is None:
                continue  # closed by what an earlier event did
            try:
                if events & _WRITE:
                    channel.writable()
                if events & (_READ | _GONE) and channel.receive():
                    arrived.append(channel)
            except Exception:
                _give_up(channel)
        return arrived

    def _serve(self, arrived: list["Channel"]) -> None:
        for channel in arrived:
            try:
                channel.deliver()
            except Exception:
                _give_up(channel)

    def _send(self) -> None:
        for channel in self.putting_off:  # what is written meanwhile comes to its end
            try:
                channel.send_put_off()
            except Exception:
                _give_up(channel)
        self.putting_off.clear()

    def take_back(self, descriptor: int) -> None:
        """Make a channel leave the fast path, if it is there."""
        if fast_path.drop(descriptor):
            self._take_odd()

    def take_odd_soon(self) -> None:
        """Somebody has left the fast path while something else was done."""
        self.loop.call_soon(self._take_odd)

    def _take_odd(self) -> None:
        """Go on with what has left the fast path."""
        for (
            kind,
            descriptor,
            client,
            server,
            request,
            before,
            started,
            data,
        ) in fast_path.take_odd():
            channel = self._channels.get(descriptor)
            try:
                if kind == fast_path.RETURNS:
                    server.returned(request)
                elif kind == fast_path.REST:
                    self.take_back(descriptor)
                elif server is None:
                    client.dismissed(request, before, started)
                else:
                    client.resumed(server, request, before, started)
                if not data:
                    continue
                if kind == fast_path.ASKS:
                    client.data_received(data)
                elif kind == fast_path.RESUMES:
                    server.data_received(data)
                elif channel is not None:
                    channel.write(data)
            except Exception:
                if channel is not None:
                    _give_up(channel)

    def close(self) -> None:
        """Stop watching; channels that are left get no more events."""
        if self.fast:
            for descriptor in self._channels:
                fast_path.drop(descriptor)
            fast_path.take_odd()
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


def _give_up(channel: "Channel") -> None:
    """One protocol's mistake must end its own connection, and no other."""
    log.exception("a connection failed", peer=channel.get_extra_info("peername"))
    channel.fail()


def _peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) as of the connect; source: unix(7), SO_PEERCRED."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack(
        "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return pid, uid, gid


_pollers: dict[asyncio.AbstractEventLoop, Poller] = {}


def poller() -> Poller:
    """The running event loop's poller."""
    loop = asyncio.get_running_loop()
    found = _pollers.get(loop)
    if found is None:
        for closed in [one for one in _pollers if one.is_closed()]:
            del _pollers[closed]
        found = _pollers[loop] = Poller(loop)
    return found


class Channel:
    """A connected, non-blocking socket; see the module's docstring."""

    def __init__(self, sock: socket.socket, protocol: ChannelProtocol, polled: Poller) -> None:
        self._socket = sock
        self._descriptor = sock.fileno()
        self._protocol = protocol
        self._poller = polled
        self._out: deque[memoryview] = deque()
        self._out_size = 0
        self._arrived = b""
        self._put_off = b""
        self._high = 64 * 1024
        self._congested = False
        self._reading = True
        self._closing = False
        self._closed = False
        self._read_size = _LARGE_READ
        self._small_reads = 0
        polled.add(self._descriptor, self)

    @property
    def fast_descriptor(self) -> int:
        """The descriptor with which it may take the fast path now; -1: it may not."""
        busy = self._out or self._closing or self._arrived or not self._reading
        busy = busy or not self._poller.fast
        return -1 if busy else self._descriptor

    def leave_fast_path(self) -> None:
        """Be read by the protocol alone again."""
        self._poller.take_back(self._descriptor)

    def set_protocol(self, protocol: ChannelProtocol) -> None:
        """Events go to `protocol` from now on."""
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int) -> None:
        """Bytes kept at which the protocol is told to pause; it resumes when all has gone."""
        self._high = high

    def get_extra_info(self, name: str) -> Any:
        """ "peername" or "socket", as for transports; "tls": whether it is encrypted; "peercred":
        (pid, uid, gid) of the process at the other end of a Unix socket. None: there is none."""
        if name == "socket":
            return self._socket
        if name == "tls":
            return False
        try:
            if name == "peercred" and self._socket.family == socket.AF_UNIX:
                return _peer_credentials(self._socket)
            return self._socket.getpeername() if name == "peername" else None
        except OSError:
            return None

    def detach(self) -> socket.socket:
        """Give the socket away; the channel hears and does nothing any more.

        Raises BlockingIOError if something that was written has not gone yet.
        """
        self.send_put_off()
        if self._out or self._closing:
            raise BlockingIOError("the channel has bytes to send, or is closing")
        self._closing = self._closed = True
        self._poller.remove(self._descriptor)
        self._descriptor = -1
        return self._socket

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called or the peer has gone."""
        return self._closing

    def receive(self) -> bool:
        """The poller's call: read once. Whether there is something to deliver."""
        if not self._reading or self._closing:
            if self._closing or not self._out:
                self._lose(None)
            return False
        size = self._read_size
        try:
            data = self._poller.receive(self._descriptor, size)
        except OSError as error:
            self._lose(error)
            return False
        if not data:
            if data is not None:
                self._lose(None)
            return False
        if len(data) == size:
            self._read_size, self._small_reads = _LARGE_READ, 0
        elif size != _SMALL_READ and len(data) < _SMALL_READ:
            self._small_reads += 1
            if self._small_reads > _SMALL_READS_IN_A_ROW:
                self._read_size, self._small_reads = _SMALL_READ, 0
        self._arrived = data
        return True

    def deliver(self) -> None:
        """The poller's call: the protocol gets what has been received, unless an earlier one's
        doing has closed the channel since."""
        data, self._arrived = self._arrived, b""
        if not self._closing:
            self._protocol.data_received(data)

    def write(self, data: bytes) -> None:
        """Send, now or at the round's end, as far as the socket takes it."""
        if self._closing or not data:
            return
        if self._out_size:
            self._keep(memoryview(data))
            return
        if self._poller.in_round:
            if self._put_off:
                data = self._put_off + data
            else:
                self._poller.putting_off.append(self)
            self._put_off = data
            if len(data) > _MOST_PUT_OFF:
                self.send_put_off()
            return
        self._send(data)

    def send_put_off(self) -> None:
        """Send what was written in this round."""
        data = self._put_off
        if data:
            self._put_off = b""
            self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._poller.send(self._descriptor, data)
        except OSError as error:
            self._lose_soon(error)
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:])

    def _keep(self, data: memoryview) -> None:
        if not self._out:
            self._poller.watch(self._descriptor, self._reading, True)
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > self._high and not self._congested:
            self._congested = True
            self._protocol.pause_writing()

    def writable(self) -> None:
        """The poller's call: send what was kept."""
        out = self._out
        while out:
            data = out[0]
            try:
                sent = self._poller.send(self._descriptor, data)
            except OSError as error:
                self._lose(error)
                return
            if not sent:
                return
            self._out_size -= sent
            if sent < len(data):
                out[0] = data[sent:]
                return
            out.popleft()
        if self._closing:
            self._lose(None)
            return
        self._poller.watch(self._descriptor, self._reading, False)
        if self._congested:
            self._congested = False
            self._protocol.resume_writing()

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`; what has been received is delivered."""
        self._set_reading(False)

    def resume_reading(self) -> None:
        """Deliver again."""
        self._set_reading(True)

    def _set_reading(self, reading: bool) -> None:
        if self._reading != reading and not self._closing:
            self._reading = reading
            self._poller.watch(self._descriptor, reading, bool(self._out))

    def close(self) -> None:
        """Close when what was written has gone."""
        if self._closing:
            return
        self.send_put_off()
        self._closing = True
        if self._out:
            self._poller.watch(self._descriptor, False, True)
        else:
            self._lose_soon(None)

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        if self._closed:
            return  # its descriptor may be another channel's by now
        self._send_last()
        self._closing = True
        self._out.clear()
        self._out_size = 0
        self._lose_soon(None)

    def fail(self) -> None:
        """Abort after a mistake of the protocol's, which hears of it first."""
        try:
            self._protocol.failed()
        except Exception:
            log.exception("a connection failed once more")
        self.abort()

    def _send_last(self) -> None:
        """What was put off would have gone already if it hadn't been."""
        data, self._put_off = self._put_off, b""
        if data:
            with contextlib.suppress(OSError):
                self._poller.send(self._descriptor, data)

    def _lose_soon(self, error: Exception | None) -> None:
        """The protocol must not hear of its end from within a call of its own."""
        self._send_last()
        self._closing = True
        self._poller.remove(self._descriptor)
        self._poller.loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        if self._closed:
            return
        self._send_last()
        self._closed = self._closing = True
        self._poller.remove(self._descriptor)
        self._out.clear()
        self._out_size = 0
        self._socket.close()
        self._protocol.connection_lost(error)
