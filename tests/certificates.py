"""Certificates of a test's own: authorities, servers, clients."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority, and where its certificate is."""

    made: trustme.CA
    directory: Path
    name: str

    @property
    def file(self) -> Path:
        """Its own certificate."""
        return self.directory / f"{self.name}.crt"

    def server(self, *names: str, file: str = "server") -> "Pair":
        """A certificate for a server of these host names and addresses (default: this host's)."""
        made = self.made.issue_cert(*(names or (HOST, "127.0.0.1")))
        return self._written(file, made)

    def client(self, user: str, organization: str = "Clients", file: str = "client") -> "Pair":
        """A certificate for a client, whose common name is `user`."""
        made = self.made.issue_cert(common_name=user, organization_name=organization)
        return self._written(file, made)

    def _written(self, file: str, made: trustme.LeafCert) -> "Pair":
        pair = Pair(self.directory / f"{file}.crt", self.directory / f"{file}.key")
        made.cert_chain_pems[0].write_to_path(pair.certificate)
        made.private_key_pem.write_to_path(pair.key)
        pair.key.chmod(0o600)  # libpq wants it so
        return pair


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate's file and its key's."""

    certificate: Path
    key: Path

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())


def new_authority(directory: Path, name: str = "ca") -> Authority:
    """An authority of its own, whose files are written to `directory`."""
    authority = Authority(trustme.CA(), directory, name)
    authority.made.cert_pem.write_to_path(authority.file)
    return authority
