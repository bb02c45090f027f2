"""The layout of a stored entry, and the tokens and digests in it.

    "P"  version  form  number of epochs (2 bytes)  epochs (16 bytes each)  body  check (4)

The check is the CRC-32 of the digest and all that stands before it. It comes last and with its
lowest byte first, so that the CRC of a whole entry, itself included, is always `SOUND`. Since the
digest counts, an entry copied to another key is no entry. It guards against damage, not forgery;
an encrypted body is proof against that too.

A reader that knows which epochs are current knows how a valid entry must begin: one comparison
refuses other versions, other forms and moved epochs at once. What the forms are, see `codec`.
Nothing in an entry is ever executed or unpickled.
"""

import struct
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from os import urandom
from typing import Final
from zlib import crc32

TOKEN_SIZE = 16
DIGEST_SIZE = 16
CHECK_SIZE: Final = 4
MAX_EPOCHS = 0xFFFF

SOUND: Final = 0x2144DF1C
"""The CRC of what ends with its own CRC: a property of CRC-32."""

PLAIN: Final = 0
"""Form of an entry whose body is the payload."""
COMPRESSED: Final = 1
ENCRYPTED: Final = 2

VERSION: Final = 2

_HEADER = struct.Struct(">cBBH")


def entry_digest(context: bytes, request: bytes) -> bytes:
    """The 16 bytes that name a result: of everything that can change it, and of the request."""
    return blake2b(b"%d:" % len(context) + context + request, digest_size=DIGEST_SIZE).digest()


def token_source() -> Callable[[], bytes]:
    """A function that gives a new epoch token of 16 bytes at each call.

    No token ever comes twice, from any process: eight random bytes of this source and a counter. So
    an epoch key that was evicted, lost or rolled back can't come to equal an older entry's again.
    """
    source = urandom(8)
    numbers = count(1)
    return lambda: source + next(numbers).to_bytes(8, "big")


def header(epochs: int, form: int = PLAIN) -> bytes:
    """How an entry of so many epochs begins. Raises struct.error above MAX_EPOCHS."""
    return _HEADER.pack(b"P", VERSION, form, epochs)


HEADER_SIZE = _HEADER.size


def read_header(entry: bytes) -> tuple[int, int, int] | None:
    """(version, form, number of epochs); None where it is no entry's beginning."""
    if len(entry) < HEADER_SIZE:
        return None
    mark, version, form, epochs = _HEADER.unpack_from(entry)
    return (version, form, epochs) if mark == b"P" else None


def check(digest: bytes, *pieces: bytes) -> bytes:
    """What ends the entry named `digest` that is made of these pieces."""
    value = crc32(digest)
    for piece in pieces:
        value = crc32(piece, value)
    return value.to_bytes(CHECK_SIZE, "little")


def is_sound(digest: bytes, entry: bytes) -> bool:
    """Whether the entry is as it was stored under `digest`."""
    return crc32(entry, crc32(digest)) == SOUND
