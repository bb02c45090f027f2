"""One statement judged: may a replica run it, what does it read and write."""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.routing.functions import Call, judge_call
from proxy.routing.relations import (
    ANYTHING,
    Reading,
    epochs_read,
    epochs_written,
    is_system,
    is_temporary,
    resolve_reads,
)
from proxy.sql import setters
from proxy.sql.catalogue import Catalogue
from proxy.sql.pins import UNTOLD_SETTINGS, joined
from proxy.sql.statement import Kind, Statement, TableRef

READING_KINDS = frozenset((Kind.SELECT, Kind.EXPLAIN, Kind.COPY_TO, Kind.EMPTY))
"""Kinds that a replica may run if nothing else is against it."""

_WRITING_KINDS = frozenset(
    {Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE, Kind.COPY_FROM, Kind.TRUNCATE}
)
_WHY_PRIMARY = {
    Kind.BEGIN: "starts a transaction, which may write",
    Kind.COMMIT: "ends a transaction",
    Kind.ROLLBACK: "ends a transaction",
    Kind.SAVEPOINT: "is part of a transaction",
    Kind.TWO_PHASE: "is part of a two-phase commit",
    Kind.SET: "changes session settings",
    Kind.SHOW: "shows a setting, which may differ by server",
    Kind.DISCARD: "discards session state",
    Kind.PREPARE: "prepares a statement on its connection",
    Kind.EXECUTE: "runs a statement that its connection has prepared, which may write",
    Kind.DEALLOCATE: "drops a statement that its connection has prepared",
    Kind.DECLARE: "opens a cursor on its connection",
    Kind.FETCH: "reads a cursor of its connection",
    Kind.CLOSE: "closes a cursor of its connection",
    Kind.LISTEN: "listens on its connection, which a standby refuses",
    Kind.NOTIFY: "notifies listeners",
    Kind.LOCK: "locks tables",
    Kind.CALL: "calls a procedure, which may write anything",
    Kind.DO: "runs a code block, which may write anything",
    Kind.DDL: "changes the schema",
    Kind.UTILITY: "is a maintenance command",
    Kind.UNKNOWN: "could not be parsed, so it may write anything",
}
_WRITES_ANYTHING = frozenset((Kind.DDL, Kind.CALL, Kind.DO, Kind.UNKNOWN, Kind.EXECUTE))
# COMMIT PREPARED makes visible what an unknown transaction wrote.
_MOVES_ANYTHING = _WRITES_ANYTHING | {Kind.TWO_PHASE}
_CHANGES_SCHEMA = _MOVES_ANYTHING - {Kind.EXECUTE}
_NEEDS_SESSION = frozenset((Kind.DECLARE, Kind.FETCH, Kind.CLOSE, Kind.EXECUTE))
_SESSION_RELATIONS = frozenset(("pg_prepared_statements", "pg_cursors"))
_TABLE_FREE = frozenset(
    {Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.SET, Kind.SHOW, Kind.DISCARD}
    | {Kind.DEALLOCATE, Kind.FETCH, Kind.CLOSE, Kind.EMPTY, Kind.LISTEN, Kind.NOTIFY}
    | {Kind.SELECT, Kind.EXPLAIN, Kind.COPY_TO}
)
"""Kinds that touch no table but those that they name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one statement before rules and hints are asked."""

    primary: str | None
    """Why the primary must run it, as the rest of a sentence on the statement; None: any may."""
    declarable: bool
    """Only functions of users stand against a replica: a hint or rule may say that they read."""
    reading: Reading
    reads: frozenset[str]
    writes: frozenset[str]
    calls: tuple[Call, ...]
    touches_tables: bool
    changes_schema: bool
    needs_session: bool
    pins: str | None
    settings: frozenset[str] = frozenset()
    """Settings that functions may change for longer than they run."""
    leaves: bool = False
    """As `Statement.leaves`, functions included."""


def judge(statement: Statement, catalogue: Catalogue) -> Verdict:
    """The verdict on `statement`."""
    named = sorted({scan.table for scan in statement.scans}, key=str)
    system = [table for table in named if is_system(table, catalogue)]
    reading = resolve_reads(
        (table.name for table in named if table not in system and not is_temporary(table)),
        catalogue,
    )
    names = sorted(statement.functions | reading.functions)
    calls = tuple(call for name in names if (call := judge_call(name, catalogue)) is not None)
    firm = _against_replica(statement, system, reading)
    firm = firm or next((call.primary for call in calls if call.primary and not call.opaque), None)
    soft = next((call.primary for call in calls if call.primary), None)
    opaque = any(call.opaque for call in calls)
    left = _left_behind(statement, names, catalogue)
    settings = setters.named(left)
    untold = UNTOLD_SETTINGS if setters.UNTOLD in left else None
    if settings and statement.kind is Kind.PREPARE:  # EXECUTE won't tell of them
        untold = UNTOLD_SETTINGS
    return Verdict(
        primary=firm or soft,
        declarable=firm is None and soft is not None,
        reading=reading,
        reads=_reads(statement, reading, calls),
        writes=_writes(statement, opaque, catalogue),
        calls=calls,
        touches_tables=bool(named) or opaque or statement.kind not in _TABLE_FREE,
        changes_schema=statement.kind in _CHANGES_SCHEMA or setters.SCHEMA in left,
        needs_session=statement.kind in _NEEDS_SESSION
        or any(call.needs_session for call in calls)
        or any(table.name in _SESSION_RELATIONS for table in system),
        pins=joined((statement.pins, *_pinned_by(statement, calls), *setters.unseen(left), untold)),
        settings=settings,
        leaves=statement.leaves or setters.LEFTOVERS in left,
    )


def _left_behind(
    statement: Statement, functions: list[str], catalogue: Catalogue
) -> frozenset[str]:
    if not catalogue.setters:
        return frozenset()
    found = [catalogue.setters.get(name.rpartition(".")[2], frozenset()) for name in functions]
    for table in statement.writes:
        touched = {table.name, *catalogue.children.get(table.name, ())}
        for name in tuple(touched):
            touched.update(catalogue.parents.get(name, ()), catalogue.cascades.get(name, ()))
        found += [catalogue.trigger_setters.get(name, frozenset()) for name in touched]
    return frozenset[str]().union(*found)


def _pinned_by(statement: Statement, calls: tuple[Call, ...]) -> Iterator[str | None]:
    """Why calls that the text itself doesn't show pin the connection."""
    shown = {name.rpartition(".")[2] for name in statement.functions}
    return (call.pins for call in calls if call.name not in shown or statement.pins is None)


def _against_replica(statement: Statement, system: list[TableRef], reading: Reading) -> str | None:
    written = sorted(map(str, statement.writes))
    if statement.kind not in READING_KINDS and statement.kind not in _WRITING_KINDS:
        return _WHY_PRIMARY[statement.kind]
    if written:
        return f"writes {', '.join(written)}"
    if statement.kind in _WRITING_KINDS:
        return "writes"
    if statement.locking:
        return "locks rows"
    if statement.writes_unknown:
        at_server = statement.kind is Kind.COPY_TO
        return (
            "writes a file or runs a program on the server"
            if at_server
            else "may write tables that its text doesn't name"
        )
    if system or reading.system:
        name = str(system[0]) if system else min(reading.system)
        return f"reads {name}, which tells of the server that runs it or of temporary objects"
    return None


def _reads(statement: Statement, reading: Reading, calls: tuple[Call, ...]) -> frozenset[str]:
    if statement.kind in _WRITES_ANYTHING or any(call.reads_unknown for call in calls):
        return epochs_read(reading) | ANYTHING
    return epochs_read(reading)


def _writes(statement: Statement, opaque: bool, catalogue: Catalogue) -> frozenset[str]:
    if statement.kind is Kind.PREPARE:  # EXECUTE is what writes
        return frozenset()
    if opaque or statement.writes_unknown or statement.kind in _MOVES_ANYTHING:
        return ANYTHING
    written = statement.writes
    inserts_only = (
        statement.kind in (Kind.INSERT, Kind.COPY_FROM)
        and not statement.assigned
        and sum(scan.written for scan in statement.scans) == 1
    )
    return epochs_written(written, catalogue, cascades=not inserts_only)
