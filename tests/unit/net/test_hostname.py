"""Certificates and hosts, by libpq's rules."""

import pytest

from proxy.net.hostname import names_host


def certificate(*alternatives: tuple[str, str], name: str | None = None) -> dict[str, object]:
    """As `getpeercert` gives it."""
    subject = ((("organizationName", "O"),), *(((("commonName", name),),) if name else ()))
    return {"subject": subject, "subjectAltName": alternatives}


DNS, IP = "DNS", "IP Address"


@pytest.mark.parametrize(
    ("host", "names", "expected"),
    [
        ("db.example", certificate((DNS, "db.example")), True),
        ("DB.Example", certificate((DNS, "db.EXAMPLE")), True),
        ("db.example", certificate((DNS, "other.example"), (DNS, "db.example")), True),
        ("db.example", certificate((DNS, "other.example")), False),
        ("db.example", certificate((DNS, "db.example.org")), False),
        ("db.example", certificate(), False),
        ("db.example", {}, False),
        # One label, whole, at the start.
        ("db.example", certificate((DNS, "*.example")), True),
        ("a.db.example", certificate((DNS, "*.example")), False),
        ("a.db.example", certificate((DNS, "*.db.example")), True),
        ("example", certificate((DNS, "*.example")), False),
        (".example", certificate((DNS, "*.example")), False),
        ("db.example", certificate((DNS, "d*.example")), False),
        ("db.example", certificate((DNS, "db.*")), False),
        ("db.example", certificate((DNS, "*")), False),
        ("db.example", certificate((DNS, "")), False),
        ("db.example", certificate((DNS, "db.example\0.evil")), False),
        # The common name, where no alternative is of the host's kind.
        ("db.example", certificate(name="db.example"), True),
        ("db.example", certificate(name="*.example"), True),
        ("db.example", certificate((DNS, "other.example"), name="db.example"), False),
        ("db.example", certificate((IP, "10.0.0.1"), name="db.example"), True),
        # Addresses: as such, or as names.
        ("10.0.0.1", certificate((IP, "10.0.0.1")), True),
        ("10.0.0.1", certificate((IP, "10.0.0.2")), False),
        ("10.0.0.1", certificate((DNS, "10.0.0.1")), True),
        ("10.0.0.1", certificate((DNS, "other.example"), name="10.0.0.1"), True),
        ("10.0.0.1", certificate((IP, "10.0.0.2"), name="10.0.0.1"), False),
        ("::1", certificate((IP, "0:0:0:0:0:0:0:1\n")), True),
        ("::1", certificate((IP, "0:0:0:0:0:0:0:2")), False),
        ("db.example", certificate((IP, "db.example")), False),
    ],
)
def test_names(host: str, names: dict[str, object], expected: bool) -> None:
    assert names_host(names, host) is expected
