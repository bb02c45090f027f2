"""What the console's commands look at: one process, or several workers together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from proxy.admin.console.averages import Averages, AveragesByName, TotalsByName
from proxy.admin.console.control import Control
from proxy.admin.console.snapshot import (
    ClientCounts,
    ClientState,
    DatabaseState,
    MemoryState,
    PoolState,
    PreparedState,
    ServerState,
    StatementRow,
)
from proxy.admin.console.statistics import QueriesByName
from proxy.cache.feed.feed import FeedState
from proxy.cache.statistics import Statistics
from proxy.cache.writeback.state import WriteBackState
from proxy.config.settings import Settings


class Overview(Protocol):
    """Answers at once; `look` is awaited before each command and may gather what it needs."""

    @property
    def settings(self) -> Settings:
        """Those in force."""

    @property
    def control(self) -> Control: ...

    async def look(self, command: str) -> None:
        """Be ready for a command, by its name in lower case. Raises PgError."""

    def clients(self) -> Sequence[ClientState]: ...
    def servers(self) -> Sequence[ServerState]: ...
    def pool_states(self) -> Sequence[PoolState]: ...
    def client_counts(self) -> ClientCounts: ...
    def logging_in(self) -> int:
        """Clients that have not been welcomed yet."""

    def databases(self) -> Sequence[DatabaseState]: ...
    def prepared(self) -> Iterable[PreparedState]: ...
    def memory(self) -> MemoryState: ...
    def totals(self) -> TotalsByName: ...
    def averages(self) -> AveragesByName: ...
    def all_averages(self) -> Averages: ...
    def queries(self) -> QueriesByName: ...
    def cache_passes(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Reads that went past the cache, and results that were not kept, by reason."""

    def cache_statistics(self) -> Statistics | None:
        """None: no cache is configured."""

    def cached_statements(self) -> Sequence[StatementRow]:
        """What the cache did for each statement, in any order."""

    def cache_up(self) -> bool: ...
    def feed_states(self) -> Sequence[FeedState]: ...
    def write_back_states(self) -> Sequence[WriteBackState]: ...
    def end_period(self) -> None:
        """Averages are since now."""
