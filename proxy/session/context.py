"""What all sessions of one database share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from proxy.cache.calls import CacheCalls
from proxy.cache.results import ResultCache
from proxy.cache.schema import SchemaEpoch
from proxy.cache.trust import FeedTrust
from proxy.cache.writeback.writeback import WriteBack
from proxy.config.settings import DatabaseSettings, PoolSettings, ReplicaSettings, RoutingSettings
from proxy.pool.exchange import Exchange
from proxy.pool.pool import Pool
from proxy.pool.settings_state import SettingsState
from proxy.pool.shared_listener import SharedListener
from proxy.routing.plan import Plan
from proxy.session.client import Client
from proxy.session.hot import HotResults
from proxy.session.plans import PlanCache
from proxy.session.prepared import PreparedRegistry
from proxy.session.registry import Registry
from proxy.session.vacancy import Vacancy
from proxy.topology.catalogue_watch import CatalogueWatch
from proxy.topology.counters import Counters, Tally
from proxy.topology.node import DatabaseTopology, Node
from proxy.wire.errors import PgError

EVERYTHING = "*"
_READ_COMMITTED: Final = ("read committed", "read uncommitted")


@dataclass(slots=True)
class WriteClock:
    """When this process last saw a write acknowledged, in seconds of time.monotonic()."""

    last: float = float("-inf")
    by_table: dict[str, float] = field(default_factory=dict)

    def tick(self, tables: frozenset[str]) -> float:
        """Note a write of these tables that has just ended."""
        self.last = now = time.monotonic()
        for table in tables or (EVERYTHING,):
            self.by_table[table] = now
        return now

    def of_tables(self, tables: frozenset[str]) -> float:
        """The last write of any of these tables, or of none that could be told."""
        if EVERYTHING in tables:
            return self.last
        times = self.by_table
        return max(times.get(table, float("-inf")) for table in (EVERYTHING, *tables))


@dataclass(slots=True)
class DatabaseContext:
    """One database that clients can name, and the machinery behind it."""

    name: str
    settings: DatabaseSettings
    pool_settings: PoolSettings
    """Of the database; a user may have others."""
    pool_settings_of: Callable[[str], PoolSettings]
    """By user."""
    routing: RoutingSettings
    topology: DatabaseTopology
    plans: PlanCache
    catalogue: CatalogueWatch
    cache: ResultCache | None
    counters: Counters
    pool_of: Callable[[Node, str], Pool]
    """(node, user) -> its pool, made when first asked for."""
    explain: Callable[["DatabaseContext", Client, Plan], tuple[bytes, bytes]]
    """The answer to EXPLAIN (PENSTOCK): a RowDescription, and rows with their CommandComplete."""
    max_message_size: int
    prepared: PreparedRegistry = field(default_factory=PreparedRegistry)
    writes: WriteClock = field(default_factory=WriteClock)
    welcomes: dict[tuple[str, SettingsState], dict[bytes, bytes]] = field(default_factory=dict)
    """ParameterStatus values by user and settings asked for at start-up."""
    replicas: ReplicaSettings = field(init=False)
    max_lag: float = field(init=False)
    read_your_writes: str = field(init=False)
    schema: SchemaEpoch = field(init=False)
    """Of the cache."""
    turn: int = 0
    """Counts dispatches, for round-robin."""
    trust: FeedTrust | None = None
    """Of the change feed, where the database has one."""
    sharded: bool = False
    disabled: bool = False
    """No new clients, by an administrator's order."""
    paused: bool = False
    """No server connection is lent, by an administrator's order."""
    vacate: (
        Callable[["DatabaseContext", frozenset[str], Callable[[Vacancy], None]], None] | None
    ) = None
    """Keeps Penstock away from databases (their names on the server) while a statement demands that
    nobody is connected to them; hands out what ends that."""
    sessions: Registry | None = None
    """All of the process."""
    listener: SharedListener = field(init=False)
    """Listens for all clients in transaction or statement mode."""
    notification_backlog: int = 0
    """Bytes of notifications that may wait for one client; 0: any number."""
    calls: CacheCalls | None = None
    """Carries out calls of the schema `penstock`, where there is a cache."""
    hot: HotResults | None = None
    """What to read again after a write, where there is a cache."""
    write_back: WriteBack | None = None
    """Takes single-row writes, where rules say so."""
    inquire: (
        Callable[["DatabaseContext", Client, bytes, Callable[[Exchange | PgError], None]], None]
        | None
    ) = None
    """Puts a question of Penstock's own to the primary, as a client would."""
    cached: dict[str, Tally] = field(default_factory=dict)
    """Answers from the cache, by kind of statement."""

    def __post_init__(self) -> None:
        if self.cache is not None:
            self.schema = self.cache.schema(self.name)
            self.schema.doubt = self.catalogue.invalidate
        else:
            self.schema = SchemaEpoch()
        self.replicas = self.settings.replicas
        self.max_lag = self.routing.max_lag
        self.read_your_writes = self.routing.read_your_writes
        self.listener = SharedListener(
            self.name, lambda user: self.pool_of(self.topology.primary, user)
        )
        self.listener.relistens = self.pool_settings.listener_loss == "warn"

    def may_have_snapshot(self, client: Client) -> bool:
        """Whether the client's transaction may see rows as they were when it began."""
        default = self.catalogue.current.default_isolation
        return not client.transaction.read_committed or default not in _READ_COMMITTED

    def plans_of(self, user: str) -> PlanCache:
        """The plans of this user's statements."""
        return self.plans.of_user(user) if self.plans.by_user else self.plans

    def keeps_backends(self, user: str) -> bool:
        """Whether each client has a connection to the primary of its own from its login on."""
        return self.pool_settings_of(user).mode == "session" and not self.sharded

    def planned(self) -> bytes:
        """The token of the schema that a plan made now goes by; empty: none that is certain."""
        return self.schema.token if self.catalogue.usable_for_cache else b""

    def fresh_after(self, client: Client, plan: Plan) -> float:
        """The moment whose acknowledged writes a read of this plan must see.

        What a rule caches is never older than a write through this process, also while the cache
        is bypassed: a client must not see a row go back in time.
        """
        if plan.cache is not None and self.cache is not None:
            return max(client.wrote_at, self.writes.of_tables(plan.reads))
        scope = self.read_your_writes
        if scope == "session":
            return client.wrote_at
        if scope == "global":
            return self.writes.last
        if scope == "table":
            return self.writes.of_tables(plan.reads)
        return float("-inf")

    def own_floor(self, client: Client, plan: Plan) -> float:
        """`fresh_after` of this plan for all that the client reads until it writes; infinite where
        others' writes move it."""
        scope = self.read_your_writes
        if plan.cache is not None and self.cache is not None:
            return float("inf")
        if scope == "session":
            return client.wrote_at
        return float("-inf" if scope == "off" else "inf")
