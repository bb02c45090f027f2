"""Whether a statement's result may be kept, by which rule, and on which tables it depends."""

from proxy.config.cache_settings import REFRESHING, CacheRule
from proxy.routing.judge import Verdict
from proxy.routing.plan import CachePlan
from proxy.routing.relations import is_system, is_temporary
from proxy.routing.rules import Subject, cache_rule
from proxy.routing.shards import ShardMap
from proxy.sql.catalogue import Catalogue
from proxy.sql.statement import Hints, Kind, Statement, TableRef

HINT_RULE = "hint"
"""The rule that a CachePlan names when only a hint asked for it."""


def uncacheable(
    statement: Statement, verdict: Verdict, catalogue: Catalogue, shards: ShardMap
) -> str | None:
    """Why no rule could cache the statement, in words; None if one could."""
    if statement.kind is Kind.UNKNOWN:
        return "it could not be parsed"
    if statement.kind is not Kind.SELECT:
        return f"only SELECT is cached, not {statement.kind.value.upper().replace('_', ' ')}"
    if statement.writes or statement.writes_unknown or statement.locking:
        return f"it {verdict.primary}"
    if not catalogue.loaded:
        return "the catalogue is not loaded, so it is not known what the statement depends on"
    if not statement.cacheable_shape:
        return statement.uncacheable_because or "its shape can't be cached"
    if verdict.settings or verdict.pins:
        return "it may change settings or leave other state on its connection"
    if not statement.scans:
        return "it reads no table"
    return _relations(statement, verdict, catalogue, shards) or _functions(verdict)


def cache_plan(
    rules: tuple[CacheRule, ...], hints: Hints, hint_alone: bool, subject: Subject, verdict: Verdict
) -> CachePlan | str:
    """The plan by the first matching rule, or by a hint where `hint_alone` suffices; otherwise why
    there is none. The statement must be one that `uncacheable` has nothing against."""
    if hints.cache is False:
        return "the hint says nocache"
    rule = cache_rule(rules, subject)
    if rule is not None and not rule.enabled:
        return f"rule {rule.name!r} says never"
    if rule is None:
        asked = hints.cache or hints.ttl_seconds is not None
        if not asked:
            return "no rule matches" if rules else "there are no cache rules"
        if not hint_alone:
            return "no rule matches, and a hint alone doesn't suffice"
        rule = CacheRule(name=HINT_RULE)
        ttl = rule.ttl if hints.ttl_seconds is None else hints.ttl_seconds
    else:
        ttl = min(rule.ttl, hints.ttl_seconds or rule.ttl)
    if ttl <= 0:
        return "the hint's TTL is 0"
    empty = rule.empty_ttl
    return CachePlan(
        rule=rule.name,
        ttl_seconds=ttl,
        max_bytes=rule.max_size,
        reads=tuple(sorted(verdict.reading.tables)),
        max_feed_lag=rule.max_feed_lag,
        refresh=hints.refresh,
        jitter_seconds=min(rule.jitter, ttl),
        stale_seconds=rule.stale,
        empty_ttl_seconds=None if empty is None else min(empty, ttl),
        refresh_seconds=rule.refresh_within if rule.strategy in REFRESHING else 0.0,
        refresh_entries=rule.refresh_entries,
        adaptive=rule.admission == "adaptive"
        and rule.strategy not in REFRESHING
        and not hints.refresh,
        label="+".join(sorted({table.name for table in subject.tables})),
    )


def _relations(
    statement: Statement, verdict: Verdict, catalogue: Catalogue, shards: ShardMap
) -> str | None:
    for table in sorted(statement.reads, key=str):
        if is_system(table, catalogue):
            return f"{table} is a system catalogue"
        if is_temporary(table):
            return f"{table} is a temporary table"
    reading = verdict.reading
    if reading.system:
        return f"a view reads the system catalogue {min(reading.system)}"
    if sharded := _sharded(statement, reading.tables | reading.unknown, shards):
        return f"{sharded} is sharded: writes on a shard behind Penstock would not be seen"
    if reading.unknown:
        return f"the catalogue has no table {min(reading.unknown)}"
    if reading.uncacheable:
        return f"the definition of view {min(reading.uncacheable)} can't be cached"
    if foreign := reading.tables & catalogue.foreign:
        return f"{min(foreign)} is a foreign table, whose changes are not seen"
    if unfed := reading.tables & catalogue.unfed:
        return f"changes of {min(unfed)} do not come over the change feed"
    if secured := reading.tables & catalogue.row_security:
        return f"{min(secured)} has row security, so users see different rows"
    return None


def _sharded(statement: Statement, tables: frozenset[str], shards: ShardMap) -> str | None:
    if not shards.tables:
        return None
    named: list[TableRef] = [scan.table for scan in statement.scans]
    hidden = tables - {table.name for table in named}
    found = [table for table in (*named, *map(TableRef, hidden)) if shards.key_column(table)]
    return min(map(str, found), default=None)


def _functions(verdict: Verdict) -> str | None:
    return next((call.uncacheable for call in verdict.calls if call.uncacheable), None)
