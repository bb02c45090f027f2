"""COPY in and out by psql, which pgbench can't run."""

import asyncio
import re
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.clients.load import Load, Target, make_load
from benchmarks.scenarios import Scenario
from benchmarks.scripts import COPY_OUT, COPY_ROWS
from benchmarks.servers.programs import BenchmarkError

_PATIENCE = 60.0
"""For one COPY."""
_TIMING = re.compile(r"Time: ([\d.]+) ms")


def load(target: Target, scenario: Scenario, seconds: float) -> Load:
    """Have each client copy again and again until the time is over."""
    return asyncio.run(_load(target, scenario, seconds, 0))


def run_each(target: Target, scenario: Scenario, transactions: int) -> None:
    """Have each client log in, copy so many times and leave."""
    asyncio.run(_load(target, scenario, 0.0, transactions))


def _commands(directory: Path, direction: str, client: int) -> tuple[str, str]:
    """What is not measured, and what is. Each client fills a table of its own, which it empties."""
    if direction == "out":
        return "", COPY_OUT
    file = directory / "accounts.copy"
    if not file.exists():
        rows = (f"{number}\t1\t0\t{'':84}\n" for number in range(COPY_ROWS))
        file.write_text("".join(rows), encoding="ascii")
    return f"TRUNCATE bench_copy_{client};", rf"\copy bench_copy_{client} FROM '{file}'"


async def _load(target: Target, scenario: Scenario, seconds: float, each: int) -> Load:
    pairs = [_commands(target.directory, scenario.copy, n) for n in range(scenario.clients)]
    begun = time.monotonic()
    clients = [_client(target, *pair, begun + seconds, each) for pair in pairs]
    took = [one for client in await asyncio.gather(*clients) for one in client]
    elapsed = time.monotonic() - begun
    return make_load(len(took), len(took) / elapsed, [round(one * 1000) for one in took])


async def _client(
    target: Target, before: str, command: str, deadline: float, each: int
) -> list[float]:
    """Milliseconds of each copy."""
    psql = await asyncio.create_subprocess_exec(
        target.psql,
        *("-X", "-q", "-v", "ON_ERROR_STOP=1"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=target.environment(),
    )
    assert psql.stdin is not None
    assert psql.stdout is not None
    took: list[float] = []
    try:
        while len(took) < each or time.monotonic() < deadline:
            psql.stdin.write(f"{before}\n\\timing on\n{command}\n\\timing off\n".encode())
            took.append(await _timing(psql.stdout))
        psql.stdin.close()
        await psql.wait()
    finally:
        with suppress(ProcessLookupError):
            psql.kill()
    return took


async def _timing(output: asyncio.StreamReader) -> float:
    said = ""
    async with asyncio.timeout(_PATIENCE):
        while line := (await output.readline()).decode(errors="replace"):
            if match := _TIMING.search(line):
                return float(match[1])
            said += line
    raise BenchmarkError(f"psql ended before its COPY did:\n{said[-2000:]}")
