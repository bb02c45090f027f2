"""pg_dump, pg_restore and psql's backslash commands on what the regression tests have left.

That database has an object of every kind. What the programs do through Penstock must be what they
do on the server itself.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.suites.postgres.cluster import DATABASE, HOST, RESTORED, SUPERUSER, Cluster
from tests.suites.postgres.schedule import Outcome, difference

_SECONDS = 300.0

DESCRIBING = r"""
\d
\d+
\d *.*
\d+ public.*
\dS pg_class
\da
\dA+
\dAc
\dAf
\dAo btree
\dAp btree
\db
\dc
\dC
\dconfig work_mem
\dd
\ddp
\dD+
\des+
\det+
\deu+
\dew+
\df
\df+ public.*
\dFd
\dFp
\dFt
\dF
\dg
\di+
\dl
\dL+
\dm
\dn+
\do
\do+ public.*
\dO
\dp
\dP+
\drds
\dRp+
\dRs
\ds
\dt
\dtv
\dT+
\du
\dv+
\dx
\dX
\dy
\l
\z
\sf+ trigger_return_old
\sv+ street
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """The server's own port, and Penstock's."""

    direct: int
    proxied: int


def run_tools(cluster: Cluster, ports: Ports, name: str, *, jobs: bool) -> Iterator[Outcome]:
    """What became of each. `jobs`: also those with several connections, which share a snapshot."""
    run = _Run(cluster, ports, cluster.outputs(name) / "results")
    yield run.compare("psql-describe", run.describe)
    yield run.compare("pg_dump-plain", run.dump)
    yield run.compare("pg_dump-inserts", run.dump_inserts)
    yield run.compare("pg_restore-custom", run.restore_custom)
    if jobs:
        yield run.compare("pg_restore-directory", run.restore_directory)


class _Run:
    def __init__(self, cluster: Cluster, ports: Ports, outputs: Path) -> None:
        self._cluster = cluster
        self._ports = ports
        self._outputs = outputs

    def compare(self, name: str, produce: Callable[[int, str], str]) -> Outcome:
        """Do the same over both ports; `produce(port, name)` gives what is to be equal."""
        expected = self._outputs / f"{name}.expected"
        output = self._outputs / f"{name}.out"
        expected.write_text(produce(self._ports.direct, f"{name}-direct"))
        output.write_text(produce(self._ports.proxied, f"{name}-proxied"))
        return Outcome(name, difference(expected, output), output)

    def describe(self, port: int, _: str) -> str:
        """What psql prints for its backslash commands."""
        return _without_sizes(self._program("psql", port, DATABASE, "-X", "-a", stdin=DESCRIBING))

    def dump(self, port: int, _: str, database: str = DATABASE) -> str:
        """A dump as SQL."""
        return _without_secret(self._program("pg_dump", port, database))

    def dump_inserts(self, port: int, _: str) -> str:
        """A dump with INSERTs, which reads by a cursor."""
        return _without_secret(
            self._program("pg_dump", port, DATABASE, "--inserts", "--rows-per-insert=7")
        )

    def restore_custom(self, port: int, name: str) -> str:
        """The contents of a database dumped and restored by way of one file."""
        return self._restore(port, name, ("--format=custom",), ())

    def restore_directory(self, port: int, name: str) -> str:
        """The same by way of a directory, two tables at a time."""
        return self._restore(port, name, ("--format=directory", "--jobs=2"), ("--jobs=2",))

    def _restore(
        self, port: int, name: str, dumping: tuple[str, ...], restoring: tuple[str, ...]
    ) -> str:
        archive = str(self._outputs / f"{name}.dump")
        said = self._program("pg_dump", port, DATABASE, *dumping, f"--file={archive}")
        self._cluster.make_database(RESTORED)
        said += self._program(
            "pg_restore", port, RESTORED, *restoring, f"--dbname={RESTORED}", archive
        )
        contents = self.dump(self._ports.direct, name, RESTORED)
        self._cluster.drop_database(RESTORED)
        return said + contents

    def _program(
        self, program: str, port: int, database: str, *arguments: str, stdin: str = ""
    ) -> str:
        """What a program printed, its complaints included, and how it ended."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PGHOST": HOST,
            "PGPORT": str(port),
            "PGUSER": SUPERUSER,
            "PGDATABASE": database,
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            [self._cluster.suite.programs.bin_dir / program, *arguments],
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=_SECONDS,
            check=False,
        )
        return f"{done.stdout.decode(errors='replace')}\n{program} ended with {done.returncode}\n"


def _without_sizes(described: str) -> str:
    """Autovacuum works meanwhile."""
    return re.sub(r" +\d+ (?:bytes|[kMG]B)\b", " size", described)


def _without_secret(dump: str) -> str:
    """pg_dump guards a dump as SQL by a random word."""
    return re.sub(r"^(\\(?:un)?restrict) \w+$", r"\1", dump, flags=re.MULTILINE)
