"""From TLS settings to OpenSSL contexts, and what can go wrong with them.

Not compiled: compiled classes can't extend those of the standard library.
"""

import re
import ssl
from pathlib import Path
from typing import Any

from proxy.config.transport import SYSTEM_CAS, ClientTlsSettings, ServerTlsSettings, TlsSettings
from proxy.net.endpoint import server_end_point
from proxy.net.hostname import names_host, names_of

ALPN = "postgresql"
"""PostgreSQL's name as an application protocol, which direct TLS needs."""

_VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class TlsError(Exception):
    """TLS can't be done as the settings want it; the text names setting, file and reason."""


class TlsRefused(OSError):
    """A server doesn't do TLS, or what it does is not what the settings demand."""


class NamedServer(ssl.SSLObject):
    """A client's end of TLS that is not ready before the server's certificate names the host, as
    libpq understands it. OpenSSL's own check differs where a host is an address."""

    def do_handshake(self) -> None:
        super().do_handshake()
        certificate: dict[str, Any] = self.getpeercert() or {}
        host = self.server_hostname or ""
        if not names_host(certificate, host):
            names = ", ".join(names_of(certificate)) or "nothing"
            raise ssl.SSLCertVerificationError(
                1, f'the server\'s certificate is for {names}, and the host is "{host}"'
            )


def client_context(settings: ClientTlsSettings) -> tuple[ssl.SSLContext, bytes | None]:
    """The context for clients, and the tls-server-end-point binding of its certificate.

    Raises TlsError.
    """
    section = "client_tls"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _common(context, settings, section)
    # As PostgreSQL: no session is ever taken up again, so nothing of one is kept or sent.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    if settings.ca_file is not None:
        _load_authorities(context, settings.ca_file, section)
        needed = settings.mode.startswith("verify")
        context.verify_mode = ssl.CERT_REQUIRED if needed else ssl.CERT_OPTIONAL
    assert settings.cert_file is not None  # config.checks
    return context, _binding(settings.cert_file)


def server_context(settings: ServerTlsSettings, section: str) -> ssl.SSLContext:
    """The context for servers. `section` is how messages name the settings. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _common(context, settings, section)
    if settings.mode.startswith("verify") and settings.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        if settings.ca_file == SYSTEM_CAS:
            context.load_default_certs()
        else:
            _load_authorities(context, settings.ca_file, section)
    if settings.mode == "verify-full":
        context.sslobject_class = NamedServer
    return context


def lowest_version(settings: TlsSettings) -> ssl.TLSVersion:
    """The oldest version of TLS that the settings let be spoken."""
    return min(_VERSIONS[name] for name in settings.protocols)


def _common(context: ssl.SSLContext, settings: TlsSettings, section: str) -> None:
    versions = sorted(_VERSIONS[name] for name in settings.protocols)
    context.minimum_version, context.maximum_version = versions[0], versions[-1]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([ALPN])
    if settings.ciphers:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            raise TlsError(
                f'{section}.ciphers = "{settings.ciphers}": OpenSSL knows no such cipher; '
                f"`openssl ciphers -v` lists them"
            ) from None
    if settings.cert_file is not None and settings.key_file is not None:
        _load_certificate(context, settings.cert_file, settings.key_file, section)


def _load_certificate(context: ssl.SSLContext, cert: Path, key: Path, section: str) -> None:
    for name, file in (("cert_file", cert), ("key_file", key)):
        _read(file, f"{section}.{name}")

    def no_passphrase() -> bytes:
        raise TlsError(
            f"{section}.key_file: {key} is encrypted: store it without a passphrase, "
            f"readable by Penstock's account alone"
        )

    try:
        context.load_cert_chain(cert, key, password=no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = "the key is not that of the certificate"
        else:
            reason = f"not a certificate and its key in PEM ({error.reason or error})"
        message = f"{section}.cert_file and key_file: {cert}, {key}: {reason}"
        raise TlsError(message) from None


def _load_authorities(context: ssl.SSLContext, file: Path, section: str) -> None:
    _read(file, f"{section}.ca_file")
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise TlsError(
            f"{section}.ca_file: {file} holds no certificates in PEM ({error.reason or error})"
        ) from None


def _read(file: Path, setting: str) -> str:
    try:
        return file.read_text(encoding="latin-1")
    except OSError as error:
        raise TlsError(f"{setting}: {file} can't be read: {error.strerror or error}") from None


def _binding(cert: Path) -> bytes | None:
    found = _CERTIFICATE.search(_read(cert, "client_tls.cert_file"))
    return server_end_point(ssl.PEM_cert_to_DER_cert(found[0])) if found else None
