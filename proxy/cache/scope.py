"""What lookups of one kind have in common, worked out once: packed keys, epochs, counters."""

from binascii import hexlify
from collections.abc import Callable

from proxy.cache.commands import STORE_SCRIPT, STORE_SCRIPT_SHA, argument, pack_head
from proxy.cache.entry import DIGEST_SIZE, TOKEN_SIZE
from proxy.cache.keys import EVERYTHING, SCHEMA, KeySpace
from proxy.cache.schema import SchemaEpoch
from proxy.cache.statistics import RuleCounters


class Scope:
    """All lookups with the same database, label, tables read and rule.

    `plain_header`: `Codec.plain_header`. Raises struct.error where a statement reads more tables
    than an entry can name.
    """

    __slots__ = (
        "_eval",
        "_evalsha",
        "_forget",
        "_life",
        "_lookup",
        "counters",
        "database",
        "epoch_keys",
        "head",
        "keys",
        "names",
        "reads",
        "schema",
        "stale",
        "width",
    )

    def __init__(
        self,
        keys: KeySpace,
        label: str,
        reads: tuple[str, ...],
        counters: RuleCounters,
        plain_header: Callable[[int], bytes],
        schema: SchemaEpoch,
    ) -> None:
        self.database = keys.database
        self.keys = keys
        self.names = (SCHEMA, EVERYTHING, *reads)
        self.schema = schema
        self.reads = frozenset(reads)
        self.counters = counters
        self.stale = 0.0
        """Seconds for which entries may be served after their time, while one client reads anew."""
        self.epoch_keys = [keys.epoch(name) for name in self.names]
        self.head = plain_header(len(self.names))
        """How a plain entry of this scope begins; its epochs follow."""
        self.width = len(self.names) * TOKEN_SIZE
        """Of its epochs, in bytes."""
        stem = keys.result_stem(label)
        result_key = b"$%d\r\n%b" % (len(stem) + 2 * DIGEST_SIZE, stem)
        count = len(self.epoch_keys)
        packed_epochs = b"".join(map(argument, self.epoch_keys))
        self._lookup = pack_head(b"MGET", total=count + 2) + packed_epochs + result_key
        self._life = pack_head(b"PTTL", total=2) + result_key
        self._forget = pack_head(b"UNLINK", total=2) + result_key
        keys_and_stem = argument(b"%d" % (count + 1)) + packed_epochs + result_key
        total = count + 6
        self._evalsha = pack_head(b"EVALSHA", STORE_SCRIPT_SHA, total=total) + keys_and_stem
        self._eval = pack_head(b"EVAL", STORE_SCRIPT, total=total) + keys_and_stem

    def lookup(self, digest: bytes) -> bytes:
        """MGET of the epochs, then the entry."""
        return self._lookup + hexlify(digest) + b"\r\n"

    def lease(self, digest: bytes) -> bytes:
        """Key of the lease on filling it."""
        return self.keys.lease(digest)

    def life(self, digest: bytes) -> bytes:
        """PTTL of the entry."""
        return self._life + hexlify(digest) + b"\r\n"

    def forget(self, digest: bytes) -> bytes:
        """UNLINK of the entry."""
        return self._forget + hexlify(digest) + b"\r\n"

    def store(
        self, digest: bytes, entry: tuple[bytes, ...], milliseconds: int, *, whole: bool
    ) -> bytes:
        """The conditional store; `whole` sends the script too, for a server that has lost it."""
        return b"".join(
            (
                self._eval if whole else self._evalsha,
                hexlify(digest),
                b"\r\n$%d\r\n" % sum(map(len, entry)),
                *entry,
                b"\r\n",
                argument(b"%d" % milliseconds),
            )
        )
