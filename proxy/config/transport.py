"""Settings of connections as such: TLS and TCP, of clients and of servers."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from proxy.config.section import Section
from proxy.config.types import Duration, File, OffIfEmpty

SYSTEM_CAS = Path("system")
"""In place of a CA file: the authorities that the operating system trusts."""

TlsMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
TlsVersion = Literal["tlsv1.2", "tlsv1.3"]


class TlsSettings(Section):
    """What both sides have in common."""

    cert_file: Annotated[File | None, OffIfEmpty] = Field(
        None, description="Penstock's certificate in PEM, with those of its issuers behind it"
    )
    key_file: Annotated[File | None, OffIfEmpty] = Field(
        None, description="the certificate's private key in PEM, not encrypted"
    )
    protocols: tuple[TlsVersion, ...] = Field(
        ("tlsv1.2", "tlsv1.3"), description="versions of TLS that are spoken"
    )
    ciphers: str = Field(
        "", description='for TLS 1.2, as OpenSSL lists them; "": the default of OpenSSL'
    )


class ClientTlsSettings(TlsSettings):
    """TLS between clients and Penstock. Unix sockets are never encrypted."""

    mode: TlsMode = Field(
        "disable",
        description="`allow` and `prefer`: if the client wants it; `require`: others are refused; "
        "`verify-ca` and `verify-full`: and the client shows a certificate of `ca_file`",
    )
    ca_file: Annotated[File | None, OffIfEmpty] = Field(
        None,
        description="authorities (PEM) of clients' certificates; where it is set, a certificate "
        "that a client shows has to be valid in every mode",
    )


class ServerTlsSettings(TlsSettings):
    """TLS between Penstock and the servers. Unix sockets are never encrypted."""

    mode: TlsMode = Field(
        "prefer",
        description="as libpq's sslmode: `require` checks no certificate, `verify-ca` its issuer, "
        "`verify-full` the server's name too",
    )
    ca_file: Annotated[File | None, OffIfEmpty] = Field(
        None,
        description='authorities (PEM) of servers\' certificates, or "system": those that the '
        "operating system trusts",
    )


class RedisTlsSettings(ServerTlsSettings):
    """TLS between Penstock and Redis, Sentinels and nodes of a cluster included."""

    enabled: bool = Field(
        False, description="with `sentinels` or `cluster`; a URL says it by `rediss://`"
    )
    mode: Literal["require", "verify-ca", "verify-full"] = Field(
        "verify-full",
        description="`require` checks no certificate, `verify-ca` its issuer, `verify-full` the "
        "name or address too, as Redis, Sentinels or nodes tell it",
    )
    ca_file: Annotated[File | None, OffIfEmpty] = Field(
        SYSTEM_CAS,
        description='authorities (PEM) of their certificates, or "system": those that the '
        "operating system trusts",
    )


class TcpSettings(Section):
    """What the kernel does to find out that the other end has gone."""

    keepalive: bool = Field(True, description="probe connections on which nothing comes")
    keepalive_idle: Duration = Field(
        0.0, description="silence before the first probe, in whole seconds; 0: the system's"
    )
    keepalive_interval: Duration = Field(
        0.0, description="between probes, in whole seconds; 0: the system's"
    )
    keepalive_count: int = Field(
        0, ge=0, le=127, description="unanswered probes that end a connection; 0: the system's"
    )
    user_timeout: Duration = Field(
        0.0, description="longest that sent bytes may stay unacknowledged; 0: the system's"
    )
