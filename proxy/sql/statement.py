"""The facts that the rest of Penstock knows of a statement.

Values only: `analyse` makes them, routing and the planner read them.
"""

import enum
from dataclasses import dataclass, field

from proxy.sql.listening import Step


class Kind(enum.StrEnum):
    """What a statement is, by its leading verb. The value labels metrics."""

    SELECT = "select"  # also VALUES, TABLE, WITH … SELECT
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    MERGE = "merge"
    COPY_FROM = "copy_from"
    COPY_TO = "copy_to"
    BEGIN = "begin"  # BEGIN, START TRANSACTION
    COMMIT = "commit"  # COMMIT, END
    ROLLBACK = "rollback"  # ROLLBACK, ABORT
    SAVEPOINT = "savepoint"  # SAVEPOINT, RELEASE, ROLLBACK TO
    TWO_PHASE = "two_phase"  # PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED
    SET = "set"  # SET, RESET; also SET LOCAL, SET TRANSACTION
    SHOW = "show"
    DISCARD = "discard"
    PREPARE = "prepare"
    EXECUTE = "execute"
    DEALLOCATE = "deallocate"
    DECLARE = "declare"
    FETCH = "fetch"  # FETCH, MOVE
    CLOSE = "close"
    LISTEN = "listen"  # LISTEN, UNLISTEN
    NOTIFY = "notify"
    LOCK = "lock"
    EXPLAIN = "explain"
    CALL = "call"
    DO = "do"
    TRUNCATE = "truncate"
    DDL = "ddl"  # CREATE, ALTER, DROP, COMMENT, GRANT, …
    UTILITY = "utility"  # VACUUM, ANALYZE, CHECKPOINT, LOAD, …
    EMPTY = "empty"
    UNKNOWN = "unknown"  # could not be parsed


@dataclass(frozen=True, slots=True)
class TableRef:
    """A relation as named in the text, folded as PostgreSQL folds identifiers."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Parameter:
    """A bind parameter `$index`, counted from 1; `type` is a cast written around it, if any."""

    index: int
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant in the text, as PostgreSQL's input function would get it; None is NULL."""

    text: str | None
    quoted: bool = True


KeyValue = Parameter | Literal


@dataclass(frozen=True, slots=True)
class Scan:
    """One occurrence of a table in a statement, and what its columns are known to equal.

    `equalities` holds a column only where the statement can touch no row whose column has another
    value: `WHERE col = v`, `col IN (v, …)`, `col = ANY(ARRAY[v, …])`, equality with such a column
    of another scan in the same query level, and for INSERT the value of each row. Never through OR,
    NOT, outer joins' nullable side conditions or expressions.
    """

    table: TableRef
    equalities: tuple[tuple[str, tuple[KeyValue, ...]], ...] = ()
    written: bool = False

    def values_of(self, column: str) -> tuple[KeyValue, ...] | None:
        return next((values for name, values in self.equalities if name == column), None)


@dataclass(frozen=True, slots=True)
class Begin:
    """The modes of BEGIN or START TRANSACTION; None where not said."""

    read_only: bool | None = None
    isolation: str | None = None  # "read committed", "repeatable read", "serializable", …


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a query string."""

    kind: Kind
    scans: tuple[Scan, ...] = ()
    functions: frozenset[str] = frozenset()
    """Names called (or that could be), lower case, with schema where written; operators aside."""
    locking: bool = False  # FOR UPDATE, FOR SHARE, …
    writes_unknown: bool = False
    """The tables written can't be told from the text (DO, CALL, DDL, EXECUTE, rules, …)."""
    assigned: frozenset[str] = frozenset()
    """Columns that an UPDATE (or ON CONFLICT DO UPDATE) assigns."""
    begin: Begin | None = None
    settings: frozenset[str] = frozenset()
    """Session settings (GUCs) that this may change beyond its transaction, lower case."""
    settings_unknown: bool = False
    """It may change settings whose names the text doesn't tell; RESET ALL and DISCARD ALL too."""
    restores: frozenset[str] = frozenset()
    """Those of `settings` that get the value which they had at start-up: RESET, SET TO DEFAULT."""
    resets_all: bool = False  # RESET ALL, DISCARD ALL
    pins: str | None = None
    """Why this leaves state on its connection that can't be replayed: LISTEN, temporary table, …"""
    leaves: bool = False
    """It may leave on its connection what only the server can tell of afterwards."""
    ends: frozenset[str] = frozenset()
    """Reasons in `pins` of statements before it of which nothing is left after this one."""
    step: Step | None = None
    """What it means for the channels that the session listens on."""
    occupies: str | None = None
    """The database of which it demands that nobody else is connected to it."""
    sets_transaction: bool = False
    """SET TRANSACTION, SET LOCAL and the like: until its end the transaction may have other modes
    than BEGIN said, and other settings than the session."""
    chains: bool = False
    """COMMIT or ROLLBACK AND CHAIN: a new transaction begins at once."""
    asks_route_of: str | None = None
    """The SQL text that EXPLAIN (PENSTOCK) … or SHOW ROUTE FOR … asks about."""
    name: str | None = None
    """The prepared statement of PREPARE, EXECUTE, DEALLOCATE (None there: ALL)."""
    cacheable_shape: bool = False
    """A plain read of tables whose result depends on nothing but tables, settings and functions:
    no TABLESAMPLE, no locking, no system columns or catalogues, no session-dependent keyword
    (CURRENT_TIMESTAMP, CURRENT_USER, …)."""
    uncacheable_because: str = ""

    @property
    def reads(self) -> frozenset[TableRef]:
        return frozenset(scan.table for scan in self.scans if not scan.written)

    @property
    def writes(self) -> frozenset[TableRef]:
        return frozenset(scan.table for scan in self.scans if scan.written)


@dataclass(frozen=True, slots=True)
class Hints:
    """What comments of the form `/* penstock: primary, nocache, ttl=60 */` ask for."""

    node: str | None = None  # "primary" or "replica"
    cache: bool | None = None
    ttl_seconds: float | None = None
    refresh: bool = False
    """Run it, and let the answer take the place of what is kept for the text without this word."""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Analysis:
    """A query string's statements. `error` says why it could not be parsed."""

    text: str
    statements: tuple[Statement, ...]
    hints: Hints = field(default_factory=Hints)
    error: str | None = None
