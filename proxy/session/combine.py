"""The plan of a batch that runs several statements before one Sync."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from proxy.routing.plan import Access, Plan, Refusal
from proxy.sql.listening import Step, in_order
from proxy.sql.pins import joined
from proxy.sql.statement import Analysis
from proxy.wire import errors

_SEVERITY: Final = {Access.READ: 0, Access.LOCAL: 1, Access.WRITE: 2, Access.REFUSE: 3}

NOTHING: Final = Plan(
    Analysis("", ()), "empty", Access.WRITE, "the batch runs no statement of its own"
)
"""For a batch that only goes on with a portal, or closes something."""


def combine(plans: Sequence[Plan]) -> Plan:
    """One plan for all: the strictest access, the union of effects; never cached."""
    first = plans[0]
    if len(plans) == 1:
        return first
    strictest = max(plans, key=lambda plan: _SEVERITY[plan.access])
    if strictest.access is Access.LOCAL or any(plan.call is not None for plan in plans):
        strictest = replace(
            strictest,
            access=Access.REFUSE,
            refusal=Refusal(
                errors.FEATURE_NOT_SUPPORTED,
                "a question to Penstock can't share a pipeline with other statements",
                "send it alone, or followed by Sync",
            ),
        )
    hints = [plan.node_hint for plan in plans]
    return replace(
        strictest,
        analysis=replace(
            strictest.analysis,
            statements=tuple(chain.from_iterable(plan.analysis.statements for plan in plans)),
        ),
        kind=first.kind if all(plan.kind == first.kind for plan in plans) else "multi",
        writes=frozenset().union(*(plan.writes for plan in plans)),
        pinned_write=None,
        reads=frozenset().union(*(plan.reads for plan in plans)),
        touches_tables=any(plan.touches_tables for plan in plans),
        steps=steps_of(plans),
        asks_channels=any(plan.asks_channels for plan in plans),
        notifies=any(plan.notifies for plan in plans),
        written_back="",
        sees_waiting=any(plan.sees_waiting for plan in plans),
        occupies=frozenset().union(*(plan.occupies for plan in plans)),
        needs_session=any(plan.needs_session for plan in plans),
        node_hint="primary" if "primary" in hints else strictest.node_hint,
        cache=None,
        uncached_reason="several statements before one Sync",
        begin=next((plan.begin for plan in plans if plan.begin), None),
        ends_transaction=False,
        rolls_back=all(plan.rolls_back for plan in plans),
        settings=frozenset().union(*(plan.settings for plan in plans)),
        settings_unknown=any(plan.settings_unknown for plan in plans),
        restores=_restores(plans),
        resets_all=any(plan.resets_all for plan in plans),
        sets_transaction=any(plan.sets_transaction for plan in plans),
        pins=joined(plan.pins for plan in plans),
        ends=frozenset(),
        deallocates_all=any(plan.deallocates_all for plan in plans),
        changes_schema=any(plan.changes_schema for plan in plans),
        shard=next((plan.shard for plan in plans if plan.shard), None),
    )


def executing(execute: Plan, target: Plan) -> Plan:
    """The plan of an EXECUTE in SQL of a statement that the protocol has prepared."""
    if target.shard is None:
        return combine([execute, target])
    return replace(
        execute,
        access=Access.REFUSE,
        refusal=Refusal(
            errors.FEATURE_NOT_SUPPORTED,
            "EXECUTE in SQL can't run a statement on sharded tables that the protocol has prepared",
            "run it by the protocol, or send the statement itself",
        ),
    )


def _restores(plans: Sequence[Plan]) -> frozenset[str]:
    restored: frozenset[str] = frozenset()
    for plan in plans:
        restored = restored - plan.settings | plan.restores
    return restored


def steps_of(plans: Sequence[Plan]) -> tuple[Step, ...]:
    """Their steps; see `sql.listening`."""
    return in_order(step for plan in plans for step in (plan.steps or (None,)))


def unexecuted(plan: Plan) -> Plan:
    """What is left of a plan where its statement is only parsed or described: where it goes."""
    deallocates = plan.deallocates or plan.deallocates_all
    leaves = plan.effects or plan.pins or plan.ends or plan.rolls_back or deallocates
    waits = plan.written_back or plan.sees_waiting
    if not (leaves or waits or plan.steps or plan.asks_channels or plan.occupies):
        return plan
    return replace(
        plan,
        writes=frozenset(),
        pinned_write=None,
        begin=None,
        ends_transaction=False,
        rolls_back=False,
        settings=frozenset(),
        settings_unknown=False,
        restores=frozenset(),
        resets_all=False,
        sets_transaction=False,
        steps=(),
        asks_channels=False,
        occupies=frozenset(),
        pins=None,
        ends=frozenset(),
        deallocates=None,
        deallocates_all=False,
        executes=None,
        changes_schema=False,
        written_back="",
        sees_waiting=False,
    )


def on_primary(plan: Plan) -> Plan:
    """The same plan for a second try where the replicas failed."""
    return replace(plan, node_hint="primary")


def corrected(plan: Plan, reason: str) -> Plan:
    """The plan of a statement that was taken for a read and turned out to write."""
    return replace(
        plan,
        access=Access.WRITE,
        reason=reason,
        writes=frozenset({"*"}),
        writes_nothing=False,
        pinned_write=None,
        cache=None,
        uncached_reason=reason,
    )
