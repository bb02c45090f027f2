"""An analysis in words: what the fixtures under `fixtures/` say of each text.

A line per statement, facts separated by semicolons: kind; `reads` and `writes` with the equalities
of each scan; `assigns`; `calls`; then what is out of the ordinary.
"""

from collections.abc import Iterable, Iterator

from proxy.sql.statement import Analysis, Begin, Hints, KeyValue, Parameter, Scan, Statement


def describe(analysis: Analysis) -> list[str]:
    """One line per statement, then one for the hints if there are any."""
    lines = ["; ".join(_facts(statement)) for statement in analysis.statements]
    hints = " ".join(_hints(analysis.hints))
    return [*lines, f"hints: {hints}"] if hints else lines


def _facts(statement: Statement) -> Iterator[str]:
    yield str(statement.kind)
    yield from _scans("reads", (scan for scan in statement.scans if not scan.written))
    yield from _scans("writes", (scan for scan in statement.scans if scan.written))
    yield from _words("assigns", statement.assigned)
    yield from _words("calls", statement.functions)
    yield from _words("sets", statement.settings)
    yield from _words("restores", statement.restores)
    if statement.begin is not None and statement.begin != Begin():
        yield _modes(statement.begin)
    if statement.name is not None:
        yield f"name {statement.name}"
    if statement.asks_route_of is not None:
        yield f"asks route of {statement.asks_route_of}"
    for flag in ("locking", "writes_unknown", "settings_unknown", "resets_all", "sets_transaction"):
        if getattr(statement, flag):
            yield flag.replace("_", " ")
    if statement.leaves:
        yield "may leave something"
    if statement.chains:
        yield "chains"
    if statement.pins is not None:
        yield f"pins: {statement.pins}"
    if statement.ends:
        yield f"ends: {', '.join(sorted(statement.ends))}"
    if statement.cacheable_shape:
        yield "cacheable"
    elif statement.uncacheable_because not in ("", "not a read"):
        # The parser's own words change from one release to the next.
        yield f"uncacheable: {statement.uncacheable_because.split(': sqlglot')[0]}"


def _modes(begin: Begin) -> str:
    access = {True: "read only", False: "read write", None: ""}[begin.read_only]
    return " ".join(["modes", access, begin.isolation or ""]).strip()


def _words(title: str, words: Iterable[str]) -> Iterator[str]:
    if words := sorted(words):
        yield f"{title} {' '.join(words)}"


def _scans(title: str, scans: Iterable[Scan]) -> Iterator[str]:
    if named := [_scan(scan) for scan in scans]:
        yield f"{title} {', '.join(named)}"


def _scan(scan: Scan) -> str:
    keys = " ".join(
        f"{column}={'|'.join(map(_value, values))}" for column, values in scan.equalities
    )
    return f"{scan.table}[{keys}]" if keys else str(scan.table)


def _value(value: KeyValue) -> str:
    if isinstance(value, Parameter):
        return f"${value.index}" + (f"::{value.type}" if value.type else "")
    if value.text is None:
        return "NULL"
    return f"'{value.text}'" if value.quoted else value.text


def _hints(hints: Hints) -> Iterator[str]:
    if hints.node:
        yield hints.node
    if hints.cache is not None:
        yield "cache" if hints.cache else "nocache"
    if hints.ttl_seconds is not None:
        yield f"ttl={hints.ttl_seconds:g}"
    if hints.refresh:
        yield "refresh"
    if hints.unknown:
        yield f"unknown: {' '.join(hints.unknown)}"
