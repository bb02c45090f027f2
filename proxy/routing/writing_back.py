"""Which statements write-back may take, and which depend on what it has taken."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from proxy.config.cache_settings import WRITE_BACK, CacheRule
from proxy.routing.judge import Verdict
from proxy.routing.relations import ANYTHING
from proxy.sql.statement import Hints, Kind, Statement


def tables_written_back(rules: Iterable[CacheRule]) -> tuple[str, ...]:
    """Globs of the bare names of tables that rules have written back."""
    return tuple(
        glob.rpartition(".")[2]
        for rule in rules
        if rule.enabled and rule.strategy == WRITE_BACK
        for glob in rule.tables
    )


def written_back(
    globs: tuple[str, ...],
    statements: tuple[Statement, ...],
    verdicts: tuple[Verdict, ...],
    hints: Hints,
) -> str:
    """The table, if this is a single INSERT or UPDATE of it that no hint sends elsewhere; else
    nothing."""
    if len(statements) != 1 or statements[0].kind not in (Kind.INSERT, Kind.UPDATE):
        return ""
    if hints.node is not None or hints.cache is False or len(verdicts[0].writes) != 1:
        return ""
    (table,) = verdicts[0].writes
    return table if is_written_back(globs, table) else ""


def sees_waiting(globs: tuple[str, ...], verdicts: tuple[Verdict, ...]) -> bool:
    """Whether they may depend on rows that wait to be written: of another table too, where a
    foreign key or a trigger looks at these."""
    if not globs or not any(verdict.touches_tables for verdict in verdicts):
        return False
    if any(verdict.primary is not None for verdict in verdicts):
        return True
    return reads_written_back(globs, verdicts)


def reads_written_back(globs: tuple[str, ...], verdicts: tuple[Verdict, ...]) -> bool:
    """Whether they may read tables that are written back."""
    if not globs:
        return False
    reads = frozenset[str]().union(*(verdict.reads for verdict in verdicts))
    return bool(reads & ANYTHING) or any(is_written_back(globs, name) for name in reads)


def is_written_back(globs: tuple[str, ...], table: str) -> bool:
    """Whether a rule names the table."""
    return any(fnmatchcase(table, glob) for glob in globs)
