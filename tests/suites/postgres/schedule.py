"""Running the suite's schedule: each file by psql, the files of a line at once."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.suites.postgres.cluster import DATABASE, HOST, SUPERUSER, Cluster

FILE_SECONDS = 600.0
_AT_ONCE = 20
_SHOWN_LINES = 40


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: `difference` is empty when the output is an expected one."""

    name: str
    difference: str
    output: Path

    @property
    def passed(self) -> bool:
        """Whether the output is one of those that PostgreSQL's own harness accepts."""
        return not self.difference


def groups(schedule: str) -> list[list[str]]:
    """The names of a schedule's lines; those of one line run at the same time."""
    return [
        line.removeprefix("test:").split()
        for line in schedule.splitlines()
        if line.startswith("test:")
    ]


def run_schedule(
    cluster: Cluster, port: int, name: str, only: Sequence[str] = ()
) -> Iterator[Outcome]:
    """Run the files over `port`, in the schedule's order. `only`: those, and the set-up."""
    outputs = cluster.outputs(name)
    schedule = groups((cluster.inputs / "parallel_schedule").read_text())
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
        for line in schedule:
            chosen = [one for one in line if not only or one in only or one == "test_setup"]
            yield from threads.map(lambda one: _run_file(cluster, port, outputs, one), chosen)


def _run_file(cluster: Cluster, port: int, outputs: Path, name: str) -> Outcome:
    output = outputs / "results" / f"{name}.out"
    psql = [str(cluster.suite.programs.psql), "-X", "-a", "-q", "-d", DATABASE]
    hide = ["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
    with (
        (cluster.inputs / "sql" / f"{name}.sql").open("rb") as source,
        output.open("wb") as printed,
    ):
        try:
            subprocess.run(
                [*psql, *hide],
                stdin=source,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=_environment(cluster, port, outputs, name),
                cwd=outputs,
                timeout=FILE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            printed.write(f"\nended after {FILE_SECONDS:g} s\n".encode())
    return Outcome(name, _difference(cluster, name, output), output)


def _environment(cluster: Cluster, port: int, outputs: Path, name: str) -> dict[str, str]:
    """As pg_regress sets it, and nobody's own settings."""
    foreign = re.compile("PG|LC_|LANG")
    return {
        **{key: value for key, value in os.environ.items() if not foreign.match(key)},
        "LC_MESSAGES": "C",
        "PGHOST": HOST,
        "PGPORT": str(port),
        "PGUSER": SUPERUSER,
        "PGTZ": "America/Los_Angeles" if cluster.suite.programs.version[0] > 14 else "PST8PDT",
        "PGDATESTYLE": "Postgres, MDY",
        "PGOPTIONS": "-c intervalstyle=postgres_verbose",
        "PGAPPNAME": f"pg_regress/{name}",
        "PG_ABS_SRCDIR": str(cluster.inputs),
        "PG_ABS_BUILDDIR": str(outputs),
        "PG_LIBDIR": str(cluster.libraries),
        "PG_DLSUFFIX": ".so",
    }


def _difference(cluster: Cluster, name: str, output: Path) -> str:
    """From the expected output that comes nearest; empty if one is met."""
    expected = cluster.inputs / "expected"
    variants = [expected / f"{name}.out", *sorted(expected.glob(f"{name}_[0-9].out"))]
    return min((difference(variant, output) for variant in variants), key=len)


def difference(expected: Path, output: Path) -> str:
    """What tells `output` from `expected`, as `diff` shows it."""
    command = ["diff", "--text", "--unified=2", str(expected), str(output)]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout.decode(errors="replace")


def excerpt(text: str) -> str:
    """The beginning of a difference, for people."""
    lines = text.splitlines()
    more = len(lines) - _SHOWN_LINES
    shown = "\n".join(lines[:_SHOWN_LINES])
    return f"{shown}\n… {more} more lines" if more > 0 else shown
