"""What a session must remember of its transaction until it ends."""

from dataclasses import dataclass, field
from typing import Final

from proxy.cache.keys import SCHEMA
from proxy.routing.plan import Plan
from proxy.sql.statement import Begin
from proxy.wire import errors
from proxy.wire.errors import PgError

IDLE: Final = 73  # I
IN_TRANSACTION: Final = 84  # T
FAILED: Final = 69  # E


@dataclass(slots=True)
class Transaction:
    """The state of a transaction, also of one that exists only in Penstock so far.

    With sharded tables a BEGIN is answered before anybody knows which server it is for: it is
    `deferred` until the first statement tells. After a refusal by Penstock the transaction is
    `failed` for the client as it would be by an error of the server's.
    """

    status: int = IDLE
    """The last ReadyForQuery's status that the client saw."""
    deferred: bytes | None = None
    """The text of a BEGIN that no server has seen yet."""
    failed: bool = False
    """Only ROLLBACK, COMMIT and ROLLBACK TO are taken; the server may think otherwise."""
    lost: PgError | None = None
    """The server's connection broke: the error to give to the next statement."""
    begin: Begin | None = None
    read_committed: bool = True
    """False: a cached result could be newer than the transaction's snapshot, or have been read
    under other settings than those that it has for itself."""
    writes: set[str] = field(default_factory=set)
    """Tables written, "*" for any."""
    moves: set[str] = field(default_factory=set)
    """Epoch names to move when it ends: those of `writes`, or of keys in them."""
    wrote: bool = False
    planned: bytes = b""
    """The token of the schema by which `writes` were found; empty where there is none for all."""
    schema_changes: int = 0
    touched: set[str] = field(default_factory=set)
    """Settings that may have another value after it."""
    touched_unknown: bool = False
    restores: set[str] = field(default_factory=set)
    """Settings that were reset: to the server's default, where the client expects its own."""
    reset_all: bool = False
    leaves: bool = False
    """It may have left something on its connection: the server has to be asked."""
    ready_at: float = 0.0
    """perf_counter() when its last answer was complete; 0: it has had none that left it open."""
    effects: bool = False
    """Anything here that must not outlive the transaction."""
    seen_open: float = 0.0
    """time.perf_counter() when a sweep for time-outs first saw it open; 0 before."""

    def note(self, plan: Plan, planned: bytes, moves: frozenset[str] | None = None) -> None:
        """A statement of this plan is about to run. `planned`: the token of the schema by which
        its writes were found, empty where the catalogue was doubted then. `moves`: the epochs of
        its writes, where they are others than `plan.writes`."""
        self.effects = True
        if plan.writes:
            self.planned = b"" if self.wrote and self.planned != planned else planned
            self.writes |= plan.writes
            self.moves |= plan.writes if moves is None else moves
            self.wrote = True
        if plan.settings:
            self.touched |= plan.settings
            self.restores -= plan.settings
        if plan.restores:
            self.restores |= plan.restores
        if plan.settings_unknown:
            self.touched_unknown = True
        if plan.resets_all:
            self.reset_all = True
        if plan.leaves:
            self.leaves = True
        if plan.begin is not None:
            self.begin = plan.begin
            if plan.begin.isolation not in (None, "read committed", "read uncommitted"):
                self.read_committed = False
        if plan.sets_transaction:
            self.read_committed = False

    @property
    def outdates(self) -> frozenset[str]:
        """The names of all epochs to move when it has ended."""
        changed = self.schema_changes and self.writes
        return frozenset((*self.moves, SCHEMA) if changed else self.moves)

    @property
    def read_only(self) -> bool:
        return self.begin is not None and self.begin.read_only is True

    @property
    def changed_settings(self) -> bool:
        return bool(self.touched) or self.touched_unknown or self.reset_all


ABORTED: Final = PgError(
    errors.IN_FAILED_SQL_TRANSACTION,
    "current transaction is aborted, commands ignored until end of transaction block",
    "end the transaction with ROLLBACK",
)

NO_TRANSACTIONS: Final = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "transaction blocks are not allowed in statement pooling mode",
    'set pool.mode = "transaction" for this database or user',
)
