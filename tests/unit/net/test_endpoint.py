"""tls-server-end-point: which hash, and nothing of what is malformed."""

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from proxy.net.endpoint import server_end_point

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db.example")])


def certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    algorithm: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None,
    pss: bool = False,
) -> bytes:
    """A certificate signed by its own key, in DER."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if pss:
        assert algorithm is not None
        filling = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
        return builder.sign(key, algorithm, rsa_padding=filling).public_bytes(Encoding.DER)
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize("key", [RSA, EC], ids=["RSA", "ECDSA"])
@pytest.mark.parametrize(
    "algorithm", [hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]
)
def test_the_hash_is_that_of_the_signature(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    algorithm: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512,
) -> None:
    der = certificate(key, algorithm)
    assert server_end_point(der) == hashlib.new(algorithm.name, der).digest()


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_hash_among_the_parameters(
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512,
) -> None:
    der = certificate(RSA, algorithm, pss=True)
    assert server_end_point(der) == hashlib.new(algorithm.name, der).digest()


def test_sha_1_and_md5_count_as_sha_256() -> None:
    """Nothing signs with them any more: the algorithm's identifier is exchanged instead."""
    der = certificate(RSA, hashes.SHA256())
    identifier = bytes.fromhex("06092a864886f70d01010b")  # sha256WithRSAEncryption
    assert der.count(identifier) == 2
    for last in (4, 5):
        old = der.replace(identifier, identifier[:-1] + bytes((last,)))
        assert server_end_point(old) == hashlib.sha256(old).digest()


def test_a_signature_without_a_hash_has_no_binding() -> None:
    assert server_end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    assert server_end_point(data) is None


@given(st.integers(min_value=0, max_value=600))
def test_a_certificate_cut_short(length: int) -> None:
    der = certificate(EC, hashes.SHA256())
    assert server_end_point(der[: min(length, len(der) - 1)]) is None
