"""SHOW CACHE and CLEAR: what the cache has done, and making what it holds unusable."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from proxy.admin.console.rows import Row, columns
from proxy.admin.console.snapshot import StatementRow
from proxy.cache.errors import CacheUnavailable
from proxy.cache.feed.feed import FeedState
from proxy.cache.manager import CacheManager, CacheStats, MemoryUsage
from proxy.cache.statistics import BY_HAND, Statistics, hit_rate
from proxy.cache.writeback.state import WriteBackState
from proxy.config.cache_settings import CacheSettings
from proxy.wire import errors
from proxy.wire.errors import PgError

CACHE = columns("scope name metric this_process all_processes")
CLEAR = columns("database pattern tables_invalidated keys_removed:int")

STATEMENTS = columns(
    "database rule hits:int misses:int bypasses:int fills:int hit_rate saved_ms:int statement "
    "bypassed_because"
)

_TOTALS = (
    "hits",
    "memory_hits",
    "coalesced",
    "misses",
    "bypasses",
    "stale_hits",
    "renewals",
    "refreshed",
    "refreshed_late",
    "fills",
    "refused_fills",
    "dropped_fills",
    "moves",
    "owed_moves",
    "errors",
    "bytes_served",
    "bytes_stored",
    "evictions",
    "unconfirmed_moves",
)
_OF_RULES = ("hits", "misses", "fills", "saved_ms")


@dataclass(frozen=True, slots=True)
class Shared:
    """What Redis holds, for all processes that use it. `error` says why the rest is missing."""

    stats: CacheStats | None = None
    memory: Mapping[str, MemoryUsage] = field(default_factory=dict)
    """By database."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """What this process knows by itself."""

    statistics: Statistics
    bypasses: Mapping[str, int]
    """Reads that did not ask the cache, by reason."""
    unfilled: Mapping[str, int]
    """Results that were not kept, by reason."""
    up: bool
    rules: Sequence[str]
    feeds: Sequence[FeedState] = ()
    statements: Sequence[StatementRow] = ()
    write_backs: Sequence[WriteBackState] = ()


def cache_rows(own: Own, shared: Shared) -> list[Row]:
    """(scope, name, metric, value of this process, value of all that share the Redis)."""
    state = "up" if own.up else "away"
    rows: list[Row] = [("redis", None, "state", state, None)]
    if shared.error is not None:
        rows.append(("redis", None, "error", None, shared.error))
    for feed in own.feeds:
        rows += _feed_rows(feed)
    for write_back in own.write_backs:
        rows += _write_back_rows(write_back)
    rows += _total_rows(own.statistics, shared.stats)
    rows += _source_rows(own.statistics, shared.stats)
    rows.append(("memory", None, "entries", str(own.statistics.memory_entries), None))
    rows.append(("memory", None, "bytes", str(own.statistics.memory_bytes), None))
    for rule in dict.fromkeys((*own.rules, *own.statistics.rules)):
        rows += _rule_rows(rule, own.statistics, shared.stats)
        rows += _rule_bypasses(rule, own.statements)
    reasons = dict(own.bypasses)
    for reason, count in own.statistics.bypasses.items():
        reasons[reason] = reasons.get(reason, 0) + count
    for scope, counts in (
        ("miss", own.statistics.misses),
        ("bypass", reasons),
        ("unfilled", own.unfilled),
    ):
        rows += [(scope, name, "reads", str(count), None) for name, count in sorted(counts.items())]
    return [*rows, *_memory_rows(shared.memory)]


def statement_rows(statements: Sequence[StatementRow]) -> list[Row]:
    """Those first whose hits have saved most; the rest of a rule's as "(others)"."""
    rows: list[Row] = []
    for one in sorted(statements, key=lambda one: (-one.tally.saved_ms, -one.tally.hits, one.text)):
        tally = one.tally
        counts = tally.hits, tally.misses, tally.bypasses.total(), tally.reads
        rate = _share(hit_rate(tally.hits, tally.misses))
        shown = [*map(str, counts), rate, str(tally.saved_ms), one.text or "(others)"]
        reasons = "; ".join(f"{why} ({count})" for why, count in tally.bypasses.most_common())
        rows.append((one.database, one.rule, *shown, reasons or None))
    return rows


def _total_rows(statistics: Statistics, stats: CacheStats | None) -> list[Row]:
    own = dict(statistics.flat())
    all_hits = None if stats is None else _share(stats.hit_rate)
    rows: list[Row] = [("total", None, "hit_rate", _share(statistics.hit_rate), all_hits)]
    for name in _TOTALS:
        rows.append(("total", None, name, str(own[name]), _shared(stats, name)))
    return rows


def _feed_rows(feed: FeedState) -> list[Row]:
    lag = None if feed.lag_seconds is None else f"{feed.lag_seconds:.3f}"
    shown: list[tuple[str, object]] = [
        ("state", "in use" if feed.trusted else "passed by"),
        ("role", feed.role),
        ("why", feed.doubt),
        ("error", feed.error),
        ("lag_seconds", lag),
        ("lag_bytes", feed.lag_bytes),
        ("slot_bytes", feed.slot_bytes),
        ("transactions", feed.transactions),
        ("changes", feed.changes),
        ("takeovers", feed.takeovers),
        ("restarts", feed.restarts),
    ]
    return [
        ("feed", feed.database, metric, str(value), None)
        for metric, value in shown
        if value is not None
    ]


def _write_back_rows(state: WriteBackState) -> list[Row]:
    shown: list[tuple[str, object]] = [
        ("state", "passed by" if state.obstacle else "in use"),
        ("why", state.obstacle),
        ("error", state.error),
        ("written", state.written),
        ("applied", state.applied),
        ("rejected", state.rejected),
        ("barriers", state.barriers),
        *((f"declined: {reason}", count) for reason, count in state.declined),
    ]
    return [
        ("write-back", state.database, metric, str(value), None)
        for metric, value in shown
        if value is not None
    ]


def _source_rows(statistics: Statistics, stats: CacheStats | None) -> list[Row]:
    """What `CacheManager` moved is counted in Redis alone."""
    rows: list[Row] = [
        ("invalidation", source, "moves", str(count), _shared(stats, f"moves:{source}"))
        for source, count in statistics.moves_by.items()
    ]
    for source in BY_HAND:
        rows.append(("invalidation", source, "moves", None, _shared(stats, f"moves:{source}")))
    return rows


def _rule_rows(rule: str, statistics: Statistics, stats: CacheStats | None) -> list[Row]:
    counters = statistics.rules.get(rule)
    return [
        (
            "rule",
            rule,
            metric,
            str(getattr(counters, metric)) if counters else "0",
            _shared(stats, f"rule:{rule}:{metric}"),
        )
        for metric in _OF_RULES
    ]


def _rule_bypasses(rule: str, statements: Sequence[StatementRow]) -> list[Row]:
    """Why reads of the rule's statements went past the cache."""
    reasons: Counter[str] = Counter()
    for one in statements:
        if one.rule == rule:
            reasons.update(one.tally.bypasses)
    return [
        ("rule", rule, f"bypasses: {why}", str(count), None) for why, count in reasons.most_common()
    ]


def _memory_rows(memory: Mapping[str, MemoryUsage]) -> list[Row]:
    rows: list[Row] = []
    for database, usage in sorted(memory.items()):
        rows.append(("database", database, "entries", None, str(usage.keys)))
        rows.append(("database", database, "bytes", None, str(usage.cache)))
    for usage in list(memory.values())[:1]:
        rows.append(("redis", None, "memory_used", None, str(usage.server)))
        rows.append(("redis", None, "memory_limit", None, str(usage.server_limit or "none")))
    return rows


def _share(rate: float) -> str:
    return f"{rate:.4f}"


def _shared(stats: CacheStats | None, name: str) -> str | None:
    return None if stats is None else str(stats.counters.get(name, 0))


async def look_at_shared(settings: CacheSettings, databases: Sequence[str]) -> Shared:
    """Ask Redis. Where it can't be asked the answer says so: what is known otherwise is of use."""
    try:
        memory: dict[str, MemoryUsage] = {}
        stats = None
        for database in databases:
            async with _manager(settings, database) as manager:
                stats = stats or await manager.get_stats()
                memory[database] = await manager.get_memory_usage()
    except CacheUnavailable as error:
        return Shared(error=str(error))
    return Shared(stats, memory)


async def clear(settings: CacheSettings, databases: Sequence[str], pattern: str) -> list[Row]:
    """Clear `pattern` in each database; a row each with what was done.

    Raises PgError where Redis can't be reached, or the pattern is none.
    """
    rows: list[Row] = []
    for database in databases:
        async with _manager(settings, database) as manager:
            try:
                cleared = await manager.invalidate(pattern)
            except CacheUnavailable as error:
                raise _not_cleared(database, [str(row[0]) for row in rows], error) from error
            except ValueError as error:
                raise PgError(errors.INVALID_PARAMETER_VALUE, str(error)) from None
        tables = "all" if cleared.tables == ("*",) else ", ".join(cleared.tables)
        rows.append((database, pattern, tables, cleared.removed))
    return rows


def _not_cleared(database: str, done: Sequence[str], error: CacheUnavailable) -> PgError:
    detail = f"cleared before: {', '.join(done)}" if done else ""
    return PgError(
        errors.CONNECTION_FAILURE,
        f'the cache of database "{database}" was not cleared, or not wholly: {error}',
        "run the command again once SHOW CACHE shows no error: until then processes that reach "
        "Redis may serve what was to be cleared",
        detail,
    )


@asynccontextmanager
async def _manager(settings: CacheSettings, database: str) -> AsyncIterator[CacheManager]:
    """A manager with a connection of its own: these commands are rare, and may take long."""
    if not settings.has_store:
        raise PgError(
            errors.FEATURE_NOT_SUPPORTED,
            "there is no cache: none is configured",
            "set redis in [cache] of the configuration and start Penstock again",
        )
    manager = await CacheManager.open(settings, database)
    try:
        yield manager
    finally:
        await manager.close()
