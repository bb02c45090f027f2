"""From an analysis to a plan: everything about a query string that is decided once, without I/O."""

import re
from collections.abc import Iterable
from dataclasses import replace

from proxy.config.cache_settings import CacheSettings
from proxy.config.settings import RoutingSettings
from proxy.routing.caching import cache_plan, uncacheable
from proxy.routing.explain import explained_statement
from proxy.routing.judge import Verdict, judge
from proxy.routing.keyed import keyed_tables, pinned_reads, pinned_write
from proxy.routing.plan import EVERY_SETTING, Access, CachePlan, Plan, Refusal, ShardPlan
from proxy.routing.relations import ANYTHING, resolve_reads
from proxy.routing.rules import Subject, routing_rule, rules_of, tables_covered
from proxy.routing.sharded import shard_plan
from proxy.routing.shards import NoShards, ShardMap
from proxy.routing.writing_back import (
    reads_written_back,
    sees_waiting,
    tables_written_back,
    written_back,
)
from proxy.sql.calls import NoCall, cache_call, calls_penstock, signatures
from proxy.sql.catalogue import Catalogue
from proxy.sql.listening import in_order
from proxy.sql.pins import joined
from proxy.sql.statement import Analysis, Begin, Kind, Statement

_UNPARSED = Statement(
    Kind.UNKNOWN, writes_unknown=True, settings_unknown=True, sets_transaction=True
)
_QUALIFIED = frozenset({"pg_catalog.pg_advisory_unlock_all"})
_NOTHING = Statement(Kind.EMPTY)
_LEADING_BLANKS = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
_ROLLBACK = re.compile(r"(?:rollback|abort)\b", re.IGNORECASE)
_REFUSED_BY_STANDBYS = frozenset(("serializable", "mixed"))
"""A standby refuses serializable transactions; with "mixed", some role or database has them."""


class Planner:
    """Makes plans for one database under one configuration and one catalogue.

    Immutable: make a new one when any of its parts changes, and forget plans of the old one.
    `hints_cache`: whether a hint such as `/* penstock: ttl=60 */` caches where no rule matches.
    Then any table may be cached, and writes move the epochs of all that they touch. `database` and
    `user`: whose statements it plans, for the rules that hold for some only.
    """

    __slots__ = (
        "_cache",
        "_cached_tables",
        "_catalogue",
        "_hints_cache",
        "_keyed",
        "_routing",
        "_rules",
        "_shards",
        "_written_back",
    )

    def __init__(
        self,
        routing: RoutingSettings,
        cache: CacheSettings,
        catalogue: Catalogue,
        shards: ShardMap | None = None,
        *,
        hints_cache: bool = True,
        database: str = "",
        user: str = "",
    ) -> None:
        self._routing = routing
        self._cache = cache
        self._rules = rules_of(cache.rules, database, user)
        self._written_back = tables_written_back(rules_of(cache.rules, database))
        self._catalogue = catalogue
        self._shards: ShardMap = NoShards() if shards is None else shards
        self._hints_cache = hints_cache
        self._cached_tables = self._find_cached_tables()
        self._keyed = keyed_tables(rules_of(cache.rules, database), catalogue)

    def plan(self, analysis: Analysis) -> Plan:
        """The plan of a query string. Never raises for what the string says."""
        if explained_statement(analysis.text) is not None:
            return Plan(analysis, "explain", Access.LOCAL, "asks Penstock where a statement goes")
        statements = _statements(analysis)
        if calls_penstock(statements):
            return _call_plan(analysis)
        verdicts = tuple(judge(each, self._catalogue) for each in statements)
        shard = shard_plan(
            statements, tuple(map(self._hidden, verdicts)), analysis.text, self._shards
        )
        subject = Subject(
            analysis.text,
            (scan.table for each in statements for scan in each.scans),
            lambda name: resolve_reads((name,), self._catalogue).tables,
        )
        node_hint, hinted_by = self._node_hint(analysis, subject, verdicts)
        against = _against_replica(verdicts, node_hint)
        access, reason = self._access(verdicts, against, node_hint, hinted_by)
        refusal = shard if isinstance(shard, Refusal) else None
        globs = self._written_back
        cached = self._caching(analysis, statements, verdicts, subject)
        writes = self._writes(verdicts) if against and shard is None else frozenset[str]()
        return Plan(
            analysis=analysis,
            kind=_kind(statements),
            access=Access.REFUSE if refusal else access,
            reason=refusal.message if refusal else reason,
            writes=writes,
            pinned_write=pinned_write(
                statements, analysis.text, writes, self._keyed, self._catalogue
            ),
            reads=_reads(statements, verdicts, shard),
            writes_nothing=not against and shard is None,
            touches_tables=any(verdict.touches_tables for verdict in verdicts),
            cache=cached if isinstance(cached, CachePlan) else None,
            uncached_reason="" if isinstance(cached, CachePlan) else cached,
            shard=shard if isinstance(shard, ShardPlan) else None,
            refusal=refusal,
            node_hint=self._effective_hint(node_hint, statements),
            changes_schema=any(verdict.changes_schema for verdict in verdicts),
            needs_session=any(verdict.needs_session for verdict in verdicts),
            steps=in_order(each.step for each in statements),
            asks_channels=any(_asks_channels(each) for each in statements),
            notifies=any(_notifies(each) for each in statements),
            written_back=written_back(globs, statements, verdicts, analysis.hints),
            sees_waiting=sees_waiting(globs, verdicts),
            signals=any(_signals(each) for each in statements),
            occupies=frozenset(each.occupies for each in statements if each.occupies is not None),
            pins=joined(verdict.pins for verdict in verdicts),
            leaves=any(verdict.leaves for verdict in verdicts),
            ends=self._ends(statements),
            settings=frozenset().union(
                *(each.settings for each in statements), *(each.settings for each in verdicts)
            ),
            settings_unknown=any(each.settings_unknown for each in statements),
            restores=_restores(statements),
            resets_all=any(each.resets_all for each in statements),
            sets_transaction=any(
                each.sets_transaction or each.kind is Kind.UNKNOWN for each in statements
            ),
            deallocates=_name(statements, Kind.DEALLOCATE),
            deallocates_all=any(_deallocates_all(each) for each in statements),
            executes=_name(statements, Kind.EXECUTE) or _name(statements, Kind.EXPLAIN),
            begin=_begin(statements),
            ends_transaction=len(statements) == 1 and _ends_transaction(statements[0]),
            rolls_back=len(statements) == 1 and _rolls_back(statements[0], analysis.text),
        )

    def cached_tables(self) -> frozenset[str] | None:
        """The epoch names that any cached result may depend on; None: all of them.

        `Plan.writes` names no others, "*" apart.
        """
        return self._cached_tables

    def _find_cached_tables(self) -> frozenset[str] | None:
        if self._hints_cache:
            return None
        if not self._catalogue.loaded:
            return frozenset()
        covered = tables_covered(self._cache.rules, self._catalogue)
        return None if covered is None else resolve_reads(covered, self._catalogue).tables

    def _access(
        self,
        verdicts: tuple[Verdict, ...],
        against: list[int],
        node_hint: str | None,
        hinted_by: str,
    ) -> tuple[Access, str]:
        if against:
            reason = str(verdicts[against[0]].primary)
            if len(verdicts) > 1:
                reason = f"statement {against[0] + 1} {reason}"
            if node_hint == "replica":
                reason += f" ({hinted_by} asks for a replica and is ignored)"
            return Access.WRITE, reason
        if not self._routing.enabled:
            return Access.WRITE, "routing is off"
        if self._catalogue.default_isolation in _REFUSED_BY_STANDBYS:
            return Access.WRITE, (
                f"the default isolation level is {self._catalogue.default_isolation}, and a "
                "standby refuses serializable transactions"
            )
        if overruled := _first(verdict.primary for verdict in verdicts):
            return Access.READ, f"only reads, by {hinted_by}, although: {overruled}"
        return Access.READ, "only reads"

    def _caching(
        self,
        analysis: Analysis,
        statements: tuple[Statement, ...],
        verdicts: tuple[Verdict, ...],
        subject: Subject,
    ) -> CachePlan | str:
        if len(statements) > 1:
            return f"a query string of {len(statements)} statements is not cached"
        against = uncacheable(statements[0], verdicts[0], self._catalogue, self._shards)
        if against is not None:
            return against
        plan = cache_plan(self._rules, analysis.hints, self._hints_cache, subject, verdicts[0])
        if self._keyed and isinstance(plan, CachePlan):
            pins = pinned_reads(statements[0], analysis.text, self._keyed, self._catalogue)
            return replace(plan, pins=pins)
        return plan

    def _node_hint(
        self, analysis: Analysis, subject: Subject, verdicts: tuple[Verdict, ...]
    ) -> tuple[str | None, str]:
        """Where a hint, or else the first matching rule, wants it, and the name of which."""
        if analysis.hints.node is not None:
            return analysis.hints.node, "the hint"
        if reads_written_back(self._written_back, verdicts):
            return "primary", "write-back"
        rule = routing_rule(self._routing.rules, subject)
        return (None, "") if rule is None else (rule.node, f"rule {rule.name!r}")

    def _effective_hint(
        self, node_hint: str | None, statements: tuple[Statement, ...]
    ) -> str | None:
        begin = _begin(statements)
        if begin is None:
            return node_hint
        isolation = begin.isolation or self._catalogue.default_isolation
        if not self._routing.enabled or isolation in _REFUSED_BY_STANDBYS:
            return "primary"
        return node_hint

    def _writes(self, verdicts: tuple[Verdict, ...]) -> frozenset[str]:
        written = frozenset[str]().union(*(verdict.writes for verdict in verdicts))
        if written >= ANYTHING:
            return ANYTHING
        if self._cached_tables is None or self._routing.read_your_writes == "table":
            return written
        return written & self._cached_tables

    def _ends(self, statements: tuple[Statement, ...]) -> frozenset[str]:
        only = statements[0]
        builtin = only.functions <= self._catalogue.builtin_functions | _QUALIFIED
        return only.ends if len(statements) == 1 and builtin else frozenset()

    def _hidden(self, verdict: Verdict) -> frozenset[str]:
        return verdict.reading.tables | verdict.reading.unknown


def _call_plan(analysis: Analysis) -> Plan:
    """Of a text that names functions of Penstock's own."""
    try:
        call = cache_call(analysis.text)
    except NoCall as error:
        refusal = Refusal(error.sqlstate, str(error), f"there are: {signatures()}")
        reason = refusal.message
        return Plan(analysis, "select", Access.REFUSE, reason, refusal=refusal)
    return Plan(analysis, "select", Access.LOCAL, "calls Penstock itself", call=call)


def _statements(analysis: Analysis) -> tuple[Statement, ...]:
    """The statements, at least one; where something could not be parsed, one that says so."""
    statements = analysis.statements or ((_NOTHING,) if analysis.error is None else ())
    if analysis.error is None or any(each.kind is Kind.UNKNOWN for each in statements):
        return statements
    return (*statements, _UNPARSED)


def _against_replica(verdicts: tuple[Verdict, ...], node_hint: str | None) -> list[int]:
    """The statements that must run on the primary, by their place."""
    against = [place for place, verdict in enumerate(verdicts) if verdict.primary is not None]
    if node_hint == "replica" and all(verdicts[place].declarable for place in against):
        return []
    return against


def _reads(
    statements: tuple[Statement, ...],
    verdicts: tuple[Verdict, ...],
    shard: ShardPlan | Refusal | None,
) -> frozenset[str]:
    if shard is not None:  # the catalogue, which is the primary's, need not know these tables
        return frozenset(table.name for each in statements for table in each.reads)
    return frozenset().union(*(verdict.reads for verdict in verdicts))


def _kind(statements: tuple[Statement, ...]) -> str:
    kinds = {each.kind for each in statements}
    return statements[0].kind.value if len(kinds) == 1 else "multi"


def _begin(statements: tuple[Statement, ...]) -> Begin | None:
    if len(statements) != 1 or statements[0].kind is not Kind.BEGIN:
        return None
    return statements[0].begin or Begin()


def _ends_transaction(statement: Statement) -> bool:
    return statement.kind in (Kind.COMMIT, Kind.ROLLBACK) and not statement.chains


def _rolls_back(statement: Statement, text: str) -> bool:
    if statement.kind in (Kind.COMMIT, Kind.ROLLBACK):
        return True
    if statement.kind is not Kind.SAVEPOINT:
        return False
    blanks = _LEADING_BLANKS.match(text)
    return _ROLLBACK.match(text, blanks.end() if blanks else 0) is not None


def _asks_channels(statement: Statement) -> bool:
    return any(name.endswith("pg_listening_channels") for name in statement.functions)


def _signals(statement: Statement) -> bool:
    return any(
        name.endswith(("pg_terminate_backend", "pg_cancel_backend")) for name in statement.functions
    )


def _notifies(statement: Statement) -> bool:
    calls = any(name.endswith("pg_notify") for name in statement.functions)
    return statement.kind is Kind.NOTIFY or calls


def _deallocates_all(statement: Statement) -> bool:
    if statement.kind is Kind.DEALLOCATE:
        return statement.name is None
    return statement.kind is Kind.DISCARD and statement.resets_all


def _name(statements: Iterable[Statement], kind: Kind) -> str | None:
    return _first(each.name for each in statements if each.kind is kind)


def _restores(statements: tuple[Statement, ...]) -> frozenset[str]:
    """As `Plan.restores`; of several statements the last word on each is not known."""
    if len(statements) != 1:
        return frozenset()
    return frozenset({EVERY_SETTING}) if statements[0].resets_all else statements[0].restores


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)
