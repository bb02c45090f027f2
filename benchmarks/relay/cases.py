"""What is measured: pgbench's arguments, and who takes part."""

from dataclasses import dataclass

SCALE = 8
"""Of pgbench's tables: 800,000 accounts, which fit into a server's default shared buffers."""

# The names of `contenders`.
DIRECT = "direct"
PGBOUNCER = "pgbouncer"
PGPOOL = "pgpool"
PENSTOCK = "penstock"
PENSTOCK_PRIMARY = "penstock-primary"
PENSTOCK_CACHE = "penstock-cache"

_RELAYS = (DIRECT, PGBOUNCER, PGPOOL, PENSTOCK, PENSTOCK_PRIMARY)
_CACHES = (DIRECT, PGBOUNCER, PENSTOCK_CACHE)

# The statement of pgbench's select-only script, over keys few enough that all stay cached.
_FEW_KEYS = r"""
\set aid random(1, 1000)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
"""
_AGGREGATE = r"""
\set block random(1, 50)
SELECT count(*), sum(abalance), max(abalance) FROM pgbench_accounts
 WHERE aid BETWEEN :block * 15000 AND :block * 15000 + 12000;
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One load, put on each of its contenders in turn.

    Attributes:
        mode: pgbench's protocol: simple, extended or prepared.
        script: a built-in's name, or the text of one.
        statements: per transaction of the script.
        warm_up: transactions of each client before the clock starts.
        sampled: share of the transactions whose latency is written down; few where there are many,
            for pgbench shares the CPUs with what is measured.
    """

    name: str
    title: str
    mode: str
    script: str
    contenders: tuple[str, ...]
    clients: int = 16
    statements: int = 1
    warm_up: int = 200
    sampled: float = 0.1

    @property
    def is_builtin(self) -> bool:
        """Whether `script` is the name of one of pgbench's own."""
        return "\n" not in self.script


CASES = (
    *(
        Case(f"select-{mode}", f"select by key, {mode}", mode, "select-only", _RELAYS)
        for mode in ("simple", "extended", "prepared")
    ),
    Case(
        "tpcb-simple",
        "TPC-B, simple",
        "simple",
        "tpcb-like",
        (*_RELAYS, PENSTOCK_CACHE),
        statements=7,
        warm_up=20,
        sampled=1.0,
    ),
    *(
        Case(f"cached-{mode}", f"cached select by key, {mode}", mode, _FEW_KEYS, _CACHES)
        for mode in ("simple", "extended", "prepared")
    ),
    Case(
        "cached-aggregate",
        "cached aggregate over 12,000 rows, extended",
        "extended",
        _AGGREGATE,
        _CACHES,
        warm_up=20,
        sampled=1.0,
    ),
)
