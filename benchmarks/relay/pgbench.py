"""Runs pgbench and reads what it tells."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.relay.cases import SCALE, Case
from benchmarks.relay.place import Endpoint, Place
from benchmarks.relay.programs import BenchmarkError


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of pgbench has done; latencies in milliseconds, None if too few were sampled."""

    transactions: int
    per_second: float
    p50: float | None
    p99: float | None


def fill(place: Place) -> None:
    """Make pgbench's tables on the primary. The standbys follow in their own time."""
    _run(place, place.stack.primary.port, ["-i", "-q", "-s", str(SCALE), "-I", "dtGvp"])


def warm_up(place: Place, endpoint: Endpoint, case: Case) -> None:
    """Open connections, fill caches and plans."""
    _run(place, endpoint.port, [*_arguments(place, case), "-t", str(case.warm_up)])


def one_each(place: Place, endpoint: Endpoint, case: Case) -> None:
    """Have each client log in, run one transaction and leave."""
    _run(place, endpoint.port, [*_arguments(place, case), "-t", "1"])


def load(place: Place, endpoint: Endpoint, case: Case, seconds: int) -> Load:
    """Put the case's load on the endpoint. Raises BenchmarkError if a transaction failed."""
    prefix = place.directory / "latency"
    sampling = ["--log", f"--log-prefix={prefix}", f"--sampling-rate={case.sampled}"]
    told = _run(place, endpoint.port, [*_arguments(place, case), "-T", str(seconds), *sampling])
    latencies: list[int] = []
    for file in place.directory.glob("latency.*"):
        latencies += [int(line.split()[2]) for line in file.read_text().splitlines()]
        file.unlink()
    return Load(
        transactions=int(_number(told, r"actually processed: (\d+)")),
        per_second=_number(told, r"tps = ([\d.]+)"),
        p50=percentile(latencies, 0.50),
        p99=percentile(latencies, 0.99),
    )


def percentile(microseconds: list[int], share: float) -> float | None:
    """In milliseconds; None where fewer than ten values lie above it."""
    beyond = len(microseconds) * (1 - share)
    if beyond < 10:
        return None
    return sorted(microseconds)[int(len(microseconds) * share)] / 1000


def _arguments(place: Place, case: Case) -> list[str]:
    if case.is_builtin:
        script = ["-b", case.script]
    else:
        file = place.directory / f"{case.name}.sql"
        file.write_text(case.script, encoding="utf-8")
        script = ["-f", str(file)]
    return ["-n", "-M", case.mode, "-c", str(case.clients), "-j", "1", *script]


def _run(place: Place, port: int, arguments: list[str]) -> str:
    stack = place.stack
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": stack.app_user,
        "PGPASSWORD": stack.app_password,
        "PGDATABASE": stack.database,
        "PGSSLMODE": "disable",
    }
    done = subprocess.run(
        [stack.pgbench, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path("/"),
    )
    if done.returncode:
        raise BenchmarkError(f"pgbench {' '.join(arguments)}:\n{done.stderr[-2000:]}")
    return done.stdout


def _number(told: str, pattern: str) -> float:
    match = re.search(pattern, told)
    if match is None:
        raise BenchmarkError(f"pgbench did not tell {pattern!r}:\n{told}")
    return float(match[1])
