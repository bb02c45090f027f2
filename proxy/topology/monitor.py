"""Keeps the nodes of one database up to date: health, latency, how fresh the replicas are."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from proxy.config.settings import RoutingSettings
from proxy.topology.connect import Login
from proxy.topology.health import Lineage, complaint
from proxy.topology.node import DatabaseTopology, Node, Role
from proxy.topology.positions import Samples, last_record_end
from proxy.topology.probe import Identity, Reading
from proxy.topology.watcher import Watcher

log = structlog.get_logger(__name__)

_LEAST_PATIENCE = 1.0
_LATENCY_WEIGHT = 1 / 8

OnChange = Callable[[Node], None]
"""Called with a node that became healthy or unhealthy."""


@dataclass(slots=True)
class _Replayed:
    """How far a replica was when last asked."""

    lsn: int
    commit_age: float | None


class Monitor:
    """Watches `topology` over connections of its own and writes what it finds into its nodes.

    A node is unhealthy from the moment when its connection ends, or when it has not answered for
    ten intervals (at least 1 s), or is not what its role says; and healthy again with the next good
    answer. A replica's `lag_seconds` grows while the primary can't be asked: what was written
    meanwhile is not known.
    """

    def __init__(
        self,
        topology: DatabaseTopology,
        login: Login,
        settings: RoutingSettings,
        on_change: OnChange | None = None,
    ) -> None:
        self._topology = topology
        self._on_change = on_change
        self._patience = max(_LEAST_PATIENCE, 10 * settings.monitor_interval)
        self._samples = Samples()
        self._lineage: Lineage | None = None
        self._inserted: int | None = None
        self._replayed: dict[str, _Replayed] = {}
        self._judged: set[str] = set()
        self._watchers = {
            node.name: Watcher(
                node,
                login,
                settings.monitor_interval,
                self._patience,
                partial(self._observe, node),
                partial(self._mark, node),
            )
            for node in topology.nodes()
        }

    async def start(self) -> None:
        """Begin to watch. Doesn't wait for anything: see `first_round`."""
        for watcher in self._watchers.values():
            watcher.start()

    async def stop(self) -> None:
        """End every loop and connection."""
        await asyncio.gather(*(watcher.stop() for watcher in self._watchers.values()))

    async def first_round(self, timeout: float) -> bool:
        """Wait until every node has answered or failed once, `timeout` seconds at most; false
        where some have done neither."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(watcher.round() for watcher in self._watchers.values()))
        except TimeoutError:
            return False
        return True

    async def sample_now(self) -> None:
        """Ask every node at once, the replicas after the primary: a replica that holds everything
        acknowledged before this call then shows it in `fresh_until`."""
        await self._watchers[self._topology.primary.name].round()
        others = [*self._topology.replicas, *self._topology.shards]
        await asyncio.gather(*(self._watchers[node.name].round() for node in others))

    def _observe(self, node: Node, identity: Identity, reading: Reading) -> bool:
        own = Lineage(identity.system, reading.timeline)
        error = complaint(node.role, reading, own, self._lineage)
        if error is not None:
            self._mark(node, error)
            return False
        earlier = node.latency
        node.latency = (
            reading.round_trip
            if earlier is None
            else earlier + (reading.round_trip - earlier) * _LATENCY_WEIGHT
        )
        flush = False
        if node.role is Role.PRIMARY:
            flush = self._observe_primary(own, identity, reading)
        elif node.role is Role.REPLICA:
            assert reading.replayed is not None  # else complaint would have said so
            self._replayed[node.name] = _Replayed(reading.replayed, reading.commit_age)
            self._place(node)
        self._mark(node, None)
        return flush

    def _observe_primary(self, own: Lineage, identity: Identity, reading: Reading) -> bool:
        """Keep the sample; true where WAL waits in the primary's memory and nothing moves it on.

        Standbys get flushed WAL only. A transaction left open, or a read that tidied a page, leaves
        a tail that the server flushes 15 s later: until then no replica could reach the position.
        """
        assert reading.inserted is not None
        assert reading.flushed is not None
        if own != self._lineage:
            self._lineage = own
            self._samples.clear()
        end = last_record_end(reading.inserted, identity.layout)
        self._samples.add(reading.asked_at, end)
        for replica in self._topology.replicas:
            self._place(replica)
        idle = reading.inserted == self._inserted
        self._inserted = reading.inserted
        return idle and end > reading.flushed and bool(self._topology.replicas)

    def _place(self, node: Node) -> None:
        """Set how fresh a replica is, from the samples and its last known position."""
        replayed = self._replayed.get(node.name)
        latest = self._samples.latest
        if replayed is None or latest is None:
            node.fresh_until = float("-inf")
            node.lag_bytes = None
            node.lag_seconds = None if replayed is None else replayed.commit_age
            return
        now = time.monotonic()
        latest_at, latest_lsn = latest
        node.fresh_until = self._samples.fresh_until(replayed.lsn)
        node.lag_bytes = max(0, latest_lsn - replayed.lsn)
        if node.lag_bytes == 0 and now - latest_at <= self._patience:
            node.lag_seconds = 0.0
        elif node.fresh_until > float("-inf"):
            node.lag_seconds = max(0.0, now - node.fresh_until)
        else:  # further behind than the oldest sample
            node.lag_seconds = replayed.commit_age

    def _mark(self, node: Node, error: str | None) -> None:
        changed = node.healthy != (error is None)
        if error is not None and node.role is Role.REPLICA:
            # After a restart it may stand further back than before.
            self._replayed.pop(node.name, None)
            self._place(node)
        node.healthy = error is None
        node.error = error
        if changed or node.name not in self._judged:
            self._judged.add(node.name)
            self._report(node)
        if changed and self._on_change is not None:
            asyncio.get_running_loop().call_soon(self._on_change, node)

    def _report(self, node: Node) -> None:
        facts = {
            "database": self._topology.database,
            "node": node.name,
            "address": str(node.address),
        }
        if node.error is None:
            log.info("node is healthy", **facts)
        else:
            log.warning("node is unhealthy", error=node.error, **facts)
