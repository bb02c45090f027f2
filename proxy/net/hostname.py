"""Whether a certificate was made out to a host, by libpq's rules.

Source: PostgreSQL documentation, "SSL Client Support" (verify-full): the subject's alternative
names count; the common name does only where none of them is of the host's own kind. An asterisk
stands for one whole label at the start of a name.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any


def names_host(certificate: Mapping[str, Any], host: str) -> bool:
    """Whether `certificate`, as `SSLObject.getpeercert` gives it, names `host`."""
    address = _address(host)
    alternatives = certificate.get("subjectAltName", ())
    for kind, name in alternatives:
        if kind == "DNS" and _matches(name, host):
            return True
        if kind == "IP Address" and address is not None and _address(name) == address:
            return True
    own_kind = "IP Address" if address is not None else "DNS"
    if any(kind == own_kind for kind, _ in alternatives):
        return False
    return any(_matches(name, host) for name in _common_names(certificate))


def names_of(certificate: Mapping[str, Any]) -> list[str]:
    """All the names in a certificate, for messages."""
    alternatives = [name for kind, name in certificate.get("subjectAltName", ())]
    return [*alternatives, *_common_names(certificate)]


def _common_names(certificate: Mapping[str, Any]) -> Iterator[str]:
    for parts in certificate.get("subject", ()):
        for key, value in parts:
            if key == "commonName":
                yield value


def _matches(pattern: str, host: str) -> bool:
    pattern, host = pattern.lower(), host.lower()
    if not pattern or "\0" in pattern:
        return False
    if not pattern.startswith("*."):
        return pattern == host
    label, _, rest = host.partition(".")
    return bool(label) and rest == pattern[2:]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None
