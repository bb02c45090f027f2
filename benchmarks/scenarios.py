"""What is measured, and who takes part."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks import scripts
from benchmarks.scripts import CHEAP_KEYS, DEAR_KEYS, MIDDLING_KEYS

# The sides; `sides` says what each is.
DIRECT = "direct"
PGBOUNCER = "pgbouncer"
PGPOOL = "pgpool"
PGPOOL_CACHE = "pgpool-cache"
PENSTOCK = "penstock"
PENSTOCK_TWO = "penstock-2w"
PENSTOCK_ROUTING = "penstock-routing"
PENSTOCK_CACHE = "penstock-cache"
PENSTOCK_SHARDS = "penstock-shards"
INTERPRETED = "interpreted"
INTERPRETED_TWO = "interpreted-2w"
INTERPRETED_CACHE = "interpreted-cache"

_BASE = (DIRECT, PGBOUNCER, PGPOOL, PENSTOCK)
_RELAYS = (*_BASE, PENSTOCK_TWO, INTERPRETED)
_POOLERS = (DIRECT, PGBOUNCER, PENSTOCK, PENSTOCK_TWO)
_CACHES = (DIRECT, PGBOUNCER, PGPOOL_CACHE, PENSTOCK_CACHE)


_MANY = 200
"""Clients whose logins can't be told from a short load by subtraction."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script of pgbench: the name of a built-in, or its text; and how often it is chosen."""

    text: str
    weight: int = 1

    @property
    def is_builtin(self) -> bool:
        """Whether `text` is the name of one of pgbench's own."""
        return "\n" not in self.text


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load, put on each of its sides in turn.

    Attributes:
        scripts: of pgbench; none: COPY in the direction that `copy` names.
        mode: pgbench's protocol: simple, extended or prepared.
        pool: server connections that a proxy may have.
        statements: per transaction of the scripts.
        unit: what is counted per second.
        warm_up: transactions of each client before the clock starts, by 16 clients at most.
        keys: different statements that a cache is filled with first.
        sampled: share of the transactions whose latency is written down; few where there are many,
            for pgbench shares the CPUs with what is measured.
        reconnect: a connection for each transaction.
        idle: further clients that are connected and ask nothing.
        flood: texts a second that further clients send meanwhile, no two of them alike.
        half_load: not as fast as it goes, but at half of what the slowest side can do.
        traced: transactions of each client under strace; 0: its system calls aren't counted.
        weight: how long a measurement takes beside that of other scenarios.
        least: rounds that it has also where time is short.
        remark: what to know of it.
    """

    name: str
    title: str
    sides: Sequence[str]
    scripts: Sequence[Script] = ()
    copy: str = ""
    mode: str = "extended"
    clients: int = 16
    pool: int = 16
    statements: int = 1
    unit: str = "queries"
    warm_up: int = 50
    keys: int = 0
    sampled: float = 0.25
    reconnect: bool = False
    idle: int = 0
    flood: int = 0
    half_load: bool = False
    traced: int = 0
    weight: int = 1
    least: int = 1
    remark: str = ""

    @property
    def many_logins(self) -> bool:
        """Whether logins cost more than what is asked afterwards; `sampled` then must be 1."""
        return self.clients > _MANY

    @property
    def connected(self) -> int:
        """Clients, active and idle."""
        return self.clients + self.idle


_SELECT = Scenario("", "", _RELAYS, (Script("select-only"),))
_CACHED = Scenario("", "", _CACHES, warm_up=2)

SCENARIOS: Sequence[Scenario] = (
    replace(
        _SELECT,
        name="select-simple",
        title="Select by key, simple protocol",
        sides=_RELAYS,
        mode="simple",
        traced=40,
        least=3,
    ),
    replace(
        _SELECT,
        name="select-extended",
        title="Select by key, extended protocol",
        sides=(*_RELAYS, INTERPRETED_TWO, PENSTOCK_ROUTING),
        traced=40,
        least=3,
    ),
    replace(
        _SELECT,
        name="select-prepared",
        title="Select by key, prepared statement",
        sides=_RELAYS,
        mode="prepared",
        traced=40,
    ),
    replace(
        _SELECT,
        name="clients-1",
        title="1 client",
        sides=_BASE,
        clients=1,
        warm_up=200,
        sampled=1.0,
        traced=400,
    ),
    replace(
        _SELECT,
        name="clients-64",
        title="64 clients",
        sides=(*_BASE, PENSTOCK_TWO),
        clients=64,
        warm_up=20,
    ),
    replace(
        _SELECT,
        name="clients-10000",
        title="64 clients, beside 10,000 that are connected and idle",
        sides=(PGBOUNCER, PENSTOCK, PENSTOCK_TWO),
        clients=64,
        idle=10_000,
        weight=4,
        warm_up=20,
        remark="to be read beside the 64 clients alone; direct and pgpool-II would need a process "
        "for each idle client",
    ),
    replace(
        _SELECT,
        name="clients-1000",
        title="1,000 clients",
        sides=(*_BASE, PENSTOCK_TWO),
        clients=1000,
        sampled=1.0,
        weight=5,
        warm_up=20,
        remark="PostgreSQL and pgpool-II have a process for each of them",
    ),
    replace(
        _SELECT,
        name="small-pool",
        title="64 clients, pool of 4",
        sides=_POOLERS,
        clients=64,
        pool=4,
        warm_up=20,
        remark="direct has 64 connections; pgpool-II can't have fewer servers' connections than "
        "clients",
    ),
    replace(
        _SELECT,
        name="half-load",
        title="Half load",
        sides=_POOLERS,
        sampled=1.0,
        half_load=True,
        remark="queries arrive at random moments (pgbench --rate), at the same rate for all: half "
        "of what the slowest of these sides reaches. Latency counts from the moment that a query "
        "was due. pgpool-II and the interpreted form are left out: half of what they reach would "
        "be next to idle for the others",
    ),
    replace(
        _SELECT,
        name="flood",
        title="4 clients, beside a flood of new texts",
        sides=_POOLERS,
        clients=4,
        sampled=1.0,
        flood=300,
        remark="others send 300 joins a second, each of a text that never was before; what counts "
        "is how long the 4 clients wait at worst. CPU includes the others'",
    ),
    Scenario(
        "tpcb",
        "TPC-B, simple protocol",
        (*_BASE, PENSTOCK_ROUTING, PENSTOCK_CACHE, INTERPRETED),
        (Script("tpcb-like"),),
        mode="simple",
        statements=7,
        unit="transactions",
        warm_up=10,
        sampled=1.0,
        traced=10,
        remark="seven statements in a transaction; CPU and calls are per statement",
    ),
    Scenario(
        "large-row",
        "Rows of 1 MB",
        (*_BASE, INTERPRETED),
        (Script(scripts.LARGE_ROW),),
        clients=4,
        warm_up=4,
        sampled=1.0,
        traced=10,
    ),
    Scenario(
        "wide-result",
        "Results of 10,000 rows (1 MB)",
        (*_BASE, INTERPRETED),
        (Script(scripts.WIDE_RESULT),),
        clients=4,
        warm_up=4,
        sampled=1.0,
        traced=10,
    ),
    Scenario("copy-out", "COPY out, 10 MB", _BASE, copy="out", clients=2, unit="copies"),
    Scenario("copy-in", "COPY in, 10 MB", _BASE, copy="in", clients=2, unit="copies"),
    replace(
        _SELECT,
        name="churn",
        title="A new connection for each query",
        sides=_RELAYS,
        mode="simple",
        reconnect=True,
        warm_up=2,
        sampled=1.0,
        unit="connections",
        remark="clients log in by SCRAM-SHA-256",
    ),
    replace(
        _CACHED,
        name="cached-0.1ms",
        title="Cached, 0.1 ms without",
        scripts=(Script(scripts.CHEAP),),
        sides=(*_CACHES, INTERPRETED_CACHE),
        keys=CHEAP_KEYS,
        traced=40,
    ),
    replace(
        _CACHED,
        name="cached-5ms",
        title="Cached, 5 ms without",
        scripts=(Script(scripts.MIDDLING),),
        keys=MIDDLING_KEYS,
    ),
    replace(
        _CACHED,
        name="cached-50ms",
        title="Cached, 50 ms without",
        scripts=(Script(scripts.DEAR),),
        keys=DEAR_KEYS,
    ),
    Scenario(
        "cached-mixed",
        "95 % reads, 5 % writes, keys by Zipf's law, reads cached",
        _CACHES,
        (Script(scripts.ZIPF_READ, 95), Script(scripts.ZIPF_WRITE, 5)),
        remark="both caches drop all results of a table when it is written",
    ),
    replace(
        _SELECT,
        name="cache-misses",
        title="Ever new keys under a cache rule",
        sides=(DIRECT, PENSTOCK, PENSTOCK_CACHE, PGPOOL, PGPOOL_CACHE),
        remark="one of 800,000 keys each time: what a cache costs where it can't help, to be read "
        "beside the same without it",
    ),
    Scenario(
        "sharded-read",
        "Reads by key on two shards",
        (DIRECT, PGBOUNCER, PENSTOCK_SHARDS),
        (Script(scripts.SHARDED_READ),),
        remark="direct and PgBouncer read the same table, unsharded, on one server",
    ),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What `--only` has left of the scenarios and of the sides."""

    scenarios: Sequence[Scenario] = field(default=SCENARIOS)
    sides: Sequence[str] | None = None
    """None: all."""


def choose(only: Sequence[str], sides: Sequence[str]) -> Chosen:
    """The scenarios and sides whose names begin as asked for; all of a kind that nobody named.

    Raises ValueError if something asked for is the beginning of no name.
    """
    names = [scenario.name for scenario in SCENARIOS]
    for one in only:
        if not any(name.startswith(one) for name in (*names, *sides)):
            raise ValueError(f"--only {one}: choose from {', '.join((*names, *sides))}")
    wanted, some = _named(only, names), _named(only, sides)
    return Chosen([one for one in SCENARIOS if one.name in wanted] or SCENARIOS, some or None)


def _named(only: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those whose whole name is asked for, or else how it begins."""
    exact = [one for one in only if one in names]
    beginnings = tuple(one for one in only if one not in names)
    return [name for name in names if name in exact or (beginnings and name.startswith(beginnings))]
