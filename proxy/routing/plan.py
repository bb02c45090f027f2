"""A plan: all that routing can know of a query string before it sees session, node or parameters.

Plans are made once per text, catalogue and rule set and then looked up, so the hot path only reads
attributes. `planner.plan` makes them, `decide.decide` turns one into a `Route`.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.sql.calls import CacheCall
from proxy.sql.listening import Step, Verb
from proxy.sql.statement import Analysis, Begin, KeyValue
from proxy.topology.statement_tallies import StatementTally


class Access(enum.Enum):
    """Which kind of node may run it."""

    READ = "read"  # a replica may
    WRITE = "write"  # the primary must
    REFUSE = "refuse"  # no node may: `refusal` says why
    LOCAL = "local"  # Penstock answers by itself: SHOW ROUTE FOR, EXPLAIN (PENSTOCK)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A table that is invalidated by key, and the keys to which an equality pins a statement."""

    table: str
    column: str
    type: str
    """The column's, one of `proxy.sharding.keys`."""
    values: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class CachePlan:
    """A statement that a rule caches."""

    rule: str
    ttl_seconds: float
    max_bytes: int
    reads: tuple[str, ...]
    """Epoch names of every base table read, sorted."""
    label: str
    """The readable part of the key that patterns match: table names joined by `+`."""
    pins: tuple[Pinned, ...] = ()
    """Tables of `reads` of which only the rows with one key matter."""
    max_feed_lag: float = 0.0
    """Seconds that hits may be behind the change feed; 0: as far as the feed itself may."""
    refresh: bool = False
    """No hit is wanted: the answer takes the place of what is kept."""
    jitter_seconds: float = 0.0
    """Lives are shortened by up to so much."""
    stale_seconds: float = 0.0
    """An entry is kept for so much longer, while one client reads anew."""
    empty_ttl_seconds: float | None = None
    """Of a result without rows; None: `ttl_seconds`."""
    refresh_seconds: float = 0.0
    """Write-through: a writer waits for so long while results are read again; 0: it doesn't."""
    refresh_entries: int = 0
    """So many of them at most."""
    adaptive: bool = False
    """While hardly any look-up finds something, only what is asked for again is looked up."""
    tally: StatementTally = field(default_factory=StatementTally, compare=False, repr=False)
    """What the cache did for the statement."""


@dataclass(frozen=True, slots=True)
class ShardKey:
    """A sharded table's occurrence and the values that pin it: all must fall on one shard."""

    table: str
    column: str
    values: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A statement on sharded tables. `shard` is set where literals alone decide."""

    keys: tuple[ShardKey, ...]
    shard: int | None
    resolve: Callable[[tuple[bytes | None, ...], tuple[int, ...], tuple[int, ...]], int]
    """(parameter values, format codes as in Bind, type OIDs as in Parse, 0 unknown) -> shard.
    Raises `proxy.routing.route.ShardRefused`."""


EVERY_SETTING = "*"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a statement is not run: an ErrorResponse in the making."""

    sqlstate: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module's docstring. Epoch names are bare table names; "*" is the whole database."""

    analysis: Analysis
    kind: str
    """Label for metrics: a `Kind`'s value, or "multi"."""
    access: Access
    reason: str
    """Why `access`, in words for a person."""
    writes: frozenset[str] = frozenset()
    """Epoch names to move around it, cascades and partitions included; empty for a read, and for a
    write of what nothing caches: whether it writes at all is what `access` says."""
    pinned_write: Pinned | None = None
    """The table among `writes` of which only rows with some keys are touched."""
    reads: frozenset[str] = frozenset()
    """Epoch names of the base tables read, views and partitions resolved; "*" where unknown."""
    writes_nothing: bool = False
    """No statement of it writes, also where `access` is WRITE because routing is off."""
    touches_tables: bool = False
    """It names relations or may reach some: not one that runs anywhere, such as COMMIT."""
    cache: CachePlan | None = None
    uncached_reason: str = ""
    shard: ShardPlan | None = None
    refusal: Refusal | None = None
    node_hint: str | None = None
    begin: Begin | None = None
    """Set where the string is exactly one BEGIN or START TRANSACTION."""
    ends_transaction: bool = False
    """Set where the string is exactly one COMMIT or ROLLBACK (not to a savepoint)."""
    rolls_back: bool = False
    """Set where the string is exactly one ROLLBACK, COMMIT or ROLLBACK TO: runs in a failed
    transaction."""
    settings: frozenset[str] = frozenset()
    settings_unknown: bool = False
    restores: frozenset[str] = frozenset()
    """Settings that get their start-up value, or EVERY_SETTING; for a string of one statement."""
    resets_all: bool = False
    sets_transaction: bool = False
    """SET TRANSACTION or SET LOCAL: isolation may differ from what BEGIN said, settings from the
    session's."""
    pins: str | None = None
    leaves: bool = False
    """It may leave on its connection what only the server can tell of afterwards."""
    ends: frozenset[str] = frozenset()
    """Reasons in other plans' `pins` that no longer hold once this has run by itself."""
    deallocates: str | None = None
    """DEALLOCATE of one name: a protocol-level statement of that name must go too."""
    deallocates_all: bool = False
    executes: str | None = None
    changes_schema: bool = False
    """DDL, or anything that may be: the catalogue must be loaded again after it."""
    steps: tuple[Step, ...] = ()
    """What decides on the channels that the session listens on, in order; see `sql.listening`."""
    asks_channels: bool = False
    """It calls pg_listening_channels()."""
    signals: bool = False
    """It calls pg_terminate_backend() or pg_cancel_backend()."""
    notifies: bool = False
    """NOTIFY or pg_notify() is in it."""
    occupies: frozenset[str] = frozenset()
    """Databases that must be free of others for it: DROP DATABASE and the like."""
    call: CacheCall | None = None
    """With access LOCAL: a function of Penstock's own is called."""
    needs_session: bool = False
    """Reads state of its own connection or transaction (currval, lastval, FETCH, …)."""
    written_back: str = ""
    """The table of a single INSERT or UPDATE whose rows a rule has written back."""
    sees_waiting: bool = False
    """It depends on writes that may wait to be written back."""
    keyed: bool = field(init=False, default=False)
    """What it reads or writes depends on the values of constants or parameters."""
    listens: bool = field(init=False, default=False)
    """There is a LISTEN among `steps`."""
    effects: bool = field(init=False, default=False)
    """It leaves something that a session must remember until its transaction ends."""
    reads_only: bool = field(init=False, default=False)
    """It may run on the primary or a replica, and leaves nothing that a write leaves."""
    plain: bool = field(init=False, default=False)
    """To be relayed as it is: no answer of Penstock's own, nothing to remember or to undo."""

    def __post_init__(self) -> None:
        effects = bool(
            self.writes
            or self.settings
            or self.settings_unknown
            or self.resets_all
            or self.begin
            or self.sets_transaction
            or self.changes_schema
            or self.leaves
        )
        reads_only = self.access is Access.READ or (
            self.access is Access.WRITE and self.writes_nothing
        )
        plain = (
            (reads_only or self.access is Access.WRITE)
            and not effects
            and not self.pins
            and not self.ends
            and not self.deallocates
            and not self.deallocates_all
            and not self.ends_transaction
            and not self.signals
        )
        pinned = self.pinned_write is not None or bool(self.cache and self.cache.pins)
        object.__setattr__(self, "keyed", pinned)
        object.__setattr__(self, "listens", any(one.verb is Verb.LISTEN for one in self.steps))
        object.__setattr__(self, "effects", effects)
        object.__setattr__(self, "reads_only", reads_only)
        object.__setattr__(self, "plain", plain)
