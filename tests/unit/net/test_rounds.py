"""A round of the poller: all channels are read, then their protocols called, then all is sent."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from proxy.net.channel import Channel, ChannelProtocol, Poller, poller

Heard = Callable[[bytes], None]


class Wired(ChannelProtocol):
    """A channel with its peer's socket; what is heard goes to a function."""

    def __init__(self, hear: Heard) -> None:
        own, self.peer = socket.socketpair()
        own.setblocking(False)
        self.peer.setblocking(False)
        self.hear = hear
        self.congested: Callable[[], None] | None = None
        self.lost = self.told = False
        self.channel = Channel(own, self, poller())

    def data_received(self, data: bytes) -> None:
        self.hear(data)

    def pause_writing(self) -> None:
        if self.congested is not None:
            self.congested()

    def failed(self) -> None:
        self.told = not self.channel.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def got(self) -> bytes:
        """What the peer can read now."""
        found = b""
        with suppress(BlockingIOError):
            while data := self.peer.recv(1 << 20):
                found += data
        return found


@pytest.fixture
async def rounds() -> AsyncIterator[Poller]:
    """The poller of the test's event loop, driven by hand."""
    found = poller()
    yield found
    found.close()


def ignore(_: bytes) -> None:
    """Hear nothing."""


async def test_what_protocols_write_goes_in_one_piece_when_all_were_called(rounds: Poller) -> None:
    target = Wired(ignore)
    seen: list[bytes] = []

    def pass_on(data: bytes) -> None:
        seen.append(target.got())
        target.channel.write(data)

    sends: list[bytes] = []
    real = rounds.send

    def send(descriptor: int, data: bytes | memoryview) -> int:
        sends.append(bytes(data))
        return real(descriptor, data)

    rounds.send = send
    sources = [Wired(pass_on), Wired(pass_on)]
    for source, data in zip(sources, (b"one", b"two"), strict=True):
        source.peer.send(data)
    rounds._poll()
    assert seen == [b"", b""]
    assert sorted(target.got()) == sorted(b"onetwo")
    assert len(sends) == 1


async def test_what_is_large_goes_at_once_and_in_order(rounds: Poller) -> None:
    target = Wired(ignore)
    large = b"x" * 20_000

    def pass_on(data: bytes) -> None:
        target.channel.write(data)
        target.channel.write(large)
        assert target.got() == data + large
        target.channel.write(b"end")

    source = Wired(pass_on)
    source.peer.send(b"begin")
    rounds._poll()
    assert target.got() == b"end"


@pytest.mark.parametrize("end", [Channel.close, Channel.abort])
async def test_last_words_are_sent(rounds: Poller, end: Callable[[Channel], None]) -> None:
    target = Wired(ignore)

    def part(_: bytes) -> None:
        target.channel.write(b"farewell")
        end(target.channel)

    source = Wired(part)
    source.peer.send(b"go")
    rounds._poll()
    assert target.got() == b"farewell"
    assert target.channel.is_closing()


async def test_last_words_to_a_peer_that_has_gone(rounds: Poller) -> None:
    """Its end is read in the next round, when what was put off has gone."""
    one = Wired(ignore)
    one.hear = lambda data: one.channel.write(b"answer")
    one.peer.send(b"question")
    one.peer.shutdown(socket.SHUT_WR)
    rounds._poll()
    rounds._poll()
    assert one.got() == b"answer"
    assert one.lost


async def test_a_channel_closed_by_another_hears_nothing_more(rounds: Poller) -> None:
    heard: list[bytes] = []
    both: list[Wired] = []

    def close_all(data: bytes) -> None:
        heard.append(data)
        for one in both:
            one.channel.abort()

    both += [Wired(close_all), Wired(close_all)]
    for one in both:
        one.peer.send(b"data")
    rounds._poll()
    assert heard == [b"data"]


async def test_a_mistake_ends_one_connection_alone(rounds: Poller) -> None:
    def fail(_: bytes) -> None:
        raise RuntimeError("a mistake")

    heard: list[bytes] = []
    wrong, right = Wired(fail), Wired(heard.append)
    for one in (wrong, right):
        one.peer.send(b"data")
    rounds._poll()
    assert wrong.channel.is_closing()
    assert (wrong.told, right.told) == (True, False)
    assert heard == [b"data"]
    assert not right.channel.is_closing()


async def test_what_is_written_while_the_round_is_sent_comes_behind(rounds: Poller) -> None:
    """A protocol that is told to pause may write to others, whose bytes have not gone yet."""
    first, second = Wired(ignore), Wired(ignore)
    first.channel.set_write_buffer_limits(0)
    first.congested = lambda: second.channel.write(b"behind")
    with suppress(BlockingIOError):  # the next byte will not fit
        while True:
            first.channel.get_extra_info("socket").send(b"x" * 65536)

    def pass_on(_: bytes) -> None:
        first.channel.write(b"too much")
        second.channel.write(b"before ")

    source = Wired(pass_on)
    source.peer.send(b"go")
    rounds._poll()
    assert second.got() == b"before behind"


async def test_a_socket_that_is_given_away_has_had_what_was_written(rounds: Poller) -> None:
    one = Wired(ignore)

    def part(_: bytes) -> None:
        one.channel.write(b"switching")
        one.channel.detach().close()

    one.hear = part
    one.peer.send(b"go")
    rounds._poll()
    assert one.got() == b"switching"


async def test_outside_a_round_bytes_go_at_once(rounds: Poller) -> None:
    one = Wired(ignore)
    one.channel.write(b"now")
    assert one.got() == b"now"
