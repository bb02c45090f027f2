"""What all sessions of one database share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.cache.results import ResultCache
from proxy.config.settings import DatabaseSettings, PoolSettings, RoutingSettings
from proxy.pool.pool import Pool
from proxy.pool.settings_state import SettingsState
from proxy.session.plans import PlanCache
from proxy.session.prepared import PreparedRegistry
from proxy.topology.catalogue_watch import CatalogueWatch
from proxy.topology.counters import Counters
from proxy.topology.node import DatabaseTopology, Node


@dataclass(slots=True)
class WriteClock:
    """When this process last saw a write acknowledged, in seconds of time.monotonic()."""

    last: float = float("-inf")
    by_table: dict[str, float] = field(default_factory=dict)

    def tick(self, tables: frozenset[str]) -> float:
        """Note a write of these tables that has just ended."""
        self.last = now = time.monotonic()
        for table in tables:
            self.by_table[table] = now
        return now


@dataclass(slots=True)
class DatabaseContext:
    """One database that clients can name, and the machinery behind it."""

    name: str
    settings: DatabaseSettings
    pool_settings: PoolSettings
    routing: RoutingSettings
    topology: DatabaseTopology
    plans: PlanCache
    catalogue: CatalogueWatch
    cache: ResultCache | None
    counters: Counters
    pool_of: Callable[[Node, str], Pool]
    """(node, user) -> its pool, made when first asked for."""
    max_message_size: int
    prepared: PreparedRegistry = field(default_factory=PreparedRegistry)
    writes: WriteClock = field(default_factory=WriteClock)
    welcomes: dict[tuple[str, SettingsState], dict[bytes, bytes]] = field(default_factory=dict)
    """ParameterStatus values by user and settings asked for at start-up."""
    turn: int = 0
    """Counts reads, for round-robin."""

    @property
    def sharded(self) -> bool:
        return bool(self.topology.shards)
