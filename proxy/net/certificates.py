"""TLS that is in use: a context, exchanged whole when its settings or files have changed.

Connections that are open keep what they began with.
"""

import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from proxy.config.transport import SYSTEM_CAS, ClientTlsSettings, ServerTlsSettings, TlsSettings
from proxy.net.contexts import TlsError, client_context, server_context

log = structlog.get_logger(__name__)

_Versions = tuple[tuple[str, int, int, int] | None, ...]


class Certificates:
    """What one side's settings and their files come to; `ClientTls` or `ServerTls`."""

    def __init__(self) -> None:
        self._versions: _Versions = ()
        self.context: ssl.SSLContext | None = None
        """None: there is no TLS."""

    def load(self) -> Callable[[], None]:
        """Read the files again. What is in use changes when the outcome is called.

        Raises TlsError.
        """
        raise NotImplementedError

    def files(self) -> tuple[Path | None, ...]:
        """Those that are looked at."""
        raise NotImplementedError

    def changed(self) -> bool:
        """Whether a file is another than at the last look."""
        return _versions(self.files()) != self._versions

    def refresh(self) -> bool:
        """Read the files again if they have changed; whether others are in use now.

        Files that can't be used are reported once, and the old ones stay in use.
        """
        if not self.changed():
            return False
        versions = _versions(self.files())
        try:
            use = self.load()
        except TlsError as error:
            self._versions = versions
            log.error("changed TLS files can't be used, the old ones stay", error=str(error))
            return False
        use()
        log.info("TLS files were read again", files=[str(file) for file in self.files() if file])
        return True


class ClientTls(Certificates):
    """TLS of clients. Raises TlsError."""

    def __init__(self, settings: ClientTlsSettings) -> None:
        super().__init__()
        self.settings = settings
        self.binding: bytes | None = None
        """tls-server-end-point of the certificate in use."""
        self.load()()

    @property
    def required(self) -> bool:
        """Whether clients that don't use TLS are refused."""
        return self.settings.mode not in ("disable", "allow", "prefer")

    def files(self) -> tuple[Path | None, ...]:
        return _files(self.settings)

    def load(self, settings: ClientTlsSettings | None = None) -> Callable[[], None]:
        """As `Certificates.load`, with other settings if there are any."""
        wanted = settings or self.settings
        versions = _versions(_files(wanted))
        context, binding = (None, None) if wanted.mode == "disable" else client_context(wanted)

        def use() -> None:
            self.settings, self._versions = wanted, versions
            self.context, self.binding = context, binding

        return use


class ServerTls(Certificates):
    """TLS of connections to a server. `section` is how messages name the settings.

    Raises TlsError.
    """

    def __init__(self, settings: ServerTlsSettings, section: str = "server_tls") -> None:
        super().__init__()
        self.settings = settings
        self.section = section
        self.load()()

    @property
    def mode(self) -> str:
        """libpq's sslmode."""
        return self.settings.mode

    def files(self) -> tuple[Path | None, ...]:
        return _files(self.settings)

    def load(
        self, settings: ServerTlsSettings | None = None, section: str | None = None
    ) -> Callable[[], None]:
        """As `Certificates.load`, with other settings if there are any."""
        wanted, named = settings or self.settings, section or self.section
        versions = _versions(_files(wanted))
        context = None if wanted.mode == "disable" else server_context(wanted, named)

        def use() -> None:
            self.settings, self.section, self._versions = wanted, named, versions
            self.context = context

        return use


def _files(settings: ClientTlsSettings | ServerTlsSettings) -> tuple[Path | None, ...]:
    if settings.mode == "disable":
        return ()
    authorities = None if settings.ca_file == SYSTEM_CAS else settings.ca_file
    return (*_own_files(settings), authorities)


def _own_files(settings: TlsSettings) -> tuple[Path | None, ...]:
    return settings.cert_file, settings.key_file


def _versions(files: tuple[Path | None, ...]) -> _Versions:
    return tuple(None if file is None else _version(file) for file in files)


def _version(file: Path) -> tuple[str, int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), found.st_ino, found.st_size, found.st_mtime_ns
