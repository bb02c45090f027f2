"""Keeps the nodes of one database up to date: health, latency, how fresh the replicas are."""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from proxy.config.settings import RoutingSettings
from proxy.topology.connect import Login
from proxy.topology.findings import Findings
from proxy.topology.node import DatabaseTopology, Node
from proxy.topology.watcher import Watcher

log = structlog.get_logger(__name__)

_LEAST_PATIENCE = 1.0

OnChange = Callable[[Node], None]
"""Called with a node that became healthy or unhealthy."""


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
        on_sample: Callable[[], None] | None = None,
    ) -> None:
        self._topology = topology
        self._on_change = on_change
        patience = max(_LEAST_PATIENCE, 10 * settings.monitor_interval)
        self.findings = findings = Findings(topology, patience, self._report, on_sample=on_sample)
        self._watchers = {
            node.name: Watcher(
                node,
                login,
                settings.monitor_interval,
                patience,
                partial(findings.answered, node),
                partial(findings.failed, node),
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

    def _report(self, node: Node, changed: bool) -> None:
        facts = {
            "database": self._topology.database,
            "node": node.name,
            "address": str(node.address),
        }
        if node.error is None:
            log.info("node is healthy", **facts)
        else:
            log.warning("node is unhealthy", error=node.error, **facts)
        if changed and self._on_change is not None:
            asyncio.get_running_loop().call_soon(self._on_change, node)
