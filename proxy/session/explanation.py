"""The answer to `EXPLAIN (PENSTOCK) …` and `SHOW ROUTE FOR …`: the decision, without running it."""

from proxy.cache.keys import is_pattern_epoch
from proxy.routing.decide import decide
from proxy.routing.explain import describe
from proxy.routing.plan import Access, Plan
from proxy.routing.route import Refused
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.wire.messages import command_complete, data_row, text_row_description

_COLUMNS = ("property", "value")


def explain(context: DatabaseContext, client: Client, asked: Plan) -> tuple[bytes, bytes]:
    """(RowDescription, rows and CommandComplete); `asked` holds the text that is asked about."""
    rows = _rows(context, client, asked.analysis.text)
    result = b"".join(data_row(row) for row in rows) + command_complete(f"SELECT {len(rows)}")
    return text_row_description(_COLUMNS), result


def _rows(context: DatabaseContext, client: Client, text: str) -> tuple[tuple[str, str], ...]:
    plan, literals = context.plans_of(client.user).of_text(text.encode(), client.utf8)
    if plan.access is Access.LOCAL:
        kind = "explain" if plan.call is None else f"call of penstock.{plan.call.function}"
        return (("kind", kind), ("route", "answered by Penstock itself"))
    if plan.refusal is not None and plan.access is Access.REFUSE:
        return describe(plan, plan.refusal)
    facts = client.facts
    facts.fresh_after = context.fresh_after(client, plan)
    try:
        shard = None
        if plan.shard is not None and plan.shard.shard is None and literals:
            shard = plan.shard.resolve(literals, (), ())
        route = decide(
            plan,
            facts,
            context.topology,
            context.settings.replicas,
            context.turn,
            shard,
            context.routing.max_lag,
        )
    except Refused as refused:
        return describe(plan, refused)
    return describe(plan, route, _cascades(context, plan))


def _cascades(context: DatabaseContext, plan: Plan) -> tuple[tuple[str, str], ...]:
    """What rules of `[[cache.invalidation]]` do."""
    effects = None
    if context.cache is not None:
        effects = context.cache.cascaded(context.name, plan.writes)
    if effects is None:
        return ()
    rows = []
    if more := effects.names - plan.writes:
        rows.append(("invalidates by rules", ", ".join(sorted(map(_target, more)))))
    for delay, names in effects.later:
        rows.append((f"after {delay:g} s once more", ", ".join(sorted(map(_target, names)))))
    return tuple(rows)


def _target(name: str) -> str:
    return f"keys {name[1:]}" if is_pattern_epoch(name) else name
