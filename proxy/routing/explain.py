"""A plan and its route in words: what `EXPLAIN (PENSTOCK)` and `SHOW ROUTE FOR` answer."""

import re
from collections.abc import Iterable

from proxy.routing.plan import CachePlan, Pinned, Plan, Refusal, ShardKey, ShardPlan
from proxy.routing.route import Refused, Route, ShardUnresolved
from proxy.sql.statement import Hints, Literal, Statement

Rows = tuple[tuple[str, str], ...]

_BLANK = r"(?:\s|--[^\n]*+(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*+\*/)"
_REQUEST = re.compile(
    rf"{_BLANK}*+(?:"
    rf"explain{_BLANK}*+\({_BLANK}*+penstock{_BLANK}*+\)"
    rf"|show{_BLANK}++route{_BLANK}++for(?={_BLANK}|[(])"
    # Comments from here on belong to the statement: they may be hints.
    r")\s*(?P<statement>.*)",
    re.IGNORECASE | re.DOTALL,
)


def explained_statement(text: str) -> str | None:
    """The statement inside `EXPLAIN (PENSTOCK) …` or `SHOW ROUTE FOR …`; None for other text."""
    match = _REQUEST.fullmatch(text)
    return None if match is None else match["statement"].strip()


Outcome = Route | Refusal | Refused | None


def describe(plan: Plan, outcome: Outcome, extras: Rows = ()) -> Rows:
    """(property, value) rows that say what is known of a statement and where it goes.

    `outcome` is the route, why there is none, or None where only the parameters of an execution
    decide. `extras` are further rows of the caller's, put
    last: the state of the cache, the parameters that were assumed.
    """
    statements = plan.analysis.statements
    rows = [
        ("kind", plan.kind if len(statements) < 2 else f"{plan.kind}, {len(statements)} statements")
    ]
    if plan.analysis.error is not None:
        rows.append(("parse error", plan.analysis.error))
    rows += _tables(plan, statements)
    rows.append(("access", f"{plan.access.value}: {plan.reason}"))
    rows += _route(outcome)
    rows += _cache(plan)
    if plan.written_back:
        rows.append(("written back", f"rows of {plan.written_back}, where nothing is against it"))
    if plan.shard is not None:
        rows += _shard(plan.shard, outcome)
    rows += _hints(plan.analysis.hints, plan.node_hint)
    rows += _session(plan)
    return (*rows, *extras)


def _tables(plan: Plan, statements: tuple[Statement, ...]) -> Iterable[tuple[str, str]]:
    named = {str(table) for statement in statements for table in statement.reads}
    written = {str(table) for statement in statements for table in statement.writes}
    functions = {name for statement in statements for name in statement.functions}
    if named:
        yield "tables read", _listed(named)
    if written:
        yield "tables written", _listed(written)
    if functions:
        yield "functions", _listed(functions)
    if plan.reads - named:
        yield "reads in all", _epochs(plan.reads)
    if plan.writes:
        yield "moves epochs of", _epochs(plan.writes)
    if plan.pinned_write is not None:
        yield "invalidates by key", _pinned(plan.pinned_write)


def _route(outcome: Outcome) -> Iterable[tuple[str, str]]:
    if outcome is None or isinstance(outcome, ShardUnresolved):
        yield "route", "the shard that the parameters of each execution decide"
    elif isinstance(outcome, Route):
        where = outcome.target.value if outcome.node is None else outcome.node.name
        yield "route", f"{where}: {outcome.reason}"
    else:
        yield "route", f"refused ({outcome.sqlstate}): {outcome.message}"
        yield "hint", outcome.hint


def _cache(plan: Plan) -> Iterable[tuple[str, str]]:
    if plan.cache is None:
        yield "cache", f"no: {plan.uncached_reason}"
        return
    yield "cache", _by_rule(plan.cache)
    yield "cache label", plan.cache.label
    yield "cache depends on", _listed(plan.cache.reads)
    for pinned in plan.cache.pins:
        yield "depends by key on", _pinned(pinned)


def _by_rule(cache: CachePlan) -> str:
    said = f"rule {cache.rule!r}, TTL {cache.ttl_seconds:g} s, at most {cache.max_bytes} bytes"
    if cache.jitter_seconds:
        said += f", lives shortened by up to {cache.jitter_seconds:g} s"
    if cache.stale_seconds:
        said += f", for {cache.stale_seconds:g} s more while one client reads anew"
    if cache.empty_ttl_seconds is not None:
        empty = cache.empty_ttl_seconds
        said += f", without rows {f'for {empty:g} s' if empty else 'not kept'}"
    if cache.refresh_seconds:
        said += f", read again after writes, for which they wait up to {cache.refresh_seconds:g} s"
    return f"{said}; the hint has what is kept replaced" if cache.refresh else said


def _shard(shard: ShardPlan, outcome: Outcome) -> Iterable[tuple[str, str]]:
    for key in shard.keys:
        yield "shard key", _pinned(key)
    if shard.shard is not None:
        yield "shard", str(shard.shard)
    elif isinstance(outcome, Route) and outcome.node is not None:
        yield "shard", f"{outcome.node.shard}, by these values"
    else:
        yield "shard", "decided by the parameters"


def _pinned(key: ShardKey | Pinned) -> str:
    values = (
        (f"{value.text!r}" if value.text is not None else "NULL")
        if isinstance(value, Literal)
        else f"${value.index}"
        for value in key.values
    )
    return f"{key.table}.{key.column} = {' or '.join(values)}"


def _hints(hints: Hints, node_hint: str | None) -> Iterable[tuple[str, str]]:
    said = [hints.node] if hints.node else []
    if hints.cache is not None:
        said.append("cache" if hints.cache else "nocache")
    if hints.ttl_seconds is not None:
        said.append(f"ttl={hints.ttl_seconds:g}")
    if hints.refresh:
        said.append("refresh")
    if said:
        yield "hints", ", ".join(said)
    elif node_hint is not None:
        yield "asked for by a rule", node_hint
    if hints.unknown:
        yield "hints not understood", ", ".join(hints.unknown)


def _session(plan: Plan) -> Iterable[tuple[str, str]]:
    if plan.settings:
        yield "changes settings", _listed(plan.settings)
    if plan.resets_all:
        yield "changes settings", "all, back to their defaults"
    elif plan.settings_unknown:
        yield "changes settings", "maybe others, which the text doesn't tell"
    if plan.pins:
        yield "keeps its connection", plan.pins
    if plan.leaves:
        yield "may keep its connection", "if the server then tells of something left there"
    if plan.needs_session:
        yield "needs its connection", "reads state that an earlier statement left there"


def _epochs(names: Iterable[str]) -> str:
    names = set(names)
    others = sorted(names - {"*"})
    if "*" not in names:
        return ", ".join(others)
    return ", ".join([*others, "any other table" if others else "every table"])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
