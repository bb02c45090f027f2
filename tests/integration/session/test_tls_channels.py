"""Channels with TLS over pairs of sockets: what goes in comes out, and what is told of a peer."""

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config.transport import ClientTlsSettings, TcpSettings
from proxy.net.certificates import ClientTls
from proxy.net.channel import Channel, ChannelProtocol
from proxy.net.listener import open_channel
from proxy.net.listening import ChannelListener, listen_to
from proxy.net.tls_channel import TlsChannel
from proxy.net.tuning import tune
from tests.certificates import Authority, Pair, new_authority

PATIENCE = 10.0


class Recorder:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.data = bytearray()
        self.paused = False
        self.came = asyncio.Event()
        self.lost = asyncio.Event()
        self.error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.lost.set()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    async def has(self, count: int) -> bytes:
        """What has come, once that is so much."""
        async with asyncio.timeout(PATIENCE):
            while len(self.data) < count:
                self.came.clear()
                await self.came.wait()
        return bytes(self.data)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return new_authority(tmp_path)


def server_side(authority: Authority, mode: str = "require") -> tuple[ClientTls, Pair]:
    pair = authority.server()
    settings = ClientTlsSettings.model_validate(
        {
            "mode": mode,
            "cert_file": pair.certificate,
            "key_file": pair.key,
            "ca_file": authority.file,
        }
    )
    return ClientTls(settings), pair


def client_side(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


async def joined(
    server: ClientTls, client: ssl.SSLContext
) -> tuple[TlsChannel, Recorder, TlsChannel, Recorder]:
    """Both ends, the handshake done."""
    loop = asyncio.get_running_loop()
    ends = []
    assert server.context is not None
    for sock, context, host in zip(
        socket.socketpair(), (server.context, client), (None, "localhost"), strict=True
    ):
        secured: asyncio.Future[None] = loop.create_future()
        recorder = Recorder()
        plain = open_channel(sock, ChannelProtocol())
        channel = TlsChannel(
            plain,
            ChannelProtocol(),
            context,
            _into(secured),
            server_hostname=host,
            binding=server.binding if host is None else None,
        )
        listen_to(channel, recorder)
        recorder.channel = channel
        ends.append((channel, recorder, secured))
    for channel, _, _ in ends:
        channel.begin()
    async with asyncio.timeout(PATIENCE):
        for _, _, secured in ends:
            await secured
    (one, heard_by_one, _), (other, heard_by_other, _) = ends
    return one, heard_by_one, other, heard_by_other


def _into(future: "asyncio.Future[None]") -> Callable[[ssl.SSLError | None], None]:
    def secured(error: ssl.SSLError | None) -> None:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    return secured


async def test_bytes_of_all_sizes_both_ways(authority: Authority) -> None:
    server, _ = server_side(authority)
    one, at_one, other, at_other = await joined(server, client_side(authority))
    sent = bytearray()
    for size in (1, 100, 959, 960, 961, 16_383, 16_384, 16_385, 65_536, 65_537, 1_000_000):
        data = os.urandom(size)
        sent += data
        one.write(data)
        other.write(data)
    assert await at_other.has(len(sent)) == sent
    assert await at_one.has(len(sent)) == sent
    one.close()
    async with asyncio.timeout(PATIENCE):
        await at_other.lost.wait()
        await at_one.lost.wait()
    assert at_other.error is None  # a close_notify came: this is the end as it was meant
    assert len(at_other.data) == len(sent)


async def test_a_reader_that_pauses(authority: Authority) -> None:
    """The writer is told; nothing is delivered meanwhile, nothing lost, nothing out of order."""
    server, _ = server_side(authority)
    one, at_one, other, at_other = await joined(server, client_side(authority))
    other.pause_reading()
    data, written = os.urandom(50_000), 0
    while not at_one.paused:
        one.write(data)
        written += len(data)
        assert written < 50 << 20
        await asyncio.sleep(0)
    assert at_other.data == b""
    one.close()
    other.resume_reading()
    assert await at_other.has(written) == data * (written // len(data))
    async with asyncio.timeout(PATIENCE):
        await at_other.lost.wait()


async def test_what_is_left_unsaid(authority: Authority) -> None:
    """A peer that vanishes ends the connection; writing to it then does nothing."""
    server, _ = server_side(authority)
    one, at_one, other, _ = await joined(server, client_side(authority))
    other.abort()
    async with asyncio.timeout(PATIENCE):
        await at_one.lost.wait()
    one.write(b"x")
    one.close()
    one.abort()


async def test_what_a_channel_tells(authority: Authority) -> None:
    server, pair = server_side(authority, "verify-full")
    shown = authority.client("ann", organization="Sales, EMEA")
    one, _, other, _ = await joined(server, client_side(authority, shown))
    assert one.get_extra_info("tls") is other.get_extra_info("tls") is True
    subject = one.get_extra_info("peercert_subject")
    assert subject["commonName"] == "ann"
    assert subject["organizationName"] == "Sales, EMEA"
    assert subject["dn"].startswith("CN=ann,")
    assert "O=Sales\\, EMEA" in subject["dn"]
    binding = hashlib.sha256(pair.der).digest()  # signed with ECDSA and SHA-256
    assert one.get_extra_info("channel_binding") == binding
    assert other.get_extra_info("channel_binding") == binding
    assert one.get_extra_info("cipher").startswith("TLSv1.")
    assert one.get_extra_info("alpn") is None
    assert one.get_extra_info("peercred") == (os.getpid(), os.getuid(), os.getgid())
    one.abort()
    other.abort()


async def test_no_certificate_shown(authority: Authority) -> None:
    server, _ = server_side(authority)
    one, _, other, _ = await joined(server, client_side(authority))
    assert one.get_extra_info("peercert_subject") is None
    one.abort()
    other.abort()


async def test_what_a_plain_channel_tells() -> None:
    ours, theirs = socket.socketpair()
    channel = open_channel(ours, ChannelProtocol())
    assert channel.get_extra_info("tls") is False
    assert channel.get_extra_info("peercert_subject") is None
    assert channel.get_extra_info("channel_binding") is None
    assert channel.get_extra_info("peercred") == (os.getpid(), os.getuid(), os.getgid())
    channel.abort()
    theirs.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        over_tcp = socket.create_connection(server.getsockname())
        channel = open_channel(over_tcp, ChannelProtocol())
        assert channel.get_extra_info("peercred") is None
        channel.abort()


async def test_a_failing_listener_loses_its_own_connection(authority: Authority) -> None:
    server, _ = server_side(authority)
    one, _, other, at_other = await joined(server, client_side(authority))

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("a mistake")

    failing: ChannelListener = Failing()
    listen_to(one, failing)
    other.write(b"x")
    async with asyncio.timeout(PATIENCE):
        await at_other.lost.wait()


def test_tcp_options() -> None:
    settings = TcpSettings.model_validate(
        {
            "keepalive_idle": "60s",
            "keepalive_interval": "10s",
            "keepalive_count": 3,
            "user_timeout": "1500ms",
        }
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        tune(server, settings)
        made = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with made, accepted:  # what was set on the listening socket holds for those it accepts
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            for option, value in (
                (socket.TCP_NODELAY, 1),
                (socket.TCP_KEEPIDLE, 60),
                (socket.TCP_KEEPINTVL, 10),
                (socket.TCP_KEEPCNT, 3),
                (socket.TCP_USER_TIMEOUT, 1500),
            ):
                assert accepted.getsockopt(socket.IPPROTO_TCP, option) == value
            tune(made, TcpSettings(keepalive=False))
            assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
