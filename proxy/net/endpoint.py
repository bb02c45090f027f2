"""The channel binding `tls-server-end-point`: a hash of the server's certificate (RFC 5929, 4.1).

The hash is that of the certificate's signature, SHA-256 where that is MD5 or SHA-1. Only as much
of DER (X.690) is read as leads to the signature's algorithm.
"""

import hashlib

_SHA256 = "sha256"
_HASHES = {
    # PKCS #1, RFC 8017: <hash>WithRSAEncryption
    "1.2.840.113549.1.1.4": _SHA256,  # MD5
    "1.2.840.113549.1.1.5": _SHA256,  # SHA-1
    "1.2.840.113549.1.1.11": _SHA256,
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    # ECDSA, RFC 5758 and RFC 3279
    "1.2.840.10045.4.1": _SHA256,  # SHA-1
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": _SHA256,
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    # Hashes by themselves, as RSASSA-PSS names them (RFC 4055)
    "1.3.14.3.2.26": _SHA256,  # SHA-1
    "2.16.840.1.101.3.4.2.1": _SHA256,
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
}
_RSASSA_PSS = "1.2.840.113549.1.1.10"
_SEQUENCE, _OID, _FIRST_FIELD = 0x30, 0x06, 0xA0


def server_end_point(certificate: bytes) -> bytes | None:
    """The binding for a certificate in DER; None where its signature names no hash (Ed25519), for
    which none is defined, or where it is malformed."""
    try:
        name = _hash_of(certificate)
    except (IndexError, ValueError):
        return None
    return None if name is None else hashlib.new(name, certificate).digest()


def _hash_of(certificate: bytes) -> str | None:
    outer, _ = _element(certificate, _SEQUENCE)
    _, rest = _element(outer, _SEQUENCE)  # what is signed
    algorithm, _ = _element(rest, _SEQUENCE)
    oid, parameters = _element(algorithm, _OID)
    name = _dotted(oid)
    if name != _RSASSA_PSS:
        return _HASHES.get(name)
    fields, _ = _element(parameters, _SEQUENCE)
    if not fields or fields[0] != _FIRST_FIELD:
        return _SHA256  # the default is SHA-1
    field, _ = _element(fields, _FIRST_FIELD)
    hashing, _ = _element(field, _SEQUENCE)
    return _HASHES.get(_dotted(_element(hashing, _OID)[0]))


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The contents of the first element, which must have this tag, and what is behind it."""
    if data[0] != tag:
        raise ValueError(f"tag {data[0]:#x} instead of {tag:#x}")
    length, start = data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start])
    end = start + length
    if end > len(data):
        raise ValueError("an element ends behind the data")
    return data[start:end], data[end:]


def _dotted(oid: bytes) -> str:
    parts = [min(oid[0] // 40, 2)]
    parts.append(oid[0] - 40 * parts[0])
    value = 0
    for byte in oid[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            parts.append(value)
            value = 0
    return ".".join(map(str, parts))
