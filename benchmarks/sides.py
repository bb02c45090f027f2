"""Who takes part: how each is started, and what of it must be said beside its figures."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import scenarios
from benchmarks.scenarios import Scenario
from benchmarks.servers.penstock import (
    Build,
    Features,
    commit_of,
    compiled_tree,
    fingerprint,
    form_of,
    running_penstock,
)
from benchmarks.servers.pgbouncer import (
    find_pgbouncer,
    keeps_prepared,
    pgbouncer_version,
    running_pgbouncer,
)
from benchmarks.servers.pgpool import find_pgpool, pgpool_version, running_pgpool
from benchmarks.servers.place import Endpoint, Place
from benchmarks.servers.programs import BenchmarkError

Start = Callable[[Place, Scenario], AbstractContextManager[Endpoint]]

_FEW_CLIENTS = 64
"""For scenarios with no more clients a pgpool-II is set up alike, and need not start anew."""


@dataclass(frozen=True, slots=True)
class Side:
    """One way from the clients to PostgreSQL.

    Attributes:
        role: its name in the scenarios; several sides may have the same.
        start: None where it can't be started here.
        missing: why not.
        without: the protocols of pgbench that it can't do, and why.
        note: what to know when its figures are read.
        processes: whether it has a process for each client.
        caches: whether it keeps results.
        identity: what it is, so that its measurements are not taken for those of another.
    """

    name: str
    role: str
    version: str = ""
    start: Start | None = None
    missing: str = ""
    without: Mapping[str, str] | None = None
    note: str = ""
    processes: bool = False
    caches: bool = False
    identity: str = ""

    def left_out(self, scenario: Scenario) -> str | None:
        """Why it does not take part in a scenario that names it; None: it does."""
        if self.start is None:
            return self.missing
        return (self.without or {}).get(scenario.mode)

    def instance(self, scenario: Scenario) -> tuple[str, int]:
        """Scenarios for which this is the same can be served by one instance."""
        if not self.processes:
            return self.name, scenario.pool
        return self.name, max(scenario.connected, _FEW_CLIENTS)


def all_sides(sources: Path, others: Mapping[str, Path] | None = None) -> list[Side]:
    """Everybody, in the order in which they are measured.

    Args:
        sources: the tree of the Penstock to measure.
        others: further ones to measure beside it, by a name for each.
    """
    found = [_direct(), _pgbouncer(), *_pgpools(), *_compiled(sources), *_interpreted(sources)]
    for name, tree in (others or {}).items():
        build = Build(tree.resolve(), form_of(tree))
        found += _penstocks(build, commit_of(tree), f"@{name}", _COMPILED_ROLES)
    return found


def taking_part(sides: Sequence[Side], scenario: Scenario) -> list[Side]:
    """Those that are measured in a scenario, in their order."""
    return [one for one in sides if one.role in scenario.sides and not one.left_out(scenario)]


def _direct() -> Side:
    def start(place: Place, _: Scenario) -> AbstractContextManager[Endpoint]:
        return nullcontext(Endpoint(place.stack.primary.port))

    name = scenarios.DIRECT
    return Side(name, name, start=start, note="PostgreSQL without proxy", processes=True)


def _pgbouncer() -> Side:
    name, program = scenarios.PGBOUNCER, find_pgbouncer()
    if program is None:
        return Side(name, name, missing="is not installed (Debian: apt-get install pgbouncer)")
    found, version = program, pgbouncer_version(program)

    def start(place: Place, scenario: Scenario) -> AbstractContextManager[Endpoint]:
        return running_pgbouncer(found, place, scenario.pool)

    lacks = {"prepared": f"{version} has no prepared statements in transaction pooling"}
    return Side(
        name,
        name,
        version,
        start,
        without={} if keeps_prepared(version) else lacks,
        note="transaction pooling",
        identity=version,
    )


def _pgpools() -> list[Side]:
    program, found = find_pgpool(), []
    for name, cache in ((scenarios.PGPOOL, False), (scenarios.PGPOOL_CACHE, True)):
        if program is None:
            missing = "is not installed (Debian: apt-get install pgpool2)"
            found.append(Side(name, name, missing=missing))
            continue
        note = "a process and a server's connection for each client, no transaction pooling"
        version = pgpool_version(program)
        found.append(
            Side(
                name,
                name,
                version,
                partial(_start_pgpool, program, cache),
                note=f"{note}; query cache in shared memory" if cache else note,
                processes=True,
                caches=cache,
                identity=version,
            )
        )
    return found


def _start_pgpool(
    program: Path, cache: bool, place: Place, scenario: Scenario
) -> AbstractContextManager[Endpoint]:
    clients = max(scenario.connected, _FEW_CLIENTS)
    return running_pgpool(program, place, clients, cache=cache)


_COMPILED_ROLES = {
    scenarios.PENSTOCK: (Features(), "the same one server behind it as the others have"),
    scenarios.PENSTOCK_TWO: (Features(workers=2), "two workers"),
    scenarios.PENSTOCK_ROUTING: (Features(routing=True), "reads on two replicas"),
    scenarios.PENSTOCK_CACHE: (Features(cache=True), "with a cache rule for what is read"),
    scenarios.PENSTOCK_SHARDS: (Features(shards=True), "the table is spread over two shards"),
}
_INTERPRETED_ROLES = {
    scenarios.INTERPRETED: (Features(), "Penstock without compiled modules"),
    scenarios.INTERPRETED_TWO: (Features(workers=2), "the same with two workers"),
    scenarios.INTERPRETED_CACHE: (Features(cache=True), "the same with a cache rule"),
}
Roles = Mapping[str, tuple[Features, str]]


def _compiled(sources: Path) -> list[Side]:
    try:
        build = Build(compiled_tree(sources), "compiled")
    except BenchmarkError as error:
        return [Side(role, role, missing=str(error)) for role in _COMPILED_ROLES]
    return _penstocks(build, commit_of(sources), "", _COMPILED_ROLES)


def _interpreted(sources: Path) -> list[Side]:
    return _penstocks(Build(sources, "interpreted"), commit_of(sources), "", _INTERPRETED_ROLES)


def _penstocks(build: Build, commit: str, suffix: str, roles: Roles) -> list[Side]:
    identity = f"{fingerprint(build.tree)} {build.form}"
    return [
        Side(
            f"{role}{suffix}",
            role,
            f"{commit}, {build.form}",
            partial(_start_penstock, build, features),
            note=note,
            caches=features.cache,
            identity=identity,
        )
        for role, (features, note) in roles.items()
    ]


def _start_penstock(
    build: Build, features: Features, place: Place, scenario: Scenario
) -> AbstractContextManager[Endpoint]:
    return running_penstock(build, place, scenario.pool, features)
