"""A channel whose bytes are encrypted: TLS by OpenSSL, in memory, over a channel's socket.

What the socket gives is decrypted whole at each read, so nothing decrypted ever waits here, and
back-pressure is the raw channel's. What is written is encrypted at once, a piece at a time.
Plain connections are `Channel`s and pass through none of this.
"""

import contextlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.net.channel import Channel, ChannelProtocol, poller
from proxy.net.endpoint import server_end_point

_RECORD: Final = 16 * 1024
"""Bytes; no TLS record holds more."""
_PIECE: Final = 64 * 1024
"""Bytes that are encrypted at a time: both forms of no more than these are in memory at once."""
_HANDSHAKE_BYTES: Final = 256 * 1024
"""Most that a peer may send before the handshake is done; certificate chains are its largest."""

Secured = Callable[[ssl.SSLError | None], None]
"""Called once, when the handshake is done or has failed."""


class _Records(ChannelProtocol):
    """The raw channel's protocol: what comes is for the TLS channel to decrypt."""

    def __init__(self, owner: "TlsChannel", protocol: ChannelProtocol) -> None:
        self.owner = owner
        self.protocol = protocol
        self.failure: Exception | None = None

    def data_received(self, data: bytes) -> None:
        self.owner.encrypted_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.handshake_over(ssl.SSLEOFError(8, "the peer has gone during the handshake"))
        self.protocol.connection_lost(exc or self.failure)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


class TlsChannel(Channel):
    """See the module's docstring. Made from a plain channel, which is of no more use then; `begin`
    starts the handshake.

    `protocol` gets no bytes before `on_secured` was called with None; what is written earlier is
    dropped. After a failure the channel closes itself.
    """

    def __init__(
        self,
        plain: Channel,
        protocol: ChannelProtocol,
        context: ssl.SSLContext,
        on_secured: Secured,
        *,
        server_hostname: str | None = None,
        binding: bytes | None = None,
    ) -> None:
        """`server_hostname`: this is the client's end, and that the server's name; `binding`: of
        the server's own certificate."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._records = _Records(self, protocol)
        super().__init__(plain.detach(), self._records, poller())
        self._server_side = server_hostname is None
        self._binding = binding
        self._on_secured: Secured | None = on_secured
        self._handshake_bytes = 0
        self.secured = False

    @property
    def fast_descriptor(self) -> int:
        return -1

    def set_protocol(self, protocol: ChannelProtocol) -> None:
        """Events go to `protocol` from now on."""
        self._records.protocol = protocol

    def get_extra_info(self, name: str) -> Any:
        """As `Channel`'s; and of TLS:

        "tls": True. "ssl_object": OpenSSL's object. "cipher": version and cipher in words.
        "alpn": the application protocol agreed on, or None. "peercert_subject": of the peer's
        certificate, if that was verified: its parts by name ("commonName", …; the last one of
        each) and all of them as "dn" (RFC 4514). "channel_binding": tls-server-end-point
        (RFC 5929), or None where the server's certificate has none.
        """
        match name:
            case "tls":
                return True
            case "ssl_object":
                return self._tls
            case "cipher":
                cipher = self._tls.cipher()
                return f"{self._tls.version()}/{cipher[0]}" if cipher else None
            case "alpn":
                return self._tls.selected_alpn_protocol()
            case "peercert_subject":
                return _subject(self._tls)
            case "channel_binding":
                return self._channel_binding()
        return super().get_extra_info(name)

    def _channel_binding(self) -> bytes | None:
        if self._server_side:
            return self._binding
        certificate = self._tls.getpeercert(binary_form=True)
        return server_end_point(certificate) if certificate else None

    # From the peer

    def begin(self, received: bytes = b"") -> None:
        """Begin the handshake, with what was read before; the client's end speaks first."""
        if received:
            self.encrypted_received(received)
        else:
            self._handshake()

    def encrypted_received(self, data: bytes) -> None:
        """Bytes from the socket."""
        if self._closing:
            return
        self._incoming.write(data)
        if not self.secured:
            self._handshake_bytes += len(data)
            if self._handshake_bytes > _HANDSHAKE_BYTES:
                self._fail(ssl.SSLError(1, "the peer's handshake does not end"))
                return
            if not self._handshake():
                return
        self._decrypt()

    def _handshake(self) -> bool:
        """Go on as far as bytes are there; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self._flush()
        self.secured = True
        self.handshake_over(None)
        return not self._closing

    def handshake_over(self, error: ssl.SSLError | None) -> None:
        """Tell who waits for the handshake, once."""
        on_secured, self._on_secured = self._on_secured, None
        if on_secured is not None:
            on_secured(error)

    def _decrypt(self) -> None:
        """Hand on all that can be decrypted, in one call."""
        tls, incoming = self._tls, self._incoming
        parts: list[bytes] = []
        ended, failure = False, None
        try:
            while size := incoming.pending or tls.pending():
                data = tls.read(min(size, _RECORD))
                if not data:
                    ended = True  # the peer's close_notify
                    break
                parts.append(data)
        except ssl.SSLWantReadError:
            pass  # a record that has not come whole
        except ssl.SSLError as error:
            failure = error
        self._flush()
        if parts:
            self._records.protocol.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if failure is not None:
            self._fail(failure)
        elif ended:
            self._lose(None)

    def _fail(self, error: ssl.SSLError) -> None:
        """The stream is of no more use: send the alert that OpenSSL has made, and close."""
        if self._closing:
            return
        self._records.failure = error
        self._flush()
        super().close()
        self.handshake_over(error)

    # To the peer

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().write(self._outgoing.read())

    def write(self, data: bytes) -> None:
        """Send, now as far as the socket takes it."""
        if self._closing or not data or not self.secured:
            return
        try:
            if len(data) <= _PIECE:
                self._tls.write(data)
                super().write(self._outgoing.read())
                return
            view = memoryview(data)
            for start in range(0, len(data), _PIECE):
                self._tls.write(view[start : start + _PIECE])
                super().write(self._outgoing.read())
        except ssl.SSLError as error:
            self._records.failure = error
            self._lose_soon(error)

    def close(self) -> None:
        """Close when what was written has gone, with a close_notify behind it."""
        if self._closing:
            return
        if self.secured:
            with contextlib.suppress(ssl.SSLError):  # the peer's close_notify is not waited for
                self._tls.unwrap()
            self._flush()
        super().close()


def _subject(tls: ssl.SSLObject) -> dict[str, str] | None:
    certificate: Mapping[str, Any] = tls.getpeercert() or {}
    parts: list[tuple[str, str]] = [
        (name, value) for together in certificate.get("subject", ()) for name, value in together
    ]
    if not parts:
        return None
    if any("\0" in value for _, value in parts):
        return None  # made to be mistaken for another (CVE-2009-4034)
    return {**dict(parts), "dn": distinguished_name(parts)}


_SHORT_NAMES: Final = {
    "commonName": "CN",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}


def distinguished_name(parts: list[tuple[str, str]]) -> str:
    """A subject as RFC 4514 writes it (the last part first), which is what `pg_ident.conf` maps
    with `clientname=DN`."""
    return ",".join(
        f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in reversed(parts)
    )


def _escaped(value: str) -> str:
    text = "".join("\\" + char if char in '\\",+<>;' else char for char in value)
    if text[:1] in ("#", " "):
        text = "\\" + text
    if len(text) > 1 and text.endswith(" "):
        text = text[:-1] + "\\ "
    return text
