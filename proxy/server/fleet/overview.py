"""All workers as the console sees them. Implements `proxy.admin.console.overview.Overview`."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from proxy.admin.console.averages import Averages, AveragesByName, Period, TotalsByName
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
from proxy.config.pooling import database_caps, pool_settings
from proxy.config.settings import Settings
from proxy.server.fleet import report
from proxy.server.fleet.report import Report

Gather = Callable[[frozenset[str]], Awaitable[Sequence[Report]]]


class FleetOverview:
    """Reports are gathered before each command and looked at while it is answered."""

    def __init__(
        self,
        current: Callable[[], Settings],
        control: Control,
        gather: Gather,
        consoles: Callable[[], Iterable[ClientState]],
    ) -> None:
        self._current = current
        self._control = control
        self._gather = gather
        self._consoles = consoles
        self._reports: Sequence[Report] = ()
        self._period = Period(time.monotonic())

    @property
    def settings(self) -> Settings:
        return self._current()

    @property
    def control(self) -> Control:
        return self._control

    async def look(self, command: str) -> None:
        if command.startswith("show"):
            self._reports = await self._gather(report.wanted_for(command))

    def clients(self) -> Sequence[ClientState]:
        return [*report.clients_of(self._reports), *self._consoles()]

    def servers(self) -> Sequence[ServerState]:
        return report.servers_of(self._reports)

    def pool_states(self) -> Sequence[PoolState]:
        return report.pools_of(self._reports)

    def client_counts(self) -> ClientCounts:
        return report.counts_of(self._reports)

    def logging_in(self) -> int:
        return sum(one.logging_in for one in self._reports)

    def databases(self) -> Sequence[DatabaseState]:
        """With the limits of the whole, of which a worker has a share."""
        settings = self.settings
        return [
            replace(
                one,
                pool=pool_settings(settings, one.name, ""),
                caps=database_caps(settings, one.name),
            )
            for one in report.databases_of(self._reports)
        ]

    def prepared(self) -> Iterable[PreparedState]:
        return report.prepared_of(self._reports)

    def memory(self) -> MemoryState:
        return report.memory_of(self._reports)

    def totals(self) -> TotalsByName:
        return report.totals_of(self._reports)

    def averages(self) -> AveragesByName:
        return self._period.averages(time.monotonic(), self.totals())

    def all_averages(self) -> Averages:
        return self._period.together(time.monotonic(), self.totals())

    def queries(self) -> QueriesByName:
        return report.queries_of(self._reports)

    def cache_passes(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        bypasses: Counter[str] = Counter()
        unfilled: Counter[str] = Counter()
        for one in self._reports:
            bypasses.update(one.cache_passes[0])
            unfilled.update(one.cache_passes[1])
        return bypasses, unfilled

    def cache_statistics(self) -> Statistics | None:
        if not self.settings.cache.has_store:
            return None
        return report.statistics_of(self._reports)

    def cached_statements(self) -> list[StatementRow]:
        return report.cached_statements_of(self._reports)

    def cache_up(self) -> bool:
        return bool(self._reports) and all(one.cache_up for one in self._reports)

    def write_back_states(self) -> list[WriteBackState]:
        return report.write_backs_of(self._reports)

    def feed_states(self) -> list[FeedState]:
        return report.feeds_of(self._reports)

    def end_period(self) -> None:
        self._period.end(time.monotonic(), self.totals())
