"""Plans by text: without its whole numbers or as it is, then without its literals, then the parser.

A shape without its literals may key a plan, never a result (see docs/architecture.md).
"""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Final

from proxy.net import fast_path
from proxy.routing.explain import explained_statement
from proxy.routing.plan import Access, Plan
from proxy.session.analyst import analyst
from proxy.session.batch import Batch
from proxy.session.combine import corrected
from proxy.session.prepared import Prepared
from proxy.sql import skeleton as skeletons
from proxy.sql.analyse import analyse
from proxy.sql.normalise import Shape, shape
from proxy.sql.statement import Analysis, Hints, Literal
from proxy.topology.counters import Counters

Planner = Callable[[Analysis], Plan]
Planned = tuple[Plan, tuple[bytes | None, ...]]

_skeleton: Final = skeletons.skeleton
_GENERATION: Final = 8192
_ASKS_NOTHING: Final = ("SELECT", "select", "INSERT", "insert", "UPDATE", "update", "DELETE")
"""Beginnings of most texts, none of which is EXPLAIN (PENSTOCK) or SHOW ROUTE FOR."""
_LONGEST_KEPT: Final = 16384
"""Bytes of a text whose plan is kept; longer ones are analysed each time."""

_QUICK: Final = 100
"""Characters that are analysed in about 2 ms at most, so that others hardly notice."""


class Unanalysed(Exception):
    """The text has to be analysed first, which takes too long to be done while others wait."""

    def __init__(self, text: str) -> None:
        super().__init__("a text must be analysed first")
        self.text = text


_versions: Final = count()


class PlanCache:
    """The plans of one database, bounded by generations; dropped when catalogue or rules change.

    `of_users`: where there are rules for some users only, the planner of each user."""

    def __init__(
        self,
        planner: Planner,
        counters: Counters,
        of_users: Callable[[str], Planner] | None = None,
    ) -> None:
        self._counters = counters
        self._known: dict[str, Analysis] = {}
        """The analysis of a text that is about to be asked for."""
        self.fast_groups: list[int] = []
        """Groups of the fast path that go by these plans."""
        self._by_planner: dict[object, PlanCache] = {}
        self._replace(planner, of_users)

    def replace_planner(
        self, planner: Planner, of_users: Callable[[str], Planner] | None = None
    ) -> None:
        """Plan everything anew from now on."""
        self._replace(planner, of_users)

    def of_user(self, user: str) -> "PlanCache":
        """The plans of this user's statements; the same for users whom the same rules are for."""
        plans = self._by_user.get(user)
        if plans is None:
            if self._of_users is None:
                return self
            planner = self._of_users(user)
            plans = self._by_planner.get(planner)
            if plans is None:
                plans = self._by_planner[planner] = PlanCache(planner, self._counters)
            self._by_user[user] = plans
        return plans

    def _replace(self, planner: Planner, of_users: Callable[[str], Planner] | None) -> None:
        for child in self._by_planner.values():
            child.forget_fast()
        self.forget_fast()
        self.version = next(_versions)
        """Never that of another: statements that all clients share keep it with their plan."""
        self.by_user = of_users is not None
        """Whether `of_user` has to be asked."""
        self._of_users = of_users
        self._by_user: dict[str, PlanCache] = {}
        self._by_planner = {}
        self._planner = planner
        self._young: dict[bytes, Planned] = {}
        self._old: dict[bytes, Planned] = {}
        """Both by text, or by skeleton where that tells all; texts have no zero bytes."""
        self._shapes: dict[str, Planned | None] = {}

    def forget_fast(self) -> None:
        """Have the fast path recognise nothing by these plans any more."""
        for group in self.fast_groups:
            fast_path.forget(group)

    def keeps(self, text: bytes, plan: Plan) -> bool | None:
        """Whether this plan of the text is kept under the text itself, and not under its skeleton;
        None where it isn't kept."""
        bones = _skeleton(text)
        planned = self._young.get(bones) or self._old.get(bones)
        if planned is not None:
            return False if planned[0] is plan else None
        planned = self._young.get(text)
        return True if planned is not None and planned[0] is plan else None

    def of_text(self, text: bytes, utf8: bool, can_wait: bool = False) -> Planned:
        """The plan of a query string and the literals that its shape left out.

        `utf8`: whether the client writes UTF-8; otherwise a text that is not ASCII is not judged.
        `can_wait`: `Unanalysed` may be raised; then `learn` what it says and ask again.
        """
        bones = _skeleton(text)
        planned = self._young.get(bones)
        if planned is None and bones is not text:
            planned = self._young.get(text)
        if planned is not None:
            self._counters.plan_hits += 1
            return planned
        planned, key = self._old.get(bones), bones
        if planned is None and bones is not text:
            planned, key = self._old.get(text), text
        if planned is None:
            planned, key = self._make(text, bones, utf8, can_wait)
        if len(text) <= _LONGEST_KEPT and (utf8 or text.isascii()):
            self._keep(key, planned)
        return planned

    def _keep(self, key: bytes, planned: Planned) -> None:
        if len(self._young) >= _GENERATION:
            self._old, self._young = self._young, {}
        self._young[key] = planned

    def of_prepared(self, prepared: Prepared, utf8: bool, can_wait: bool = False) -> Plan:
        """The plan of a prepared statement, made once per version; `can_wait` as in `of_text`."""
        if prepared.plan_version == self.version and prepared.plan is not None:
            return prepared.plan
        prepared.plan, prepared.literals = self.of_text(prepared.text, utf8, can_wait)
        prepared.plan_version = self.version
        return prepared.plan

    def of_unknown(self, why: str) -> Plan:
        """The plan of a statement whose text can't be judged."""
        return self._planner(_unreadable(why))

    def correct(self, plan: Plan, batch: Batch, reason: str) -> Plan:
        """Remember that a statement taken for a read writes; returns its new plan."""
        plan = corrected(plan, reason)
        self.forget_fast()
        for text in {one.text for one in batch.bound} | {batch.text} - {None}:
            if text is not None and len(batch.bound) <= 1:
                self._keep(text, (plan, ()))
                self._keep(_skeleton(text), (plan, ()))  # which is asked for first
        for prepared in batch.bound:
            prepared.plan_version = -1
        return plan

    def _make(self, text: bytes, bones: bytes, utf8: bool, can_wait: bool) -> tuple[Planned, bytes]:
        """The plan, and what to keep it under."""
        if not utf8 and not text.isascii():
            return (self._planner(_unreadable("the text is neither ASCII nor UTF-8")), ()), text
        try:
            query = text.decode()
        except UnicodeDecodeError:
            return (self._planner(_unreadable("the text is not UTF-8")), ()), text
        if not query.startswith(_ASKS_NOTHING):
            inner = explained_statement(query)
            if inner is not None:
                asks = Plan(Analysis(inner, ()), "explain", Access.LOCAL, "asks Penstock itself")
                return (asks, ()), text
        found = shape(query) if len(query) <= _LONGEST_KEPT else None
        if found is None or not found.constants:
            return (self._analyse(query, can_wait), ()), text
        planned = self._of_shape(found, can_wait)
        if planned is None:
            return (self._analyse(query, can_wait), ()), text
        if planned[0].shard is None and not planned[0].keyed:
            return planned, bones if bones is text or skeletons.fits(bones, found) else text
        return self._with_values(query, planned[0], found, can_wait), text

    def _of_shape(self, found: Shape, can_wait: bool) -> Planned | None:
        """The plan of all texts of this shape, or None where each has its own."""
        if found.text in self._shapes:
            self._counters.plan_hits += 1
            return self._shapes[found.text]
        plan = self._analyse(found.text, can_wait)
        planned = (plan, ()) if _depends_on_nothing_else(plan) else None
        if len(self._shapes) >= _GENERATION:
            self._shapes.clear()
        self._shapes[found.text] = planned
        return planned

    def _with_values(self, query: str, plan: Plan, found: Shape, can_wait: bool) -> Planned:
        """The plan with the constants that tell the shard, or the key."""
        if not all(_says_its_value(literal) for literal in found.literals):
            return self._analyse(query, can_wait), ()
        return plan, tuple(
            None if literal.text is None else literal.text.encode() for literal in found.literals
        )

    def learn(self, query: str, analysis: Analysis | None) -> None:
        """What an `Unanalysed` text says; None: it is to be analysed here."""
        self._known = {query: analyse(query) if analysis is None else analysis}

    def _analyse(self, query: str, can_wait: bool) -> Plan:
        analysis = self._known.pop(query, None)
        if analysis is None:
            if can_wait and analyst.at_work and (len(query) > _QUICK or not analyst.has_time_here):
                raise Unanalysed(query)
            analysis = analyst.analyse_here(query)
        self._counters.plan_misses += 1
        plan = self._planner(analysis)
        if plan.cache is not None:
            tally = self._counters.statements.of(plan.cache.rule, query)
            plan = replace(plan, cache=replace(plan.cache, tally=tally))
        return plan


_PLAIN_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")


def _says_its_value(literal: Literal) -> bool:
    """Whether the constant's text is also the text of its value: 007 and 1e3 are not."""
    if literal.quoted or literal.text is None:
        return True
    return _PLAIN_INTEGER.fullmatch(literal.text) is not None


def _unreadable(why: str) -> Analysis:
    """A text that can't be decoded is never guessed at."""
    return Analysis("", analyse("\x01").statements, Hints(), why)


def _depends_on_nothing_else(plan: Plan) -> bool:
    """Whether the plan is the same for every value of the literals left out."""
    return (
        plan.access in (Access.READ, Access.WRITE)
        and plan.analysis.error is None
        and not plan.settings
        and not plan.settings_unknown
        and plan.pins is None
    )
