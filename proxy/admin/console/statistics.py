"""SHOW STATS and its kin. Values in, rows out; PgBouncer's columns come first.

NULL stands for what is not counted: statements prepared on servers, and Bind messages.
"""

from collections.abc import Mapping

from proxy.admin.console.averages import Averages, AveragesByName, Totals, TotalsByName, total_of
from proxy.admin.console.rows import Row, columns

_COUNTED = (
    "server_assignment_count xact_count query_count {received} {sent} xact_time query_time "
    "wait_time client_parse_count server_parse_count bind_count"
)
_STATS = _COUNTED.format(received="received", sent="sent").split()
_AVERAGED = _COUNTED.format(received="recv", sent="sent").split()
_HALF = _COUNTED.format(received="bytes_received", sent="bytes_sent").split()
_ROUTES = ("primary", "replica", "shard", "cache", "local")
_ROUTE_COLUMNS = [f"{route}_count:int" for route in _ROUTES]

STATS = columns(
    " ".join(
        (
            "database",
            *(f"total_{name}:int" for name in _STATS),
            *(f"avg_{name}:int" for name in _AVERAGED),
            *_ROUTE_COLUMNS,
        )
    )
)
STATS_TOTALS = columns(" ".join(("database", *(f"{name}:int" for name in _HALF), *_ROUTE_COLUMNS)))
STATS_AVERAGES = columns(" ".join(("database", *(f"{name}:int" for name in _HALF))))
TOTALS = columns("name value:int")

QueriesByName = Mapping[str, Mapping[tuple[str, str, str], int]]
"""By database; within one by (route, node, kind), as `Counters` keeps them."""


def stats_rows(totals: TotalsByName, averages: AveragesByName, queries: QueriesByName) -> list[Row]:
    """A row for each database."""
    return [
        (name, *_total(one), *_average(averages.get(name, Averages())), *_routes(queries, name))
        for name, one in totals.items()
    ]


def stats_totals_rows(totals: TotalsByName, queries: QueriesByName) -> list[Row]:
    """As `stats_rows`, without averages."""
    return [(name, *_total(one), *_routes(queries, name)) for name, one in totals.items()]


def stats_averages_rows(averages: AveragesByName) -> list[Row]:
    """As `stats_rows`, averages alone."""
    return [(name, *_average(one)) for name, one in averages.items()]


def totals_rows(totals: TotalsByName, averages: Averages) -> list[Row]:
    """All databases together, a row for each figure."""
    together = total_of(totals)
    names = _COUNTED.format(received="client_bytes", sent="server_bytes").split()
    return [
        *((f"total_{name}", value) for name, value in zip(names, _total(together), strict=True)),
        *((f"avg_{name}", value) for name, value in zip(names, _average(averages), strict=True)),
    ]


def _total(totals: Totals) -> Row:
    return (
        totals.lends,
        totals.transactions,
        totals.queries,
        totals.received,
        totals.sent,
        _microseconds(totals.transaction_seconds),
        _microseconds(totals.query_seconds),
        _microseconds(totals.wait_seconds),
        totals.parses,
        None,
        None,
    )


def _average(averages: Averages) -> Row:
    return (
        round(averages.lends),
        round(averages.transactions),
        round(averages.queries),
        round(averages.received),
        round(averages.sent),
        _microseconds(averages.transaction_seconds),
        _microseconds(averages.query_seconds),
        _microseconds(averages.wait_seconds),
        round(averages.parses),
        None,
        None,
    )


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _routes(queries: QueriesByName, name: str) -> Row:
    counts = dict.fromkeys(_ROUTES, 0)
    for (route, _, _), count in queries.get(name, {}).items():
        counts[route] = counts.get(route, 0) + count
    return tuple(counts[route] for route in _ROUTES)
