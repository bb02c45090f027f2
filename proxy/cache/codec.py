"""From payloads to the bodies of entries and back: as they are, compressed, encrypted.

A payload longer than a limit is compressed by zstd where that saves an eighth of it. With a key,
the body is then encrypted by AES-256-GCM, which also vouches for digest, form and epochs:

    salt (16)  number (8)  ciphertext and tag

Each process makes one salt, and from it and the configured key a key of its own, under which its
numbers never repeat: so no nonce is used twice, however many entries are stored. Who has a key
takes nothing that is not encrypted, since anybody who can write to Redis could have put it there.
"""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from os import urandom
from typing import Any, Final, NamedTuple

import zstandard

from proxy.cache.entry import (
    CHECK_SIZE,
    COMPRESSED,
    ENCRYPTED,
    HEADER_SIZE,
    PLAIN,
    TOKEN_SIZE,
    VERSION,
    check,
    header,
    is_sound,
    read_header,
)
from proxy.cache.statistics import DAMAGED, FOREIGN, INVALIDATED
from proxy.config.cache_settings import CacheSettings
from proxy.config.types import KEY_SIZE, key_bytes

_LEVEL: Final = 1
_SALT_SIZE: Final = 16
_NUMBER_SIZE: Final = 8
_TAG_SIZE: Final = 16
_LONGEST: Final = 1 << 30
"""Bytes of a payload, as of any answer that is kept."""
_MOST_KEYS: Final = 256
"""Of other processes, kept at once."""


def codec_for(settings: CacheSettings) -> "Codec":
    """The codec that the settings ask for."""
    key = settings.encryption_key
    return Codec(
        settings.compress_above, None if key is None else key_bytes(key.get_secret_value())
    )


class Decoded(NamedTuple):
    """What is in an entry."""

    epochs: bytes
    payload: bytes | None
    reason: str
    """Why there is no payload; "" where there is one."""


class Codec:
    """See the module's docstring. `compress_above`: bytes, 0: never. `key`: KEY_SIZE bytes."""

    def __init__(self, compress_above: int = 0, key: bytes | None = None) -> None:
        self._compress_above = compress_above
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()
        self._cipher = None if key is None else Cipher(key)

    def plain_header(self, epochs: int) -> bytes:
        """How an entry of so many epochs begins whose body may be served as it is; what no entry
        begins with where nothing may. Raises struct.error for too many epochs."""
        beginning = header(epochs)
        return beginning if self._cipher is None else b"\0"

    def encode(self, digest: bytes, epochs: bytes, payload: bytes) -> tuple[bytes, ...]:
        """The entry named `digest`, filled while `epochs` (tokens in a row) were current: in
        pieces, so that a large payload is copied once, when the command is put together."""
        form, body = PLAIN, payload
        if self._compress_above and len(payload) > self._compress_above:
            smaller: bytes = self._compressor.compress(payload)
            if len(smaller) <= len(payload) * 7 // 8:
                form, body = COMPRESSED, smaller
        number = len(epochs) // TOKEN_SIZE
        if self._cipher is not None:
            form |= ENCRYPTED
            body = self._cipher.encrypt(body, digest + header(number, form) + epochs)
        beginning = header(number, form)
        return beginning, epochs, body, check(digest, beginning, epochs, body)

    def decode(self, digest: bytes, entry: bytes, current: bytes | None = None) -> Decoded:
        """What is in the entry that was found under `digest`. `current`: the epochs that it must
        have; None for a reader that doesn't know them."""
        known = read_header(entry)
        if known is None:
            return Decoded(b"", None, DAMAGED)
        version, form, number = known
        if version != VERSION:
            return Decoded(b"", None, FOREIGN)
        start = HEADER_SIZE + number * TOKEN_SIZE
        if len(entry) < start + CHECK_SIZE or not is_sound(digest, entry):
            return Decoded(b"", None, DAMAGED)
        epochs = entry[HEADER_SIZE:start]
        if current is not None and epochs != current:
            return Decoded(epochs, None, INVALIDATED)
        body: bytes | None = entry[start:-CHECK_SIZE]
        if (form & ENCRYPTED != 0) != (self._cipher is not None) or form > ENCRYPTED | COMPRESSED:
            return Decoded(epochs, None, FOREIGN)
        if self._cipher is not None:
            body = self._cipher.decrypt(entry[start:-CHECK_SIZE], digest + entry[:start])
            if body is None:
                return Decoded(epochs, None, FOREIGN)
        if form & COMPRESSED and body is not None:
            body = self._decompressed(body)
        return Decoded(epochs, body, DAMAGED if body is None else "")

    def _decompressed(self, body: bytes) -> bytes | None:
        try:
            if not 0 < zstandard.frame_content_size(body) <= _LONGEST:
                return None
            payload: bytes = self._decompressor.decompress(body)
        except zstandard.ZstdError:
            return None
        return payload


class Cipher:
    """Encryption under keys derived from one; see the module's docstring."""

    def __init__(self, key: bytes) -> None:
        # Costs memory and time to load, and few need it.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(key) != KEY_SIZE:
            raise ValueError(f"a key has {KEY_SIZE} bytes, this one has {len(key)}")
        self._key = key
        self._new_cipher: Callable[[bytes], Any] = AESGCM
        self._forged: type[Exception] = InvalidTag
        self._salt = urandom(_SALT_SIZE)
        self._own = self._derived(self._salt)
        self._numbers = count(1)
        self._others: OrderedDict[bytes, Any] = OrderedDict()
        """Ciphers by their salt, the one used last at the end."""

    def _derived(self, salt: bytes) -> Any:
        return self._new_cipher(
            blake2b(salt, digest_size=KEY_SIZE, key=self._key, person=b"penstock entries").digest()
        )

    def encrypt(self, body: bytes, context: bytes) -> bytes:
        """`body` in a form that only `decrypt` with the same `context` reads."""
        number = next(self._numbers).to_bytes(_NUMBER_SIZE, "big")
        sealed: bytes = self._own.encrypt(_nonce(number), body, context)
        return self._salt + number + sealed

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        """What was encrypted; None if another key or context was used, or somebody changed it."""
        start = _SALT_SIZE + _NUMBER_SIZE
        if len(sealed) < start + _TAG_SIZE:
            return None
        cipher = self._cipher_of(sealed[:_SALT_SIZE])
        try:
            body: bytes = cipher.decrypt(_nonce(sealed[_SALT_SIZE:start]), sealed[start:], context)
        except self._forged:
            return None
        return body

    def _cipher_of(self, salt: bytes) -> Any:
        if salt == self._salt:
            return self._own
        cipher = self._others.get(salt)
        if cipher is None:
            cipher = self._others[salt] = self._derived(salt)
            if len(self._others) > _MOST_KEYS:
                self._others.popitem(last=False)
        else:
            self._others.move_to_end(salt)
        return cipher


def _nonce(number: bytes) -> bytes:
    return b"\0\0\0\0" + number
