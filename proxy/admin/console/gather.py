"""The values behind the console's views, gathered from a running process when somebody asks."""

import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from proxy.admin.console.averages import Averages, AveragesByName, Period, TotalsByName, totals
from proxy.admin.console.control import Control
from proxy.admin.console.snapshot import (
    ClientCount,
    ClientCounts,
    ClientState,
    DatabaseState,
    Endpoints,
    MemoryState,
    NodeState,
    PoolState,
    PreparedState,
    ServerState,
    StatementRow,
    Things,
)
from proxy.admin.console.statistics import QueriesByName
from proxy.admin.console.weighing import total
from proxy.cache.feed.feed import FeedState
from proxy.cache.service import CacheService
from proxy.cache.statistics import Statistics
from proxy.cache.writeback.state import WriteBackState
from proxy.config.pooling import database_caps
from proxy.config.settings import Settings
from proxy.net.channel import Channel
from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.pool.shared_listener import APPLICATION_NAME, SharedListener
from proxy.session import states
from proxy.session.context import DatabaseContext
from proxy.session.registry import Registry
from proxy.session.session import Session
from proxy.session.transaction import IDLE
from proxy.topology.counters import Counters, together
from proxy.topology.node import Node


@dataclass(frozen=True, slots=True)
class Insight:
    """What the console looks at; everything is read anew for every command."""

    current: Callable[[], Settings]
    """The settings in force."""
    counters: Counters
    registry: Registry
    contexts: Callable[[], Iterable[DatabaseContext]]
    pools: Callable[[], Iterable[Pool]]
    control: Control
    cache: CacheService | None = None
    feeds: Callable[[], Sequence[FeedState]] = field(default=tuple)
    consoles: Callable[[], Iterable[ClientState]] = field(default=tuple)
    """Clients of the console itself."""
    period: Period = field(default_factory=lambda: Period(time.monotonic()))

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.current()

    def clients(self) -> list[ClientState]:
        """Clients of databases, then those of the console."""
        now = time.monotonic()
        waits = {id(who): now - since for pool in self.pools() for since, who in pool.waiting()}
        sessions = [_client(one, waits.get(id(one.upstream))) for one in self.registry]
        return [*sessions, *self.consoles()]

    def servers(self) -> list[ServerState]:
        """All server connections that are logged in."""
        owners = {
            id(session.upstream.backend): session
            for session in self.registry
            if session.upstream.backend is not None
        }
        lent = [
            _server(pool, backend, owners.get(id(backend)))
            for pool in self.pools()
            for backend in pool.backends
        ]
        listeners = (context.listener for context in self.contexts())
        return lent + [_listener(one, one.backend) for one in listeners if one.backend is not None]

    def pool_states(self) -> list[PoolState]:
        """All pools, one for each user and node of a database."""
        return [_pool(pool) for pool in self.pools()]

    def client_counts(self) -> ClientCounts:
        """Clients by database and user."""
        queued = {id(who) for pool in self.pools() for _, who in pool.waiting()}
        clients: Counter[tuple[str, str]] = Counter()
        waiting: Counter[tuple[str, str]] = Counter()
        for session in self.registry:
            pair = session.context.name, session.client.user
            clients[pair] += 1
            waiting[pair] += id(session.upstream) in queued
        return {pair: ClientCount(count, waiting[pair]) for pair, count in clients.items()}

    def databases(self) -> list[DatabaseState]:
        """All databases, in the order of their names."""
        now = time.monotonic()
        return [
            DatabaseState(
                one.name,
                one.settings,
                one.pool_settings,
                tuple(_node(node, now) for node in one.topology.nodes()),
                one.paused,
                one.disabled,
                database_caps(self.settings, one.name),
            )
            for one in sorted(self.contexts(), key=lambda context: context.name)
        ]

    def prepared(self) -> Iterator[PreparedState]:
        """Statements that clients have prepared at the protocol's level."""
        servers: Counter[tuple[str, bytes]] = Counter()
        for pool in self.pools():
            for backend in pool.backends:
                servers.update((pool.database, name) for name in backend.prepared)
        for context in self.contexts():
            for one in context.prepared:
                plan = one.plan
                yield PreparedState(
                    context.name,
                    one.name.decode(),
                    one.text.decode("utf-8", "replace"),
                    one.oids,
                    servers[context.name, one.name],
                    plan.kind if plan else None,
                    plan.access.value if plan else None,
                )

    def memory(self) -> MemoryState:
        """The process's memory, and how many there are of what takes it."""
        servers = [backend for pool in self.pools() for backend in pool.backends]
        sessions = list(self.registry)
        return MemoryState(
            psutil.Process().memory_info().rss,
            Things(len(sessions), total(sessions)),
            Things(len(servers), total(servers)),
            {context.name: _statements(context) for context in self.contexts()},
        )

    def totals(self) -> TotalsByName:
        """What has gone through each database since the start."""
        contexts = sorted(self.contexts(), key=lambda context: context.name)
        return {one.name: totals(one.counters, one.prepared.asked) for one in contexts}

    def averages(self) -> AveragesByName:
        """What has gone through each database lately."""
        return self.period.averages(time.monotonic(), self.totals())

    def all_averages(self) -> Averages:
        """What has gone through all databases together lately."""
        return self.period.together(time.monotonic(), self.totals())

    def queries(self) -> QueriesByName:
        """What went where, by database."""
        return {
            one.name: {key: tally.count for key, tally in one.counters.queries.items()}
            for one in self.contexts()
        }

    def cache_passes(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Reads that went past the cache, and results that were not kept, by reason."""
        counters = together([self.counters, *(one.counters for one in self.contexts())])
        return counters.cache_bypasses, counters.cache_unfilled

    def cache_statistics(self) -> Statistics | None:
        """What the cache counts; None: no cache is configured."""
        return None if self.cache is None else self.cache.results.statistics

    def cached_statements(self) -> list[StatementRow]:
        """What the cache did for each statement."""
        return [
            StatementRow(one.name, *tally)
            for one in self.contexts()
            for tally in one.counters.statements.items()
        ]

    def cache_up(self) -> bool:
        """Whether Redis answers."""
        return self.cache is not None and self.cache.up

    def write_back_states(self) -> Sequence[WriteBackState]:
        """Of the databases that have write-back."""
        found = (one.write_back for one in self.contexts())
        return [one.state for one in found if one is not None]

    def feed_states(self) -> Sequence[FeedState]:
        """The change feeds of databases that have one."""
        return self.feeds()

    def logging_in(self) -> int:
        """Clients that have not been welcomed yet."""
        return max(0, self.counters.clients - len(self.registry))

    def end_period(self) -> None:
        """Averages are since now."""
        self.period.end(time.monotonic(), self.totals())

    async def look(self, command: str) -> None:
        """Nothing to gather: it is all here."""


def endpoints(channel: Channel | None) -> Endpoints:
    """The addresses of a channel's ends; "unix" for those of a Unix socket, as in PgBouncer."""
    if channel is None:
        return Endpoints()
    try:
        sock = channel.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            return Endpoints("unix", 0, "unix", 0)
        return Endpoints(*sock.getpeername()[:2], *sock.getsockname()[:2])
    except OSError:
        return Endpoints()


def _tls(channel: Channel | None) -> str:
    """Version and cipher of a channel that is encrypted, "" of one that is not."""
    return str(channel.get_extra_info("cipher") or "") if channel is not None else ""


def _client(session: Session, waiting: float | None) -> ClientState:
    client, backend = session.client, session.upstream.backend
    facts = client.facts
    return ClientState(
        id(session),
        client.user,
        session.context.name,
        states.NAMES[session.state],
        endpoints(session.transport),
        session.connected_at,
        client.settings.values.get("application_name", b"").decode("utf-8", "replace"),
        waiting,
        id(backend) if backend is not None else None,
        backend.node.name if backend is not None else None,
        backend.process_id if backend is not None else None,
        facts.pinned,
        client.transaction.status != IDLE,
        session.prepared_count,
        _requested_at(session),
        0 if session.listening is None else len(session.listening.outlook.channels),
        _tls(session.transport),
    )


def _requested_at(session: Session) -> float | None:
    """In time.time(), from the clock that batches are timed by."""
    started = session.started
    return time.time() - (time.perf_counter() - started) if started else None


def _server(pool: Pool, backend: Backend, owner: Session | None) -> ServerState:
    ago = time.monotonic() - backend.connected_at
    return ServerState(
        id(backend),
        pool.login.user,
        pool.database,
        pool.node.name,
        pool.node.role,
        backend.in_use,
        endpoints(backend.transport),
        time.time() - ago,
        backend.process_id,
        None if owner is None else id(owner),
        backend.settings.values.get("application_name", b"").decode("utf-8", "replace"),
        len(backend.prepared),
        backend.pending_cancels,
        None if owner is None else _requested_at(owner),
        close_needed=pool.must_close(backend),
        tls=_tls(backend.transport),
    )


def _statements(context: DatabaseContext) -> Things:
    texts = [one.content for one in context.prepared]
    return Things(len(texts), sum(2 * sys.getsizeof(text) for text in texts))  # with its text alone


def _listener(listener: SharedListener, backend: Backend) -> ServerState:
    ago = time.monotonic() - backend.connected_at
    return ServerState(
        id(backend),
        listener.user,
        listener.database,
        backend.node.name,
        backend.node.role,
        True,
        endpoints(backend.transport),
        time.time() - ago,
        backend.process_id,
        application_name=APPLICATION_NAME,
        listener=True,
        tls=_tls(backend.transport),
    )


def _pool(pool: Pool) -> PoolState:
    backends = list(pool.backends)
    longest = max((time.monotonic() - since for since, _ in pool.waiting()), default=0.0)
    return PoolState(
        pool.database,
        pool.login.user,
        pool.node.name,
        pool.settings.mode,
        pool.settings.size,
        sum(one.in_use for one in backends),
        pool.idle_count,
        pool.size - len(backends),
        pool.waiting_count,
        longest,
        sum(one.pending_cancels > 0 for one in backends),
        sum(one.pending_cancels > 0 and not one.in_use for one in backends),
        pool.stale_count,
        pool.tested_count,
    )


def _node(node: Node, now: float) -> NodeState:
    known = node.fresh_until != float("-inf")
    return NodeState(
        node.name,
        node.role,
        node.address.host,
        node.address.port,
        node.address.database,
        node.healthy,
        node.shard,
        node.lag_bytes,
        node.lag_seconds,
        now - node.fresh_until if known else None,
        node.latency,
        node.error,
        node.in_use,
    )
