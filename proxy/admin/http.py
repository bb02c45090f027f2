"""The HTTP listener: `/metrics` for Prometheus, `/healthz` and `/readyz` for orchestrators."""

import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from proxy.admin.metrics import Observed, registry
from proxy.config.types import HostPort
from proxy.topology.node import DatabaseTopology, Node


class Pages(Protocol):
    """What the listener shows: of one process, or of several together."""

    async def families(self) -> Iterable[Metric]:
        """All metrics as they are now."""

    async def readiness(self) -> dict[str, Any]:
        """See `readiness`."""


class OwnPages:
    """Of this process."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._registry = registry(observed)

    async def families(self) -> Iterable[Metric]:
        return self._registry.collect()

    async def readiness(self) -> dict[str, Any]:
        return readiness(self._observed)


_PAGES: Final = web.AppKey("pages", Pages)

_STOP_SECONDS = 2.0
"""How long a stop waits for answers under way: scrapes take milliseconds."""


class ListenError(Exception):
    """The address can't be listened on; the message says why and which setting names it."""


async def start_http(
    address: HostPort,
    source: Observed | Pages,
    reuse_port: bool = False,
    inherited: socket.socket | None = None,
) -> web.AppRunner:
    """Serve on `address` (port 0: any free one, see `bound_address`) until `stop_http`.

    `inherited`: a listening socket to use instead. Raises ListenError.
    """
    runner = web.AppRunner(application(source), access_log=None, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    try:
        site = (
            web.TCPSite(runner, address.host, address.port, reuse_port=reuse_port or None)
            if inherited is None
            else web.SockSite(runner, inherited)
        )
        await site.start()
    except OSError as error:
        await runner.cleanup()
        message = f"can't listen on {address} (server.http_listen): {error.strerror or error}"
        raise ListenError(message) from error
    return runner


async def stop_http(runner: web.AppRunner) -> None:
    """Close the listener and its connections."""
    await runner.cleanup()


def bound_address(runner: web.AppRunner) -> HostPort:
    """Where a started runner listens."""
    host, port = runner.addresses[0][:2]
    return HostPort(str(host), int(port))


def application(source: Observed | Pages) -> web.Application:
    """The routes."""
    app = web.Application()
    app[_PAGES] = OwnPages(source) if isinstance(source, Observed) else source
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    return app


class _Collected(CollectorRegistry):
    """Families that are there already, for an encoder, which asks a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def _metrics(request: web.Request) -> web.Response:
    """Prometheus text, or OpenMetrics where the scraper asks for it."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    collected = _Collected(await request.app[_PAGES].families())
    body = encode(collected)
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _healthz(request: web.Request) -> web.Response:
    """The process runs and its event loop turns: that this is answered says both."""
    return web.json_response({"alive": True})


async def _readyz(request: web.Request) -> web.Response:
    """200 while every database's primary can be reached, else 503; what is amiss as JSON."""
    report = await request.app[_PAGES].readiness()
    return web.json_response(report, status=200 if report["ready"] else 503)


def readiness(observed: Observed) -> dict[str, Any]:
    """Whether clients should be sent here. `down` says why not; `degraded` names other nodes and
    the cache where they are away, which does not make the whole unready."""
    down = _unhealthy(observed.databases, primaries=True)
    degraded = _unhealthy(observed.databases, primaries=False)
    if observed.cache_up is not None and not observed.cache_up():
        degraded.append({"node": "cache", "error": "Redis does not answer"})
    stopping = observed.stopping()
    return {
        "ready": not down and not stopping,
        "stopping": stopping,
        "down": down,
        "degraded": degraded,
    }


def _unhealthy(databases: Sequence[DatabaseTopology], *, primaries: bool) -> list[dict[str, str]]:
    return [
        _row(topology, node)
        for topology in databases
        for node in topology.nodes()
        if not node.healthy and (node is topology.primary) == primaries
    ]


def _row(topology: DatabaseTopology, node: Node) -> dict[str, str]:
    return {
        "database": topology.database,
        "node": node.name,
        "address": str(node.address),
        "error": node.error or "not reachable",
    }
