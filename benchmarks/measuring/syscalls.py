"""How many system calls a proxy makes, as strace counts them.

strace slows down what it follows, so this is a pass of its own, short and without a clock.
"""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring.cost import family_of
from benchmarks.servers.programs import BenchmarkError, find_program

_ATTACH_SECONDS = 20.0
_ENDING = ("exit_group", "restart_syscall")
"""Not calls of the proxy's own."""


def why_not() -> str | None:
    """Why calls can't be counted here; None: they can."""
    program = find_program("strace")
    if program is None:
        return "strace is not installed (Debian: apt-get install strace)"
    # PTRACE_TRACEME needs no permission, following another process may: try that.
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        tried = subprocess.run(
            ["timeout", "-s", "INT", "0.3", program, "-qq", "-p", str(sleeper.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        sleeper.kill()
        sleeper.wait()
    if "not permitted" in tried.stderr:
        return "strace may not follow other processes here (kernel.yama.ptrace_scope, containers)"
    return None


def count_calls(pid: int, work: Callable[[], object], report: Path) -> dict[str, int]:
    """The calls by name that a process and its children make while `work` runs."""
    program = find_program("strace")
    assert program is not None
    family = family_of(pid)
    followed = [argument for one in family for argument in ("-p", str(one))]
    strace = subprocess.Popen(
        [program, "-c", "-f", "-qq", "-o", report, *followed],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for(strace, family)
        work()
    finally:
        strace.send_signal(signal.SIGINT)
        try:
            strace.communicate(timeout=_ATTACH_SECONDS)
        except subprocess.TimeoutExpired:
            strace.kill()
            strace.communicate()
    return parse_counts(report.read_text(encoding="utf-8"))


def parse_counts(table: str) -> dict[str, int]:
    """The calls by name, out of the table that `strace -c` prints.

    Columns are "% time, seconds, usecs/call, calls, errors, syscall"; errors may be empty.
    """
    counts: dict[str, int] = {}
    for line in table.splitlines():
        match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*$", line)
        if match and match[2] != "total" and match[2] not in _ENDING:
            counts[match[2]] = counts.get(match[2], 0) + int(match[1])
    return counts


def calls_each(few: dict[str, int], many: dict[str, int], more: int) -> dict[str, float]:
    """The calls by name for each of the `more` statements that the second pass had."""
    each = {name: (count - few.get(name, 0)) / more for name, count in many.items()}
    found = sorted(each.items(), key=lambda item: -item[1])
    return {name: round(count, 3) for name, count in found if count >= 0.005}


def _wait_for(strace: "subprocess.Popen[str]", family: list[int]) -> None:
    """Until all of the family are followed."""
    deadline = time.monotonic() + _ATTACH_SECONDS
    while not all(_is_followed(one) for one in family):
        if strace.poll() is not None or time.monotonic() > deadline:
            raise BenchmarkError("strace did not follow the proxy's processes")
        time.sleep(0.01)


def _is_followed(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return True  # it has ended
    return "\nTracerPid:\t0\n" not in status
