"""A connection from its first byte to its start-up packet: TLS, cancel requests.

Nobody has said yet who is there, so all that is kept is bounded: bytes by the length of a start-up
packet, time by the login timeout, and the number of such connections by `Reception.max_openings`.

Source: PostgreSQL documentation, "SSL Session Encryption" and "Start-up" (message flow).
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass

import structlog

from proxy.net.certificates import ClientTls
from proxy.net.channel import Channel, ChannelProtocol
from proxy.net.dialing import tls_reason
from proxy.net.tls_channel import TlsChannel
from proxy.session.login import LoginProtocol, Reception
from proxy.session.refusal import turn_away
from proxy.wire import errors, startup
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.messages import TERMINATE

log = structlog.get_logger(__name__)

_TLS_HANDSHAKE = b"\x16"
"""The first byte of TLS, which no start-up packet has: it would be over 300 MB long."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """What every connection needs before its login."""

    reception: Reception
    tls: ClientTls
    openings: dict["Opening", None]
    """Connections that have sent no start-up packet, the oldest first."""


class Opening(ChannelProtocol):
    """The protocol of a connection until its client has said who it is; see `LoginProtocol`."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._transport: Channel | None = None
        self._buffer = b""
        self._deadline: asyncio.TimerHandle | None = None
        self._asked: list[bool] = []
        """Requests for encryption so far: whether each was for GSS."""
        self._direct = False
        """TLS began without a request for it."""
        self._over = False

    def connection_made(self, transport: Channel) -> None:
        entrance = self._entrance
        self._transport = transport
        entrance.reception.counters.opening += 1
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(entrance.reception.login_timeout, self._drop)
        if len(entrance.openings) >= entrance.reception.max_openings:
            next(iter(entrance.openings))._make_room()
        entrance.openings[self] = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while not self._over and self._step():
                pass
        except ProtocolViolation as violation:
            self._refuse(PgError(errors.PROTOCOL_VIOLATION, str(violation)))
        except PgError as error:
            self._refuse(error)

    def _step(self) -> bool:
        """Take one packet; False if it has not come whole."""
        if self._buffer[:1] == _TLS_HANDSHAKE and not self._asked and self._may_encrypt():
            self._direct = True
            self._begin_tls()
            return False
        if self._buffer.startswith(TERMINATE):  # changed its mind before it said who it is
            self._close()
            return False
        needed = startup.needed(self._buffer)
        if len(self._buffer) < needed:
            return False
        packet, self._buffer = self._buffer[:needed], self._buffer[needed:]
        match startup.decode(packet):
            case startup.EncryptionRequest(gss):
                self._encryption_asked(gss)
            case startup.CancelRequest(process_id, secret):
                self._end()
                self._entrance.reception.registry.cancel(process_id, secret, self._close)
            case startup.StartupMessage() as opening:
                self._start(opening)
        return True

    # Encryption

    def _encryption_asked(self, gss: bool) -> None:
        assert self._transport is not None
        if self._buffer:
            raise ProtocolViolation("bytes came before the answer to a request to encrypt")
        if self._encrypted() or gss in self._asked:
            raise ProtocolViolation("a request to encrypt was already answered")
        self._asked.append(gss)
        if gss or not self._may_encrypt():
            self._transport.write(b"N")
            return
        self._transport.write(b"S")
        self._begin_tls()

    def _may_encrypt(self) -> bool:
        """Whether TLS is configured, this is no Unix socket, and TLS has not begun yet."""
        return (
            self._entrance.tls.context is not None and not self._local() and not self._encrypted()
        )

    def _local(self) -> bool:
        assert self._transport is not None
        own: socket.socket = self._transport.get_extra_info("socket")
        return own.family == socket.AF_UNIX

    def _encrypted(self) -> bool:
        return self._transport is not None and bool(self._transport.get_extra_info("tls"))

    def _begin_tls(self) -> None:
        tls, plain = self._entrance.tls, self._transport
        assert tls.context is not None
        assert plain is not None
        received, self._buffer = self._buffer, b""
        try:
            channel = TlsChannel(plain, self, tls.context, self._secured, binding=tls.binding)
        except BlockingIOError:  # the answer of one byte did not go out
            self._drop()
            return
        self._transport = channel
        channel.begin(received)

    def _secured(self, error: ssl.SSLError | None) -> None:
        if self._over:
            return
        assert self._transport is not None
        if error is not None:
            self._failed(tls_reason(error))
        elif self._direct and self._transport.get_extra_info("alpn") is None:
            # Any protocol that begins with TLS could be meant (PostgreSQL 17 asks for it too).
            self._failed("TLS without a request for it, and without ALPN")

    def _failed(self, reason: str) -> None:
        reception = self._entrance.reception
        reception.counters.login_failures[errors.PROTOCOL_VIOLATION] += 1
        assert self._transport is not None
        peer = str(self._transport.get_extra_info("peername"))
        log.info("TLS handshake failed", error=reason, peer=peer)
        self._close()

    # The end

    def _start(self, opening: startup.StartupMessage) -> None:
        tls, transport = self._entrance.tls, self._transport
        assert transport is not None
        if tls.required and not self._encrypted() and not self._local():
            raise PgError(
                errors.INVALID_AUTHORIZATION,
                f"only encrypted connections are accepted (client_tls.mode is {tls.settings.mode})",
                "connect with sslmode=require, or better verify-full",
            )
        assert self._deadline is not None
        login = LoginProtocol(self._entrance.reception)
        transport.set_protocol(login)
        unread, until = self._buffer, self._deadline.when()
        self._end()
        login.begin(transport, opening, unread, until)

    def _refuse(self, error: PgError) -> None:
        assert self._transport is not None
        self._end()
        turn_away(self._transport, self._entrance.reception.counters, error)

    def _make_room(self) -> None:
        self._entrance.reception.counters.clients_refused += 1
        self._drop()

    def _drop(self) -> None:
        """Too slow, or one too many."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._entrance.reception.counters.opening -= 1
        self._over = True
        self._entrance.openings.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
