"""The cache as operators and applications drive it: entries of their own, patterns, figures.

Patterns are globs (`*`, `?`, `[ab]`, `[!ab]`) of the form TABLES:REST, such as `orders:*`,
`tenant-42:*` or `*`; without a colon REST is `*`.

- TABLES matches the tables that a stored result reads, REST the digest in its key.
- Where REST is `*`, the epochs of the matching tables are moved first: at once no such result is
  served any more, and none that is being read now will be kept. A narrower REST removes what is
  stored and does not stop what is on its way.
- Either way the proxies drop what they hold of these tables in memory, and have done so when the
  command returns; it waits for one that doesn't confirm until that trusts its memory no more.
- Application keys are removed where the whole pattern matches the whole key; a pattern without a
  colon matches keys of just that form.
"""

from binascii import hexlify
from collections.abc import AsyncIterator, Callable, Iterable, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from os import urandom
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.cache.codec import Codec, codec_for
from proxy.cache.commands import ROSTER, STORE_SCRIPT
from proxy.cache.entry import TOKEN_SIZE, token_source
from proxy.cache.errors import CacheError, CacheUnavailable
from proxy.cache.keys import (
    EVERYTHING,
    SCHEMA,
    KeySpace,
    confirmations_channel,
    is_pattern_epoch,
    members_key,
    moved_with,
    moves_channel,
    pattern_epoch,
    statistics_key,
    table_of,
)
from proxy.cache.members import WAIT_SECONDS, lease_clock, move_message
from proxy.cache.places import site_of
from proxy.cache.statistics import BY_CLEAR, BY_PATTERN, hit_rate
from proxy.config.cache_settings import CacheSettings
from proxy.config.transport import SYSTEM_CAS, RedisTlsSettings
from proxy.net.contexts import lowest_version

_BATCH = 1000
_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class EntryTicket:
    """The epochs of some tables, and of patterns of keys, before something was read from them."""

    names: tuple[str, ...]
    epochs: bytes

    def narrowed(self, patterns: Set[str]) -> tuple[tuple[str, ...], bytes]:
        """The names with their epochs, of patterns those in `patterns` only."""
        kept = [
            (name, self.epochs[index * TOKEN_SIZE : (index + 1) * TOKEN_SIZE])
            for index, name in enumerate(self.names)
            if name in patterns or not is_pattern_epoch(name)
        ]
        return tuple(name for name, _ in kept), b"".join(epoch for _, epoch in kept)


@dataclass(frozen=True, slots=True)
class SetOptions:
    """How an application's entry is kept.

    `ttl`: seconds. `tables`: a write to any of them ends it. `ticket`: from `CacheManager.ticket`,
    taken before the value was read; with it a write in between keeps the value from being stored.
    Without it such a write goes unnoticed, as with any cache that an application fills by
    itself."""

    ttl: float = 300.0
    tables: tuple[str, ...] = ()
    ticket: EntryTicket | None = None

    def __post_init__(self) -> None:
        if self.ttl <= 0:
            raise ValueError(f"SetOptions.ttl is {self.ttl}: it must be more than 0 seconds")


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a pattern did."""

    tables: tuple[str, ...]
    """Whose epochs were moved; "*" is the whole database."""
    removed: int
    """Stored results and application keys deleted."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters of all processes that share this Redis and prefix, since the hash was made."""

    hits: int
    misses: int
    hit_rate: float
    counters: dict[str, int] = field(default_factory=dict)
    """All of them, "rule:<name>:hits" and the like included."""

    @property
    def saved_seconds(self) -> float:
        """What the hits would have taken on servers, by the average read of each rule."""
        saved = (count for name, count in self.counters.items() if name.endswith(":saved_ms"))
        return sum(saved) / 1000


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """In bytes. `cache` is estimated from a sample of the database's keys."""

    keys: int
    cache: int
    server: int
    server_limit: int
    """0: none."""


class CacheManager:
    """The cache of one database. Every method raises CacheUnavailable where Redis can't be reached
    or refuses: an operator's command never does nothing in silence."""

    def __init__(
        self, redis: Redis, prefix: str, database: str, codec: Codec | None = None
    ) -> None:
        # redis-py types its replies as bytes or str, whichever it was told to give: bytes here.
        self._redis: Any = redis
        self._prefix = prefix
        self._keys = KeySpace(prefix, database)
        self._new_token = token_source()
        self._codec = codec or Codec()

    @classmethod
    def from_url(
        cls,
        url: str,
        prefix: str,
        database: str,
        timeout: float = 5.0,
        codec: Codec | None = None,
    ) -> Self:
        """A manager with connections of its own, made when first needed. `timeout`: seconds per
        command. Raises ValueError for an unusable URL."""
        redis = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 1),  # for a connection that the server had closed meanwhile
        )
        return cls(redis, prefix, database, codec)

    @classmethod
    async def open(cls, settings: CacheSettings, database: str, timeout: float = 5.0) -> Self:
        """A manager on the Redis that the settings name: behind Sentinels and in a cluster on the
        primary as it is now. After a failover its commands raise CacheUnavailable: open another.

        Raises CacheUnavailable where the primary isn't known, ValueError for an unusable URL and
        TlsError where files of TLS can't be used."""
        redis = await open_redis(settings, timeout)
        return cls(redis, settings.key_prefix, database, codec_for(settings))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    # Entries of applications

    async def get(self, key: str) -> bytes | None:
        """The value stored under `key`; None if there is none, or a write to its tables ended
        it."""
        name = self._keys.application(key)
        async with self._redis_at_work(f"get {key!r}"):
            stored = await self._redis.get(name)
            if stored is None:
                return None
            epochs, payload, _ = self._codec.decode(name, stored)
            if payload is None:
                return None
            tables, value = _split(payload)
            if tables and await self._epochs(tables) != epochs:
                return None
            return value

    async def ticket(self, tables: Iterable[str]) -> EntryTicket:
        """Take the epochs of `tables`, before reading from them what `set` will store, and those
        of the patterns of keys that writes invalidate."""
        async with self._redis_at_work("take the epochs"):
            return await self._ticket(tables, await self._patterns())

    async def _ticket(self, tables: Iterable[str], globs: Iterable[str]) -> EntryTicket:
        names = (EVERYTHING, *sorted(tables), *map(pattern_epoch, globs))
        return EntryTicket(names, await self._made_epochs(names))

    async def set(self, key: str, value: bytes, options: SetOptions | None = None) -> bool:
        """Store `value` under `key`. False if its ticket is out of date: nothing was stored."""
        options = options or SetOptions()
        async with self._redis_at_work(f"set {key!r}"):
            globs = [glob for glob in await self._patterns() if fnmatchcase(key, glob)]
            ticket = options.ticket
            if ticket is None and (options.tables or globs):
                ticket = await self._ticket(options.tables, globs)
        patterns = set(map(pattern_epoch, globs))
        if ticket is not None and not patterns <= set(ticket.names):
            return False  # the pattern is newer than the ticket: a write may have come between
        names, epochs = ticket.narrowed(patterns) if ticket else ((), b"")
        name = self._keys.application(key)
        entry = b"".join(self._codec.encode(name, epochs, _joined(names, value)))
        milliseconds = max(1, round(options.ttl * 1000))
        async with self._redis_at_work(f"set {key!r}"):
            if not names:
                await self._redis.set(name, entry, px=milliseconds)
                return True
            keys = [*map(self._keys.epoch, names), name]
            return bool(await self._redis.eval(STORE_SCRIPT, len(keys), *keys, entry, milliseconds))

    async def _patterns(self) -> list[str]:
        """The globs of keys that rules of `[[cache.invalidation]]` have given an epoch."""
        return sorted(map(_to_text, await self._redis.smembers(self._keys.patterns)))

    async def delete(self, key: str) -> bool:
        """Remove `key`. False if it was not there."""
        async with self._redis_at_work(f"delete {key!r}"):
            return bool(await self._redis.delete(self._keys.application(key)))

    # Invalidation

    async def clear(self, pattern: str, progress: Callable[[int], None] | None = None) -> int:
        """`invalidate`, returning how many stored results and application keys were removed."""
        return (await self.invalidate(pattern, progress)).removed

    async def invalidate(
        self, pattern: str, progress: Callable[[int], None] | None = None
    ) -> Cleared:
        """Make everything that `pattern` matches unusable, then remove it from Redis.

        See the module's docstring for patterns. `progress` is told the number of keys looked at so
        far, after each batch. If CacheUnavailable comes in the middle, do it again: what was done
        is not undone. Raises ValueError for an empty pattern."""
        tables, colon, rest = pattern.partition(":")
        if not tables:
            raise ValueError(f"the pattern {pattern!r} names no tables: write TABLES:REST, or *")
        rest = rest if colon else "*"
        async with self._redis_at_work(f"clear {pattern!r}"):
            moved = await self._move_matching(tables) if rest == "*" else ()
            await self._tell(moved)
            removed = looked_at = 0
            async for batch in self._scan(b"*"):
                doomed = [key for key in batch if self._matches(key, pattern, tables, rest)]
                if doomed:
                    removed += await self._redis.unlink(*doomed)
                looked_at += len(batch)
                if progress is not None:
                    progress(looked_at)
            if rest != "*":
                await self._tell(await self._matching(tables))
            return Cleared(moved, removed)

    async def _move_matching(self, tables: str) -> tuple[str, ...]:
        """Move the epochs of the matching tables; return their names.

        A table without an epoch has no usable entry and no fill on its way."""
        names = await self._matching(tables)
        if names:
            moved = moved_with(names)
            await self._redis.mset({self._keys.epoch(name): self._new_token() for name in moved})
            source = BY_CLEAR if tables == EVERYTHING else BY_PATTERN
            await self._redis.hincrby(statistics_key(self._prefix), f"moves:{source}", 1)
        return names

    async def _matching(self, tables: str) -> tuple[str, ...]:
        """Tables with an epoch that the glob matches."""
        if tables == EVERYTHING:
            return (EVERYTHING,)
        stem = len(self._keys.epoch(""))
        names: set[str] = set()
        async for batch in self._scan(b"e:*"):
            names.update(_to_text(key[stem:]) for key in batch)
        known = {
            table_of(name) for name in names - {EVERYTHING, SCHEMA} if not is_pattern_epoch(name)
        }
        return tuple(sorted(name for name in known if fnmatchcase(name, tables)))

    async def _tell(self, names: tuple[str, ...]) -> None:
        """Have every proxy drop what it holds of these tables in memory: see `members`."""
        if not names:
            return
        own = hexlify(urandom(8))
        async with self._redis.pubsub(ignore_subscribe_messages=True) as inbox:
            await inbox.subscribe(confirmations_channel(self._prefix, own))
            message = move_message(own, 1, self._keys.database, moved_with(names))
            await self._redis.publish(moves_channel(self._prefix), message)
            listed = await self._redis.hgetall(members_key(self._prefix))
            deadline = lease_clock() + WAIT_SECONDS
            known = ROSTER in listed  # else who trusts its memory can't be told
            waiting = set(listed) - {ROSTER}
            while (waiting or not known) and (left := deadline - lease_clock()) > 0:
                taken = await inbox.get_message(timeout=left)
                if taken is not None:
                    waiting.discard(taken["data"].partition(b"\0")[0])

    def _matches(self, key: bytes, pattern: str, tables: str, rest: str) -> bool:
        kind, _, name = key[len(self._keys.base) :].partition(b":")
        if kind == b"k":
            return fnmatchcase(_to_text(name), pattern)
        if kind != b"r":
            return False
        label, _, digest = _to_text(name).rpartition(":")
        if not fnmatchcase(digest, rest):
            return False
        return any(fnmatchcase(table, tables) for table in label.split("+"))

    # Figures

    async def get_stats(self) -> CacheStats:
        """What all proxies together have counted."""
        async with self._redis_at_work("read the statistics"):
            stored = await self._redis.hgetall(statistics_key(self._prefix))
        counters = {name.decode(): int(number) for name, number in stored.items()}
        hits, misses = counters.get("hits", 0), counters.get("misses", 0)
        return CacheStats(hits, misses, hit_rate(hits, misses), counters)

    async def get_hit_rate(self) -> float:
        """Share of hits among all lookups that Redis answered, 0 to 1."""
        return (await self.get_stats()).hit_rate

    async def get_memory_usage(self) -> MemoryUsage:
        """How much memory the entries take (estimated) and the server has in use (exact)."""
        async with self._redis_at_work("measure the memory"):
            keys = sampled = size = 0
            async for batch in self._scan(b"*"):
                keys += len(batch)
                for key in batch[: max(0, _SAMPLE - sampled)]:
                    size += await self._redis.memory_usage(key) or 0
                    sampled += 1
            server: dict[str, Any] = await self._redis.info("memory")
        estimate = size * keys // sampled if sampled else 0
        return MemoryUsage(keys, estimate, server["used_memory"], server.get("maxmemory", 0))

    # Redis

    async def _scan(self, pattern: bytes) -> AsyncIterator[list[bytes]]:
        """Keys of this database by the batch. SCAN, not KEYS: that would stop the server."""
        cursor = 0
        match = self._keys.matching(pattern)
        while True:
            cursor, batch = await self._redis.scan(cursor, match=match, count=_BATCH)
            yield batch
            if cursor == 0:
                return

    async def _epochs(self, names: tuple[str, ...]) -> bytes | None:
        tokens = await self._redis.mget([self._keys.epoch(name) for name in names])
        return None if None in tokens else b"".join(tokens)

    async def _made_epochs(self, names: tuple[str, ...]) -> bytes:
        """The current epochs, made where they are missing."""
        epochs = await self._epochs(names)
        while epochs is None:
            for name in names:
                await self._redis.set(self._keys.epoch(name), self._new_token(), nx=True)
            epochs = await self._epochs(names)
        return epochs

    @asynccontextmanager
    async def _redis_at_work(self, what: str) -> AsyncIterator[None]:
        """The edge where redis-py's errors become ours."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"could not {what}: Redis: {error}") from error


async def open_redis(settings: CacheSettings, timeout: float) -> Redis:
    """A client of redis-py's on the Redis that the settings name, as `CacheManager.open`."""
    site = site_of(settings)
    try:
        where = await site.locate()
    except CacheError as error:
        raise CacheUnavailable(f"could not find Redis: {error}") from error
    finally:
        site.close()
    options: dict[str, Any] = {
        "db": where.database,
        "username": where.username,
        "password": where.password,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 1),  # for a connection that the server had closed meanwhile
    }
    if where.path is not None:
        return Redis(unix_socket_path=where.path, **options)
    tls = _tls_options(settings.tls) if where.tls is not None else {}
    return Redis(host=where.host, port=where.port, **options, **tls)


def _tls_options(tls: RedisTlsSettings) -> dict[str, Any]:
    return {
        "ssl": True,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
        "ssl_ca_certs": None if tls.ca_file == SYSTEM_CAS else tls.ca_file,
        "ssl_cert_reqs": "none" if tls.mode == "require" else "required",
        "ssl_check_hostname": tls.mode == "verify-full",
        "ssl_min_version": lowest_version(tls),
        "ssl_ciphers": tls.ciphers or None,
    }


def _joined(names: tuple[str, ...], value: bytes) -> bytes:
    """An application entry's payload: the tables it depends on, then the value."""
    listed = "\0".join(names).encode("utf-8", "surrogateescape")
    return len(listed).to_bytes(4, "big") + listed + value


def _split(payload: bytes) -> tuple[tuple[str, ...], bytes]:
    end = 4 + int.from_bytes(payload[:4], "big")
    listed = _to_text(payload[4:end])
    return tuple(listed.split("\0")) if listed else (), payload[end:]


def _to_text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
