"""Runs pgbench and reads what it tells."""

import math
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.clients.load import Load, Target, make_load
from benchmarks.scenarios import Scenario
from benchmarks.scripts import NEW_TEXTS, SCALE
from benchmarks.servers.programs import BenchmarkError

_FEW = 16
"""So many clients are enough to open a pool's connections and to fill plans and caches."""
_SHORT_LOGINS = 0.3
"""Seconds that are no great part of a measurement."""
_PATIENCE = 180.0
"""For one run of pgbench; what takes longer hangs."""
_MARGIN = 1.2
"""Logins may take longer the second time."""
_DRAWS = 6
"""How often each key is drawn at random, on average, for a cache to hold nearly all."""


_FLOODING = 4
"""Clients of a flood."""


@contextmanager
def flood(target: Target, scenario: Scenario) -> Iterator[None]:
    """Send the scenario's new texts for the length of a block. Raises BenchmarkError if that ended
    before."""
    if not scenario.flood:
        yield
        return
    file = target.directory / "new-texts.sql"
    file.write_text(NEW_TEXTS, encoding="utf-8")
    pace = ("--rate", str(scenario.flood), "-T", f"{_PATIENCE:.0f}")
    with subprocess.Popen(
        [target.pgbench, "-n", "-M", "simple", "-c", str(_FLOODING), *pace, "-f", file],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=target.environment(),
        cwd=Path("/"),
    ) as process:
        try:
            yield
            if process.poll() is not None:
                assert process.stderr is not None
                raise BenchmarkError(f"the flood ended:\n{process.stderr.read()[-2000:]}")
        finally:
            process.kill()


def fill(target: Target) -> None:
    """Make pgbench's tables."""
    _run(target, ["-i", "-q", "-s", str(SCALE), "-I", "dtGvp"])


def warm_up(target: Target, scenario: Scenario) -> None:
    """Open servers' connections, fill plans."""
    few = min(scenario.clients, _FEW)
    _run(target, [*_arguments(target, scenario, few), "-t", str(scenario.warm_up)])


def fill_cache(target: Target, scenario: Scenario) -> None:
    """Ask for nearly each of the scenario's keys."""
    few = min(scenario.clients, _FEW)
    each = math.ceil(scenario.keys * _DRAWS / few)
    _run(target, [*_arguments(target, scenario, few), "-t", str(each)])


def run_each(target: Target, scenario: Scenario, transactions: int = 1) -> None:
    """Have each client log in, run so many transactions and leave."""
    _run(target, [*_arguments(target, scenario), "-t", str(transactions)])


def load(
    target: Target,
    scenario: Scenario,
    seconds: int,
    rate: float | None = None,
    logins: float = 0.0,
) -> Load:
    """Put the scenario's load on the target. Raises BenchmarkError if a transaction failed.

    Args:
        logins: seconds that the clients need to log in. pgbench's clock runs meanwhile, though it
            leaves that time out of what it reports.
    """
    prefix = target.directory / "latency"
    logging = ["--log", f"--log-prefix={prefix}"]
    if scenario.sampled < 1:
        logging.append(f"--sampling-rate={scenario.sampled}")
    pace = [] if rate is None else ["--rate", f"{rate:.0f}"]
    duration = seconds + math.ceil(max(0.0, logins * _MARGIN - _SHORT_LOGINS))
    arguments = [*_arguments(target, scenario), "-T", str(duration), *pace, *logging]
    try:
        told = _run(target, arguments)
        logged: list[tuple[int, float]] = []
        for file in target.directory.glob("latency.*"):
            logged += parse_log(file.read_text(encoding="utf-8").splitlines())
    finally:
        for file in target.directory.glob("latency.*"):
            file.unlink()
    transactions, per_second = parse_summary(told)
    latencies, ends = zip(*logged, strict=True) if logged else ((), ())
    return make_load(transactions, per_second, latencies, ends)


def parse_log(lines: Iterable[str]) -> list[tuple[int, float]]:
    """The latency in microseconds and the end, in seconds since the epoch, of each transaction in
    a log (`pgbench --log`).

    Lines are "client transaction latency script seconds microseconds …"; a transaction that was
    skipped or failed has a word for its latency.
    """
    fields = (line.split() for line in lines)
    return [
        (int(field[2]), int(field[4]) + int(field[5]) / 1e6)
        for field in fields
        if len(field) > 5 and field[2].isdigit()
    ]


def parse_summary(told: str) -> tuple[int, float]:
    """The number of transactions and how many there were per second.

    With a connection for each transaction, the time for connecting counts.
    """
    return int(_number(told, r"actually processed: (\d+)")), _number(told, r"tps = ([\d.]+)")


def _arguments(target: Target, scenario: Scenario, clients: int | None = None) -> list[str]:
    return [
        *("-n", "-M", scenario.mode, "-j", "1", "-c", str(clients or scenario.clients)),
        *(["-C"] if scenario.reconnect else []),
        *_scripts(target.directory, scenario),
    ]


def _scripts(directory: Path, scenario: Scenario) -> Sequence[str]:
    arguments: list[str] = []
    for number, script in enumerate(scenario.scripts):
        if script.is_builtin:
            arguments += ["-b", f"{script.text}@{script.weight}"]
        else:
            file = directory / f"{scenario.name}-{number}.sql"
            file.write_text(script.text, encoding="utf-8")
            arguments += ["-f", f"{file}@{script.weight}"]
    return arguments


def _run(target: Target, arguments: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [target.pgbench, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=target.environment(),
            cwd=Path("/"),
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        command = " ".join(arguments)
        raise BenchmarkError(f"pgbench {command}: not over in {_PATIENCE:g} s") from error
    if done.returncode:
        raise BenchmarkError(f"pgbench {' '.join(arguments)}:\n{done.stderr[-2000:]}")
    return done.stdout


def _number(told: str, pattern: str) -> float:
    match = re.search(pattern, told)
    if match is None:
        raise BenchmarkError(f"pgbench did not tell {pattern!r}:\n{told}")
    return float(match[1])
