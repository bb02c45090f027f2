"""Passwords, and what stands for them, as values that never show themselves.

Source: PostgreSQL's crypt.c, and "md5" under AuthenticationMD5Password in "Message Formats".
"""

import hashlib
import hmac
from dataclasses import dataclass

from proxy.wire.scram import ScramKeys, Verifier


@dataclass(frozen=True, slots=True, repr=False)
class PlainPassword:
    """The password itself."""

    text: str

    def __repr__(self) -> str:
        return "PlainPassword(***)"


@dataclass(frozen=True, slots=True, repr=False)
class Md5Hash:
    """ "md5" and the hash of password and user name. As good as the password for method md5."""

    text: str

    def __repr__(self) -> str:
        return "Md5Hash(***)"


StoredSecret = PlainPassword | Md5Hash | Verifier
"""What a client's password is checked against."""

ServerSecret = PlainPassword | Md5Hash | ScramKeys
"""What Penstock logs in to a server with."""


def md5_hash(user: str, password: str) -> Md5Hash:
    """What PostgreSQL stores for a password when password_encryption is md5."""
    return Md5Hash("md5" + hashlib.md5(password.encode() + user.encode()).hexdigest())


def md5_answer(stored: Md5Hash, salt: bytes) -> bytes:
    """The answer to AuthenticationMD5Password with this salt."""
    return b"md5" + hashlib.md5(stored.text[3:].encode() + salt).hexdigest().encode()


def same(one: bytes, other: bytes) -> bool:
    """Equality in a time that tells nothing of where they differ."""
    return hmac.compare_digest(one, other)
