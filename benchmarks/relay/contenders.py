"""Who takes part: how each is started, and what of it must be said beside its figures."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.relay import cases
from benchmarks.relay.bouncers import (
    find_pgbouncer,
    find_pgpool,
    keeps_prepared,
    pgbouncer_version,
    pgpool_version,
    running_pgbouncer,
    running_pgpool,
)
from benchmarks.relay.cases import Case
from benchmarks.relay.penstock import commit_of, is_compiled, running_penstock
from benchmarks.relay.place import Endpoint, Place

Start = Callable[[Place], AbstractContextManager[Endpoint]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way from pgbench to PostgreSQL.

    Attributes:
        role: its name in the cases; several contenders may have the same role.
        start: None where its program is not installed.
        modes: pgbench's protocols that it can do.
        note: what to know when its figures are read.
    """

    name: str
    role: str
    version: str
    start: Start | None
    modes: tuple[str, ...] = ("simple", "extended", "prepared")
    note: str = ""

    def takes_part(self, case: Case) -> bool:
        """Whether it is to be measured in this case."""
        able = self.start is not None and case.mode in self.modes
        return able and self.role in case.contenders


def contenders(tree: Path, others: Mapping[str, Path]) -> list[Contender]:
    """Everybody, in the order in which they are run.

    Args:
        tree: what holds the Penstock to measure: sources, or a compiled copy of them.
        others: further ones to measure beside it, by a name for each.
    """
    found = [_direct(), _pgbouncer(), _pgpool(), *_penstocks("", tree.resolve())]
    for name, other in others.items():
        found += _penstocks(f"@{name}", other.resolve())
    return found


def _direct() -> Contender:
    return Contender(cases.DIRECT, cases.DIRECT, "", _start_direct, note="PostgreSQL's primary")


@contextmanager
def _start_direct(place: Place) -> Iterator[Endpoint]:
    yield Endpoint(place.stack.primary.port)


def _pgbouncer() -> Contender:
    name, program = cases.PGBOUNCER, find_pgbouncer()
    if program is None:
        return Contender(name, name, "", None, note="not installed (Debian: pgbouncer)")
    version = pgbouncer_version(program)
    if keeps_prepared(version):
        return Contender(name, name, version, partial(running_pgbouncer, program))
    return Contender(
        name,
        name,
        version,
        partial(running_pgbouncer, program),
        modes=("simple", "extended"),
        note="has no prepared statements in transaction pooling",
    )


def _pgpool() -> Contender:
    name, program = cases.PGPOOL, find_pgpool()
    if program is None:
        return Contender(name, name, "", None, note="not installed (Debian: pgpool2)")
    return Contender(
        name,
        name,
        pgpool_version(program),
        partial(running_pgpool, program),
        note="a process and a connection to every server for each client, no transaction pooling",
    )


def _penstocks(suffix: str, tree: Path) -> list[Contender]:
    """The three ways to set Penstock up: reads on replicas, primary alone, and with cache."""
    form = "compiled" if is_compiled(tree) else "interpreted"
    version = f"{commit_of(tree)}, {form}"
    return [
        Contender(
            f"{role}{suffix}",
            role,
            version,
            _penstock(tree, f"{role}{suffix}", replicas, cache),
            note=note,
        )
        for role, replicas, cache, note in (
            (cases.PENSTOCK, True, False, "reads on two replicas, writes on the primary"),
            (cases.PENSTOCK_PRIMARY, False, False, "no replicas: the same servers as PgBouncer"),
            (cases.PENSTOCK_CACHE, True, True, "as penstock, with a cache rule for all accounts"),
        )
    ]


def _penstock(tree: Path, name: str, replicas: bool, cache: bool) -> Start:
    def start(place: Place) -> AbstractContextManager[Endpoint]:
        return running_penstock(tree, place, name, replicas=replicas, cache=cache)

    return start
