"""The hash of PostgreSQL's `PARTITION BY HASH`, so that a shard holds what a partition would.

The functions follow PostgreSQL's sources and keep their names: `hash_bytes_extended` and
`hash_bytes_uint32_extended` from src/common/hashfn.c (Bob Jenkins's lookup3 with a 64-bit seed),
the integer and text variants from src/backend/access/hash/hashfunc.c, `hash_combine64` from
src/include/common/hashfn.h, and the combination over the key columns from
`compute_partition_hash_value` in src/backend/partitioning/partbounds.c. Hashes are unsigned 64-bit
integers. PostgreSQL reads words in the machine's byte order; this is the little-endian result,
which is what x86-64 and ARM servers compute.
"""

from struct import iter_unpack, unpack_from

HASH_PARTITION_SEED = 0x7A5B22367996DCFD
"""The seed that src/include/catalog/partition.h gives to every hash-partitioned table."""

_U32 = 0xFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF
_GOLDEN_RATIO = 0x9E3779B9
_SEED_OFFSET = 3923095
_COMBINE = 0x49A0F4DD15E5A8E3


def _rot(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _U32


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c & _U32) ^ _rot(c, 4)
    c = c + b & _U32
    b = (b - a & _U32) ^ _rot(a, 6)
    a = a + c & _U32
    c = (c - b & _U32) ^ _rot(b, 8)
    b = b + a & _U32
    a = (a - c & _U32) ^ _rot(c, 16)
    c = c + b & _U32
    b = (b - a & _U32) ^ _rot(a, 19)
    a = a + c & _U32
    c = (c - b & _U32) ^ _rot(b, 4)
    b = b + a & _U32
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    """The 64-bit hash of a finished state."""
    c = (c ^ b) - _rot(b, 14) & _U32
    a = (a ^ c) - _rot(c, 11) & _U32
    b = (b ^ a) - _rot(a, 25) & _U32
    c = (c ^ b) - _rot(b, 16) & _U32
    a = (a ^ c) - _rot(c, 4) & _U32
    b = (b ^ a) - _rot(a, 14) & _U32
    c = (c ^ b) - _rot(b, 24) & _U32
    return b << 32 | c


def _seeded(length: int, seed: int) -> tuple[int, int, int]:
    start = _GOLDEN_RATIO + length + _SEED_OFFSET & _U32
    if seed == 0:
        return start, start, start
    return _mix(start + (seed >> 32) & _U32, start + seed & _U32, start)


_UINT32_STATE = _seeded(4, HASH_PARTITION_SEED)
"""Partition hashes of integers all start here, so it is computed once."""


def hash_bytes_extended(data: bytes, seed: int) -> int:
    """The hash of a byte string (text, varchar, uuid)."""
    length = len(data)
    a, b, c = _seeded(length, seed)
    whole = length - length % 12
    for first, second, third in iter_unpack("<3I", memoryview(data)[:whole]):
        a, b, c = _mix(a + first & _U32, b + second & _U32, c + third & _U32)
    if whole < length:
        # The lowest byte of c is left to the length: its three bytes sit one higher.
        rest = data[whole:]
        padded = rest[:8].ljust(8, b"\0") + b"\0" + rest[8:].ljust(3, b"\0")
        first, second, third = unpack_from("<3I", padded)
        a, b, c = a + first & _U32, b + second & _U32, c + third & _U32
    return _final(a, b, c)


def hash_bytes_uint32_extended(word: int, seed: int) -> int:
    """The hash of one unsigned 32-bit word."""
    a, b, c = _UINT32_STATE if seed == HASH_PARTITION_SEED else _seeded(4, seed)
    return _final(a + word & _U32, b, c)


def hashint4extended(value: int, seed: int) -> int:
    """The hash of an int2 or int4: the value sign-extended to 32 bits."""
    return hash_bytes_uint32_extended(value & _U32, seed)


def hashint8extended(value: int, seed: int) -> int:
    """The hash of an int8, equal to that of an int4 of the same value."""
    high = value >> 32
    low = (value ^ (high if value >= 0 else ~high)) & _U32
    return hash_bytes_uint32_extended(low, seed)


def hash_combine64(a: int, b: int) -> int:
    """The hash of two hashes."""
    return a ^ (b + _COMBINE + (a << 54) + (a >> 7) & _U64)


def partition_hash(value: int | bytes | None) -> int:
    """What compute_partition_hash_value gives for one key column.

    An integer stands for any of int2, int4 and int8 (they hash alike), bytes for text and varchar
    (in the database's encoding, deterministic collations) and for a uuid's 16 bytes. NULL hashes
    to 0.
    """
    if value is None:
        return 0
    if isinstance(value, int):
        return hash_combine64(0, hashint8extended(value, HASH_PARTITION_SEED))
    return hash_combine64(0, hash_bytes_extended(value, HASH_PARTITION_SEED))


def shard_of(value: int | bytes | None, count: int) -> int:
    """The shard, from 0, of a key among `count`: the remainder of PostgreSQL's partition."""
    return partition_hash(value) % count
