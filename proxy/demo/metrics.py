"""What the running Penstock says of itself: its metrics, and why it routes as it does."""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass

import aiohttp
import asyncpg
from prometheus_client.parser import text_string_to_metric_families

CACHE = "Redis"
"""How the table names the cache, which is no node of the database."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment."""

    answered: Counter[tuple[str, str]]
    """(node or `CACHE`, kind of statement) to number."""
    hits: int
    misses: int
    connections: Counter[str]
    """Server connections open now, by node."""

    def since(self, earlier: "Snapshot", kinds: Set[str]) -> Counter[str]:
        """Statements of these kinds answered since `earlier`, by node."""
        found: Counter[str] = Counter()
        for (node, kind), number in self.answered.items():
            if kind in kinds:
                found[node] += number - earlier.answered[node, kind]
        return +found


async def scrape(http: aiohttp.ClientSession, url: str) -> Snapshot:
    """Read the metrics as Prometheus would."""
    async with http.get(url) as response:
        response.raise_for_status()
        text = await response.text()
    answered: Counter[tuple[str, str]] = Counter()
    connections: Counter[str] = Counter()
    hits = misses = 0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, sample.value
            if sample.name == "penstock_queries_total":
                where = CACHE if labels["route"] == "cache" else labels["node"]
                answered[where, labels["kind"]] += int(value)
            elif sample.name == "penstock_cache_hits_total":
                hits = int(value)
            elif sample.name == "penstock_cache_misses_total":
                misses += int(value)
            elif sample.name == "penstock_pool_connections":
                connections[labels["node"]] += int(value)
    return Snapshot(answered, hits, misses, connections)


async def explain(connection: asyncpg.Connection, statement: str) -> dict[str, str]:
    """The rows of SHOW ROUTE FOR, asked in the session of `connection`."""
    rows = await connection.fetch(f"SHOW ROUTE FOR {statement}")
    return {row[0]: row[1] for row in rows}


def because(properties: dict[str, str]) -> str:
    """The cache rule, or else the route's reason, in a few words."""
    reason = properties["route"].partition(": ")[2]
    if properties.get("cache", "").startswith("rule "):
        rule = properties["cache"].split(",", 1)[0]
        return f"cached by {rule}"
    return reason
