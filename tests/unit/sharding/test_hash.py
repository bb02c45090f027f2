"""The partition hash against values that PostgreSQL 18 computed."""

import uuid

import pytest

from proxy.sharding.hash import (
    HASH_PARTITION_SEED,
    hash_bytes_extended,
    hashint4extended,
    hashint8extended,
    partition_hash,
    shard_of,
)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, -4403592609991167795),
        (1, 5968994663651403477),
        (-1, -5017072347659237694),
        (42, 7363975540656877951),
        (9223372036854775807, 4938542303000433043),
        (-9223372036854775808, -6050265599104649060),
        (4294967296, 5968994663651403477),
        (-4294967297, 2147707635919668551),
    ],
)
def test_hashint8extended(value: int, expected: int) -> None:
    """SELECT hashint8extended(value, 8816678312871386365)"""
    assert _signed(hashint8extended(value, HASH_PARTITION_SEED)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 4154612158245552303),
        (1, -3670598878359251130),
        (-1, -1888257769727981238),
        (2147483647, -9109110466470504941),
        (-2147483648, 1977219185673256887),
    ],
)
def test_hashint4extended_without_seed(value: int, expected: int) -> None:
    """SELECT hashint4extended(value, 0)"""
    assert _signed(hashint4extended(value, 0)) == expected


@pytest.mark.parametrize(
    ("text", "without_seed", "seeded"),
    [
        ("", -6939563903564495251, -5700645584453517373),
        ("a", 3591986179850072241, -6705225459120232837),
        ("eleven char", 275857496556625011, 5711947440712858210),
        ("twelve chars", 3775680797941944007, 2890987966974328554),
        ("thirteen char", 1778844127111168792, -8394117280085282049),
        ("größe 漢字", 439349483284393280, -2622420168921466429),
        (
            "a much longer text than one block of twelve bytes",
            -268742271110108713,
            -28559250999377574,
        ),
    ],
)
def test_hashtextextended(text: str, without_seed: int, seeded: int) -> None:
    """SELECT hashtextextended(text COLLATE "C", seed)"""
    assert _signed(hash_bytes_extended(text.encode(), 0)) == without_seed
    assert _signed(hash_bytes_extended(text.encode(), HASH_PARTITION_SEED)) == seeded


def test_uuid_hash_extended() -> None:
    """SELECT uuid_hash_extended(uuid, 8816678312871386365)"""
    data = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").bytes
    assert _signed(hash_bytes_extended(data, HASH_PARTITION_SEED)) == 424513190990560493


def test_null_hashes_to_zero() -> None:
    assert partition_hash(None) == 0
    assert shard_of(None, 7) == 0


def test_shards_are_used_evenly() -> None:
    counts = [0] * 4
    for value in range(4000):
        counts[shard_of(value, 4)] += 1
    assert min(counts) > 900
