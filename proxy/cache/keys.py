"""The layout of the keys in Redis.

    <prefix>:{<database>}:r:<label>:<digest>   a stored result
    <prefix>:{<database>}:w:<digest>           a lease: who runs the read that many wait for
    <prefix>:{<database>}:k:<key>              an application's own entry
    <prefix>:{<database>}:e:<table>            the epoch of a table
    <prefix>:{<database>}:e:<table>@           the epoch of all rows of a table by their keys
    <prefix>:{<database>}:e:<table>#<number>   the epoch of a group of keys of a table
    <prefix>:{<database>}:e:*                  the epoch of the whole database
    <prefix>:{<database>}:e:~<pattern>         the epoch of application keys that match a pattern
    <prefix>:{<database>}:p                    patterns that have an epoch, a set
    <prefix>:{<database>}:e:*schema            the epoch of its schema
    <prefix>:{<database>}:f:<what>             the change feed's position, sign of life, end
    <prefix>:{<database>}:b:<what>             write-back: the stream, its state, keys that wait
    <prefix>:stats                             counters of all processes, a hash
    <prefix>:members                           processes that may answer from memory, a hash
    <prefix>:moves                             channel: epochs that have moved
    <prefix>:confirmations:<member>            channel: what others have taken of its moves

The braces are a hash tag: all keys of a database live in one slot of a Redis Cluster, so commands
and scripts may name several of them.
"""

from binascii import hexlify
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

EVERYTHING = "*"
"""The epoch name that stands for the whole database."""

KEY_GROUPS = 1024
"""Keys of a table that is invalidated by key are in so many groups, by their hash: all processes
must agree. It bounds what has to be kept of keys; a write ends the entries of its group."""

_PATTERN = "~"
SCHEMA = "*schema"
"""The epoch name of what the catalogue says; see `cache.schema`."""

_GLOB_SPECIAL = b"*?[]\\"


def to_bytes(text: str) -> bytes:
    """`text` as key bytes: UTF-8, and any name that PostgreSQL can hold survives."""
    return text.encode("utf-8", "surrogateescape")


def all_keys_epoch(table: str) -> str:
    """The epoch name that reads of one key depend on, whichever it is."""
    return f"{table}@"


def key_epoch(table: str, group: int) -> str:
    """The epoch name of a group of keys."""
    return f"{table}#{group}"


def table_of(name: str) -> str:
    """The table that an epoch name is of."""
    return name.partition("#")[0].removesuffix("@")


def moved_with(names: Iterable[str]) -> frozenset[str]:
    """All epochs that a write to `names` moves: those of keys move their table's for who reads it
    whole, a table's name by itself moves all keys. A name that only looks like a key's moves more
    than it need: tables with such names have no keys."""
    moved: set[str] = set()
    for name in names:
        moved.add(name)
        if "#" in name:
            moved.add(name.partition("#")[0])
        if name not in (EVERYTHING, SCHEMA) and not _is_key(name):
            moved.add(all_keys_epoch(name))
    return frozenset(moved)


def _is_key(name: str) -> bool:
    return name.partition("#")[2].isdigit() or is_pattern_epoch(name)


def pattern_epoch(glob: str) -> str:
    """The epoch name of all keys of applications that match the glob."""
    return _PATTERN + glob


def is_pattern_epoch(name: str) -> bool:
    """Whether an epoch is of keys, not of a table. (A table whose name begins so is taken for one:
    it is invalidated with others, but by no pattern.)"""
    return name.startswith(_PATTERN)


def escape_glob(literal: bytes) -> bytes:
    """`literal` as a glob of Redis that matches itself only."""
    return b"".join(
        b"\\" + bytes((byte,)) if byte in _GLOB_SPECIAL else bytes((byte,)) for byte in literal
    )


def statistics_key(prefix: str) -> bytes:
    """Key of the counters that all processes add to."""
    return to_bytes(f"{prefix}:stats")


def members_key(prefix: str) -> bytes:
    """Key of the hash of all processes that may answer from memory."""
    return to_bytes(f"{prefix}:members")


def moves_channel(prefix: str) -> bytes:
    """Where moves of epochs are told."""
    return to_bytes(f"{prefix}:moves")


def confirmations_channel(prefix: str, member: bytes) -> bytes:
    """Where the process `member` is told that others have taken a move of its own."""
    return to_bytes(f"{prefix}:confirmations:") + member


@dataclass(frozen=True, slots=True)
class KeySpace:
    """All keys of one database."""

    prefix: str
    database: str

    @property
    def base(self) -> bytes:
        """The part that all keys of the database share. The name is percent-encoded: a brace or a
        colon in it can't end the hash tag."""
        return to_bytes(f"{self.prefix}:{{") + quote(self.database, safe="").encode() + b"}:"

    def result_stem(self, label: str) -> bytes:
        """A result's key without its digest."""
        return self.base + b"r:" + to_bytes(label) + b":"

    def result(self, label: str, digest: bytes) -> bytes:
        """Key of a stored result."""
        return self.result_stem(label) + hexlify(digest)

    def epoch(self, name: str) -> bytes:
        """Key of the epoch of a table, or of the whole database for "*"."""
        return self.base + b"e:" + to_bytes(name)

    def lease(self, digest: bytes) -> bytes:
        """Key of the lease on a read."""
        return self.base + b"w:" + hexlify(digest)

    def application(self, key: str) -> bytes:
        """Key of an application's own entry."""
        return self.base + b"k:" + to_bytes(key)

    @property
    def patterns(self) -> bytes:
        """Key of the set of patterns whose keys depend on an epoch."""
        return self.base + b"p"

    def feed(self, what: str) -> bytes:
        """Key of what the processes on this Redis tell each other of the change feed."""
        return self.base + b"f:" + to_bytes(what)

    def write_back(self, what: str) -> bytes:
        """Key of what waits to be written back, and of what is known of it."""
        return self.base + b"b:" + to_bytes(what)

    def matching(self, pattern: bytes) -> bytes:
        """A glob of Redis over the keys of this database that go on like `pattern`."""
        return escape_glob(self.base) + pattern
