"""The settings of the cache, typed: `[cache]`, its rules and its change feed.

Values only, as `settings`, which holds them.
"""

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.section import Section
from proxy.config.transport import (
    RedisTlsSettings,
)
from proxy.config.types import (
    Address,
    Bytes,
    Duration,
    EncryptionKey,
    Glob,
    Name,
    OffIfEmpty,
    RedisUrl,
    Secret,
    Words,
)

SlotName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9_]{1,40}$"),
    Words("text", "1 to 40 of a-z, 0-9 and _", lambda text: f'"{text}"'),
]


WRITE_THROUGH = "write-through"
WRITE_BACK = "write-back"
REFRESHING = frozenset({WRITE_THROUGH, WRITE_BACK})
"""Strategies that read results again after a write that went to PostgreSQL."""


class CacheRule(Section):
    """Statements whose results are kept. The first match wins."""

    name: Name = Field(description="shown by `penstock explain`")
    tables: tuple[Glob, ...] = Field(
        (), description="every table read must match one; with `enabled = false`, any table"
    )
    statement: Glob | None = Field(
        None, description="matches the whole normalised text, in any case"
    )
    databases: tuple[Glob, ...] = Field(
        (), description="only in databases whose name, as clients give it, matches one; none: all"
    )
    users: tuple[Glob, ...] = Field(
        (), description="only for clients whose user matches one; none: all"
    )
    ttl: Duration = Field(60.0, gt=0, description="longest life of an entry")
    jitter: Duration = Field(
        0.0, description="lives are shortened by up to so much at random, so that few end at once"
    )
    stale: Duration = Field(
        0.0,
        description="an entry stays so much longer; then one client reads the "
        "server, and others get the entry until that has its answer; never after a write",
    )
    empty_ttl: Duration | None = Field(
        None, description="life of a result without rows; 0: it is not kept; default: `ttl`"
    )
    max_size: Bytes = Field(1 << 20, description="larger results are not kept")
    max_feed_lag: Duration = Field(
        0.0,
        description="a hit misses no write, by anybody, that was acknowledged longer before the "
        "query; 0: `cache.feed.max_lag` holds",
    )
    granularity: Literal["table", "key"] = Field(
        "table",
        description="what a write ends of the rule's `tables`: all, or only what was read by an "
        "equality on `key` where both are pinned to values",
    )
    key: Name | None = Field(
        None,
        description='the key column, with `granularity = "key"`: an integer, text, varchar or uuid',
    )
    strategy: Literal["read-through", "write-through", "write-back"] = Field(
        "read-through",
        description="write-through: after a write through Penstock the results in demand are read "
        "again and stored before the writer gets its answer; write-back: that, and writes of "
        "single rows of `tables` are acknowledged once Redis has them, see `[cache.write_back]`",
    )
    refresh_within: Duration = Field(
        0.05,
        gt=0,
        description="with write-through and write-back: a writer waits no longer; what is not "
        "done is a miss",
    )
    refresh_entries: int = Field(
        10,
        ge=1,
        le=1000,
        description="with write-through and write-back: so many after one write, the last used",
    )
    admission: Literal["adaptive", "always"] = Field(
        "adaptive",
        description="adaptive: while hardly any look-up of a statement finds something, only what "
        "is asked for again is looked up and kept",
    )
    enabled: bool = Field(True, description="false: matching statements are never cached")


class InvalidationRule(Section):
    """What writes to some tables invalidate besides what was read there. All that match count."""

    name: Name = Field(description="shown by `penstock explain`")
    databases: tuple[Glob, ...] = Field(
        (), description="only in databases whose name, as clients give it, matches one; none: all"
    )
    writes: tuple[Glob, ...] = Field(description="when a table that matches one is written")
    tables: tuple[Glob, ...] = Field(
        (), description="results read from these go too, as if these had been written"
    )
    keys: tuple[Glob, ...] = Field(
        (), description="entries of applications go whose whole key matches one"
    )
    delay: Duration = Field(0.0, description="invalidate once more so long after; 0: only once")
    at_once: bool = Field(True, description="false: only after the delay")


class FeedSettings(Section):
    """The change feed: logical replication tells of writes by anybody, which invalidate results."""

    enabled: bool = Field(
        False, description="read it; while it is not read, the cache is passed by"
    )
    slot: SlotName = Field(
        "penstock",
        description="first part of the slot's name, the database is the second; another for each "
        "group of proxies with a Redis of its own",
    )
    publication: Name = Field("penstock", description="made by `penstock cache feed setup`")
    user: Name | None = Field(
        None, description="login with the attribute REPLICATION; default: `monitor_user`"
    )
    max_lag: Duration = Field(
        10.0, gt=0, description="the cache is passed by where the feed is further behind"
    )
    max_slot_size: Bytes = Field(
        8 << 30,
        description="a slot that keeps more WAL on the primary is dropped, and the cache of its "
        "database turned off; 0: no limit",
    )


class WriteBackSettings(Section):
    """Single-row INSERT and UPDATE by a unique key, of tables that a rule with `strategy =
    "write-back"` names, are acknowledged once Redis has them, and applied to PostgreSQL in batches.
    Needs `penstock cache write-back setup`."""

    user: Name | None = Field(
        None, description="login that applies the writes; default: `monitor_user`"
    )
    disk: bool = Field(
        True,
        description="a write is acknowledged when Redis's append-only file has it on disk",
    )
    replicas: int = Field(
        0, ge=0, le=100, description="and when so many replicas of Redis have it too"
    )
    wait: Duration = Field(
        2.0,
        gt=0,
        description="longest wait for that; then the write is applied at once, and acknowledged "
        "when PostgreSQL has it",
    )
    interval: Duration = Field(
        0.05, gt=0, description="writes are applied so long after they came, together"
    )
    batch: int = Field(500, ge=1, le=10_000, description="so many at most in one transaction")
    most_waiting: int = Field(
        100_000, ge=1, description="where so many wait, writes go to PostgreSQL directly"
    )
    patience: Duration = Field(
        10.0,
        gt=0,
        description="longest wait of a statement for writes that it must see to be applied; then "
        "it is refused",
    )


class CacheSettings(Section):
    """Results in Redis."""

    redis: Annotated[RedisUrl | None, OffIfEmpty] = Field(
        None,
        repr=False,
        description="where results are kept; without it, `sentinels` and `cluster`: no cache",
    )
    sentinels: tuple[Address, ...] = Field(
        (), description="in its place: all Sentinels, which tell where the primary is"
    )
    sentinel_master: Name = Field("mymaster", description="the primary's name with Sentinels")
    sentinel_user: Name | None = Field(None, description="ACL user at the Sentinels")
    sentinel_password: Secret | None = Field(None, description="password at the Sentinels")
    cluster: tuple[Address, ...] = Field(
        (), description="in its place: some nodes of a Redis Cluster, which tell of the others"
    )
    db: int = Field(0, ge=0, description="with `sentinels`: the database's number")
    user: Name | None = Field(None, description="ACL user at Redis, where no URL says it")
    password: Secret | None = Field(None, description="password at Redis, where no URL says it")
    tls: RedisTlsSettings = Field(RedisTlsSettings(), description="TLS to Redis")
    timeout: Duration = Field(0.25, gt=0, description="a slower Redis counts as away")
    reconnect_interval: Duration = Field(0.5, description="between attempts to reach Redis again")
    breaker_timeouts: int = Field(
        3, ge=0, description="time-outs in short order after which reads pass by; 0: never"
    )
    breaker_pause: Duration = Field(
        5.0, gt=0, description="for so long after the last time-out; invalidations go on"
    )
    prefix: Name = Field("penstock", description="first part of every key")
    feed: FeedSettings = Field(FeedSettings(), description="writes around Penstock")
    write_back: WriteBackSettings = Field(
        WriteBackSettings(), description='rules with `strategy = "write-back"`'
    )
    memory: Bytes = Field(
        64 << 20, ge=0, description="of each process, for answers without asking Redis; 0: none"
    )
    coalesce: Duration = Field(
        5.0,
        description="longest wait for the same read by another client, of whichever process; "
        "0: each reads itself",
    )
    compress_above: Bytes = Field(
        32 << 10, description="longer results are compressed by zstd in Redis; 0: none"
    )
    encryption_key: EncryptionKey | None = Field(
        None,
        description="32 bytes: results are encrypted in Redis (AES-256-GCM), and what is not "
        "encrypted by it is not served; unset: not encrypted",
    )
    rules: tuple[CacheRule, ...] = Field((), alias="rule", description="in order")
    invalidations: tuple[InvalidationRule, ...] = Field(
        (), alias="invalidation", description="what else writes invalidate"
    )

    @property
    def has_store(self) -> bool:
        """Whether there is a Redis to keep results in."""
        return bool(self.redis or self.sentinels or self.cluster)

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken with Redis."""
        return self.tls.enabled or bool(self.redis and self.redis.startswith("rediss://"))

    @property
    def key_prefix(self) -> str:
        """The first part of every key. In a cluster it is the hash tag of all of them: what one
        command or script names, or what comes in order, has to be on one node."""
        return f"{{{self.prefix}}}" if self.cluster else self.prefix
