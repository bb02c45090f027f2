"""What a worker tells of itself, in values that can be sent, and what several of them come to."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from proxy.admin.console.averages import Totals, TotalsByName
from proxy.admin.console.gather import Insight
from proxy.admin.console.snapshot import (
    ClientCount,
    ClientState,
    DatabaseState,
    MemoryState,
    PoolState,
    PreparedState,
    ServerState,
    StatementRow,
    Things,
)
from proxy.admin.console.statistics import QueriesByName
from proxy.cache.feed.feed import FeedState
from proxy.cache.statistics import RuleCounters, Statistics
from proxy.cache.writeback.state import WriteBackState
from proxy.topology.statement_tallies import StatementTally

Tally = dict[str, int]

_SHORT_BY: Final = {
    "show clients": frozenset({"clients"}),
    "show servers": frozenset({"servers"}),
    "show sockets": frozenset({"clients", "servers"}),
    "show active_sockets": frozenset({"clients", "servers"}),
    "show prepared": frozenset({"prepared"}),
    "show cache": frozenset({"statements"}),
    "show cache_statements": frozenset({"statements"}),
}


def wanted_for(command: str) -> frozenset[str]:
    """The long lists that a command of the console shows."""
    return _SHORT_BY.get(command, frozenset())


@dataclass(frozen=True, slots=True)
class Report:
    """One worker at one moment. Lists that were not wanted are empty."""

    number: int
    """The worker's."""
    clients: Sequence[ClientState]
    servers: Sequence[ServerState]
    prepared: Sequence[PreparedState]
    pools: Sequence[PoolState]
    counts: Mapping[tuple[str, str], ClientCount]
    logging_in: int
    databases: Sequence[DatabaseState]
    memory: MemoryState
    totals: TotalsByName
    queries: QueriesByName
    cache_passes: tuple[Tally, Tally]
    cache: Tally
    """Counters of the cache by name, "misses:" and "bypasses:" with a reason."""
    rules: Mapping[str, RuleCounters]
    cache_up: bool
    statements: Sequence[StatementRow] = ()
    """What the cache did for each."""
    feeds: Sequence[FeedState] = ()
    write_backs: Sequence[WriteBackState] = ()


def report(number: int, insight: Insight, wanted: Iterable[str]) -> Report:
    """What a worker has to tell."""
    bypasses, unfilled = insight.cache_passes()
    statistics = insight.cache_statistics()
    return Report(
        number=number,
        clients=insight.clients() if "clients" in wanted else (),
        servers=insight.servers() if "servers" in wanted else (),
        prepared=list(insight.prepared()) if "prepared" in wanted else (),
        pools=insight.pool_states(),
        counts=dict(insight.client_counts()),
        logging_in=insight.logging_in(),
        databases=insight.databases(),
        memory=insight.memory(),
        totals=insight.totals(),
        queries=insight.queries(),
        cache_passes=(dict(bypasses), dict(unfilled)),
        cache={} if statistics is None else _flat(statistics),
        rules={} if statistics is None else dict(statistics.rules),
        statements=insight.cached_statements() if "statements" in wanted else (),
        cache_up=insight.cache_up(),
        feeds=list(insight.feed_states()),
        write_backs=list(insight.write_back_states()),
    )


_FIELDS: Final = (
    *("hits", "fills", "refused_fills", "dropped_fills", "moves", "owed_moves", "errors"),
    *("bytes_served", "bytes_stored", "memory_hits", "memory_bytes", "memory_entries"),
    *("coalesced", "evictions", "unconfirmed_moves", "renewals", "stale_hits"),
    *("refreshed", "refreshed_late"),
)


def _flat(statistics: Statistics) -> Tally:
    flat = {name: getattr(statistics, name) for name in _FIELDS}
    flat |= {f"misses:{reason}": count for reason, count in statistics.misses.items()}
    flat |= {f"moves_by:{source}": count for source, count in statistics.moves_by.items()}
    flat |= {f"bypasses:{reason}": count for reason, count in statistics.bypasses.items()}
    return flat


def statistics_of(reports: Sequence[Report]) -> Statistics:
    """The cache's counters of all workers together."""
    total: Counter[str] = Counter()
    for one in reports:
        total.update(one.cache)
    statistics = Statistics()
    for name, count in total.items():
        field, _, reason = name.partition(":")
        if reason:
            getattr(statistics, field)[reason] = count
        else:
            setattr(statistics, field, count)
    for told in reports:
        for rule, counters in told.rules.items():
            statistics.rules[rule].include(counters)
    return statistics


def cached_statements_of(reports: Iterable[Report]) -> list[StatementRow]:
    """Each statement once, with what all workers have counted."""
    return _merged(
        (one for told in reports for one in told.statements),
        lambda one: (one.database, one.rule, one.text),
        _counted_together,
    )


def _counted_together(one: StatementRow, other: StatementRow) -> StatementRow:
    tally = StatementTally()
    tally.include(one.tally)
    tally.include(other.tally)
    return replace(one, tally=tally)


Each = TypeVar("Each")


def _merged(
    several: Iterable[Each],
    key: Callable[[Each], object],
    both: Callable[[Each, Each], Each],
) -> list[Each]:
    """Those of the same key as one, in the order of their first."""
    merged: dict[object, Each] = {}
    for one in several:
        known = merged.get(key(one))
        merged[key(one)] = one if known is None else both(known, one)
    return list(merged.values())


_NUMBER_BITS: Final = 8
Linked = TypeVar("Linked", ClientState, ServerState)


def ident_of(ident: int, number: int) -> int:
    """The id by which the whole fleet knows what the worker of this number knows by `ident`."""
    return ident << _NUMBER_BITS | number


def split_ident(ident: int) -> tuple[int, int]:
    """(the worker's own id, its number)."""
    return ident >> _NUMBER_BITS, ident & ((1 << _NUMBER_BITS) - 1)


def clients_of(reports: Sequence[Report]) -> list[ClientState]:
    """All clients, by ids that no two of them share."""
    return [_renamed(one, told.number) for told in reports for one in told.clients]


def servers_of(reports: Sequence[Report]) -> list[ServerState]:
    """All server connections, by ids that no two of them share."""
    return [_renamed(one, told.number) for told in reports for one in told.servers]


def _renamed(one: Linked, number: int) -> Linked:
    link = None if one.link is None else ident_of(one.link, number)
    return replace(one, ident=ident_of(one.ident, number), link=link)


def pools_of(reports: Iterable[Report]) -> list[PoolState]:
    """Pools of the same user, database and node as one."""
    return _merged(
        (one for told in reports for one in told.pools),
        lambda one: (one.database, one.user, one.node),
        _both,
    )


def _both(one: PoolState, other: PoolState) -> PoolState:
    added = (
        *("size", "active", "idle", "connecting", "waiting", "cancels", "held"),
        *("used", "tested"),
    )
    return replace(
        one,
        longest_wait=max(one.longest_wait, other.longest_wait),
        **{name: getattr(one, name) + getattr(other, name) for name in added},
    )


def counts_of(reports: Iterable[Report]) -> dict[tuple[str, str], ClientCount]:
    """Clients by database and user."""
    merged: dict[tuple[str, str], ClientCount] = {}
    for told in reports:
        for pair, count in told.counts.items():
            known = merged.get(pair, ClientCount(0, 0))
            merged[pair] = ClientCount(known.clients + count.clients, known.waiting + count.waiting)
    return merged


def databases_of(reports: Sequence[Report]) -> list[DatabaseState]:
    """As the first worker that has them sees them; connections in use are everybody's.

    Those made on demand are only where clients have asked for them.
    """
    seen: dict[str, DatabaseState] = {}
    in_use: Counter[tuple[str, str]] = Counter()
    for told in reports:
        for database in told.databases:
            seen.setdefault(database.name, database)
            for node in database.nodes:
                in_use[database.name, node.name] += node.in_use
    return [
        replace(
            one,
            nodes=tuple(replace(node, in_use=in_use[one.name, node.name]) for node in one.nodes),
        )
        for one in seen.values()
    ]


def feeds_of(reports: Iterable[Report]) -> list[FeedState]:
    """One for each database: the consumer's where there is one, with the worst lag of all."""
    return _merged(
        (one for told in reports for one in told.feeds), lambda one: one.database, _worse
    )


def write_backs_of(reports: Iterable[Report]) -> list[WriteBackState]:
    """One for each database, with what all workers have counted."""
    return _merged(
        (one for told in reports for one in told.write_backs),
        lambda one: one.database,
        WriteBackState.plus,
    )


def _worse(one: FeedState, other: FeedState) -> FeedState:
    leading = other if other.role == "consumer" else one
    lags = [each.lag_seconds for each in (one, other)]
    return replace(
        leading,
        trusted=one.trusted and other.trusted,
        doubt=one.doubt or other.doubt,
        lag_seconds=None if None in lags else max(lag for lag in lags if lag is not None),
        transactions=one.transactions + other.transactions,
        changes=one.changes + other.changes,
        takeovers=one.takeovers + other.takeovers,
        restarts=one.restarts + other.restarts,
        error=one.error or other.error,
    )


def prepared_of(reports: Iterable[Report]) -> list[PreparedState]:
    """The statements of all workers; each has names of its own."""
    return [one for told in reports for one in told.prepared]


def memory_of(reports: Sequence[Report]) -> MemoryState:
    """All workers' memory."""
    clients = servers = Things()
    prepared: dict[str, Things] = {}
    for told in reports:
        clients, servers = clients.plus(told.memory.clients), servers.plus(told.memory.servers)
        for name, things in told.memory.prepared.items():
            prepared[name] = prepared.get(name, Things()).plus(things)
    resident = sum(told.memory.resident for told in reports)
    return MemoryState(resident, clients, servers, prepared)


def totals_of(reports: Iterable[Report]) -> TotalsByName:
    """By database, of all workers together."""
    merged: dict[str, Totals] = {}
    for told in reports:
        for name, one in told.totals.items():
            merged[name] = merged.get(name, Totals()).plus(one)
    return merged


def queries_of(reports: Iterable[Report]) -> QueriesByName:
    """By database and way, of all workers together."""
    merged: dict[str, Counter[tuple[str, str, str]]] = {}
    for told in reports:
        for name, queries in told.queries.items():
            merged.setdefault(name, Counter()).update(queries)
    return merged
