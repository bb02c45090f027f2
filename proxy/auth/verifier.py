"""Stored secrets as text: a plain password, an MD5 hash, or a SCRAM verifier.

Source: PostgreSQL's crypt.c (get_password_type) and auth-scram.c (parse_scram_secret).
"""

import base64
import re

from proxy.wire.passwords import Md5Hash, PlainPassword, StoredSecret
from proxy.wire.scram import Verifier

_MD5 = re.compile(r"md5[0-9a-f]{32}")
_SCRAM = re.compile(
    r"SCRAM-SHA-256\$(\d{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)"
)
_KEY_LENGTH = 32


def parse_stored(text: str) -> StoredSecret | None:
    """What a stored text is; None for an empty one, which no password fits.

    As in PostgreSQL, what is not exactly a hash or verifier is a plain password.
    """
    if not text:
        return None
    if _MD5.fullmatch(text):
        return Md5Hash(text)
    return _verifier(text) or PlainPassword(text)


def _verifier(text: str) -> Verifier | None:
    match = _SCRAM.fullmatch(text)
    if match is None or not int(match[1]):
        return None
    try:
        salt, stored, server = (
            base64.b64decode(part, validate=True) for part in match.groups()[1:]
        )
    except ValueError:
        return None
    if len(stored) != _KEY_LENGTH or len(server) != _KEY_LENGTH:
        return None
    return Verifier(salt, int(match[1]), stored, server)


def write_verifier(verifier: Verifier) -> str:
    """A verifier as PostgreSQL stores it."""
    salt, stored, server = (
        base64.b64encode(part).decode()
        for part in (verifier.salt, verifier.stored_key, verifier.server_key)
    )
    return f"SCRAM-SHA-256${verifier.iterations}:{salt}${stored}:{server}"
