"""The idle clients' login."""

from benchmarks.clients.idle import _proof
from proxy.wire.scram import ScramServer, make_verifier


def test_a_server_accepts_the_proof() -> None:
    server = ScramServer(make_verifier("secret"))
    first = server.first(b"n,,n=,r=abc").decode()
    assert server.final(_proof("secret", "abc", first).encode()).startswith(b"v=")
