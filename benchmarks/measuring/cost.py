"""What processes have cost so far, out of /proc."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TICK_MICROSECONDS = 1_000_000 / os.sysconf("SC_CLK_TCK")
_ROUNDING = 3
"""Ticks by which two counts of the same may differ."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU in microseconds, user and system apart."""

    user: float = 0.0
    system: float = 0.0

    def since(self, before: "Cost") -> "Cost":
        """The CPU time spent since then."""
        return Cost(self.user - before.user, self.system - before.system)


def cost_of(pid: int) -> Cost:
    """Of a process, its living descendants, and those that it has waited for."""
    user = system = 0.0
    # Fields as proc(5) numbers them, less three: utime 14, stime 15, cutime 16, cstime 17.
    for one, fields in _family(pid).items():
        own_user, own_system, gone_user, gone_system = (
            int(field) * _TICK_MICROSECONDS for field in fields[11:15]
        )
        finer = _finer(one, own_user + own_system)
        user += own_user * finer + gone_user
        system += own_system * finer + gone_system
    return Cost(user, system)


def _finer(pid: int, ticks: float) -> float:
    """What to multiply a process's CPU time in whole ticks by, to have it exactly.

    The scheduler counts nanoseconds, but for living threads alone (sched-stats.rst in Linux's
    documentation): where threads have ended, or it doesn't tell, ticks must do.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        exact = sum(int((one / "schedstat").read_text().split()[0]) for one in tasks) / 1000
    except (OSError, ValueError, IndexError):
        return 1.0
    if not ticks or abs(exact - ticks) > _ROUNDING * _TICK_MICROSECONDS:
        return 1.0
    return exact / ticks


def memory_of(pid: int) -> int:
    """Bytes that a process and its descendants have in memory; what several share counts once.

    Where the kernel doesn't tell what is shared, it counts once for each.
    """
    return sum(_proportional(one) or int(s[21]) * _PAGE for one, s in _family(pid).items())


def family_of(pid: int) -> list[int]:
    """The ids of a process and its living descendants."""
    return list(_family(pid))


def _family(pid: int) -> dict[int, list[str]]:
    stats = {one: fields for one in _pids() if (fields := _stat(one)) is not None}
    children: dict[int, list[int]] = {}
    for one, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(one)
    family, waiting = {}, [pid]
    while waiting:
        one = waiting.pop()
        if one in stats:
            family[one] = stats[one]
        waiting += children.get(one, [])
    return family


def _proportional(pid: int) -> int:
    """The proportional set size (proc(5), smaps_rollup) in bytes; 0 if it can't be had."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.M)
    return int(match[1]) * 1024 if match else 0


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields behind the command's name, which may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
