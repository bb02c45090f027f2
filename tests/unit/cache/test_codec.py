"""What is in entries: plain, compressed, encrypted, damaged, foreign."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import codec
from proxy.cache.codec import Cipher, Codec
from proxy.cache.entry import (
    COMPRESSED,
    HEADER_SIZE,
    check,
    entry_digest,
    header,
    is_sound,
    token_source,
)
from proxy.cache.statistics import DAMAGED, FOREIGN, INVALIDATED

DIGEST = entry_digest(b"context", b"request")
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
EPOCHS = token_source()()
ROWS = b"one row like all the others;" * 40

CODECS: dict[str, Callable[[], Codec]] = {
    "plain": Codec,
    "compressing": lambda: Codec(10),
    "encrypting": lambda: Codec(0, KEY),
    "both": lambda: Codec(10, KEY),
}
each_codec = pytest.mark.parametrize("name", CODECS)


def encoded(codec: Codec, payload: bytes = ROWS, epochs: bytes = EPOCHS) -> bytes:
    return b"".join(codec.encode(DIGEST, epochs, payload))


@each_codec
@given(st.integers(0, 20), st.binary(max_size=300), st.integers(1, 5))
def test_what_is_encoded_decodes(name: str, count: int, payload: bytes, times: int) -> None:
    codec = CODECS[name]()
    epochs = b"".join(token() for token in [token_source()] * count)
    entry = encoded(codec, payload * times, epochs)
    assert codec.decode(DIGEST, entry) == (epochs, payload * times, "")
    assert codec.decode(DIGEST, entry, epochs).payload == payload * times
    assert is_sound(DIGEST, entry)


@each_codec
def test_another_process_reads_it(name: str) -> None:
    assert CODECS[name]().decode(DIGEST, encoded(CODECS[name]())).payload == ROWS


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_entry(entry: bytes) -> None:
    assert Codec().decode(DIGEST, entry).payload is None


@each_codec
@given(st.binary(min_size=1, max_size=50), st.data())
def test_any_changed_bit_is_damage(name: str, payload: bytes, data: st.DataObject) -> None:
    codec = CODECS[name]()
    entry = bytearray(encoded(codec, payload))
    at = data.draw(st.integers(0, len(entry) - 1))
    entry[at] ^= 1 << data.draw(st.integers(0, 7))
    reason = codec.decode(DIGEST, bytes(entry), EPOCHS).reason
    assert reason == (FOREIGN if at == 1 else DAMAGED)  # 1: the version


@each_codec
def test_an_entry_belongs_to_its_digest(name: str) -> None:
    codec = CODECS[name]()
    found = codec.decode(entry_digest(b"context", b"another"), encoded(codec))
    assert (found.payload, found.reason) == (None, DAMAGED)


@each_codec
def test_moved_epochs_are_told_from_damage(name: str) -> None:
    codec = CODECS[name]()
    assert codec.decode(DIGEST, encoded(codec), token_source()()).reason == INVALIDATED


def test_another_version_or_form_is_foreign() -> None:
    first = b"P\x01" + encoded(Codec())[2:]
    assert Codec().decode(DIGEST, first).reason == FOREIGN
    beginning = header(1, 4)
    unknown = b"".join((beginning, EPOCHS, ROWS, check(DIGEST, beginning, EPOCHS, ROWS)))
    assert Codec().decode(DIGEST, unknown).reason == FOREIGN


def test_only_what_grows_smaller_is_compressed() -> None:
    codec = Codec(len(ROWS) - 1)
    assert len(encoded(codec)) < len(ROWS) // 4
    assert len(encoded(Codec(len(ROWS)))) > len(ROWS)
    noise = bytes(range(256)) * 2
    assert noise[:256] in encoded(Codec(10), noise[:256])


def test_a_frame_of_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but a forger stores one: what it claims to hold must not be asked of the memory."""
    entry = encoded(Codec(10), bytes(1000))
    assert Codec().decode(DIGEST, entry).payload == bytes(1000)
    monkeypatch.setattr(codec, "_LONGEST", 999)
    assert Codec().decode(DIGEST, entry).reason == DAMAGED


def test_no_frame_is_damage() -> None:
    beginning = header(1, COMPRESSED)
    entry = b"".join((beginning, EPOCHS, ROWS, check(DIGEST, beginning, EPOCHS, ROWS)))
    assert Codec().decode(DIGEST, entry).reason == DAMAGED


# Encryption


def test_nothing_of_an_encrypted_payload_shows() -> None:
    assert b"row" in encoded(Codec(0))
    assert b"row" not in encoded(Codec(0, KEY))


def test_another_key_reads_nothing() -> None:
    assert Codec(0, OTHER_KEY).decode(DIGEST, encoded(Codec(0, KEY))).reason == FOREIGN
    assert Codec(0).decode(DIGEST, encoded(Codec(0, KEY))).reason == FOREIGN


def test_who_has_a_key_takes_nothing_that_is_not_encrypted() -> None:
    entry = encoded(Codec(0))
    with_key = Codec(0, KEY)
    assert with_key.decode(DIGEST, entry).reason == FOREIGN
    assert not entry.startswith(with_key.plain_header(1))
    assert entry.startswith(Codec(0).plain_header(1))


@given(st.data())
def test_a_forged_entry_is_refused_though_its_check_is_right(data: st.DataObject) -> None:
    """Any byte that its author can change, with the check made anew; other epochs too."""
    codec = Codec(0, KEY)
    entry = bytearray(encoded(codec))
    at = data.draw(st.integers(HEADER_SIZE, len(entry) - 5))
    entry[at] ^= 1 << data.draw(st.integers(0, 7))
    forged = bytes(entry[:-4]) + check(DIGEST, bytes(entry[:-4]))
    assert is_sound(DIGEST, forged)
    assert codec.decode(DIGEST, forged).payload is None


def test_an_encrypted_entry_moved_to_another_digest_is_refused() -> None:
    codec, other = Codec(0, KEY), entry_digest(b"context", b"another")
    entry = encoded(codec)
    assert codec.decode(other, entry[:-4] + check(other, entry[:-4])).reason == FOREIGN


def test_no_nonce_comes_twice() -> None:
    ciphers = [Cipher(KEY) for _ in range(3)]
    sealed = [cipher.encrypt(b"", b"") for cipher in ciphers for _ in range(100)]
    assert len({one[:24] for one in sealed}) == len(sealed)


def test_keys_of_many_processes_are_kept_in_bounds() -> None:
    reader = Cipher(KEY)
    for _ in range(codec._MOST_KEYS + 10):
        assert reader.decrypt(Cipher(KEY).encrypt(b"rows", b""), b"") == b"rows"
    assert len(reader._others) == codec._MOST_KEYS


def test_a_key_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Cipher(b"short")
