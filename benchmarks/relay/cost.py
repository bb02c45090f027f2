"""What processes have cost so far, out of /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICK_MICROSECONDS = 1_000_000 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU in microseconds, user and system apart; resident bytes."""

    user: float = 0.0
    system: float = 0.0
    resident: int = 0

    def since(self, before: "Cost") -> "Cost":
        """The CPU time spent since then; memory as it is now."""
        return Cost(self.user - before.user, self.system - before.system, self.resident)


def cost_of(pid: int) -> Cost:
    """Of a process, its living descendants, and those that it has waited for.

    Memory that processes share counts once for each.
    """
    stats = {one: fields for one in _pids() if (fields := _stat(one)) is not None}
    family = {pid}
    found = True
    while found:
        found = False
        for one, fields in stats.items():
            if one not in family and int(fields[1]) in family:
                family.add(one)
                found = True
    members = [(one, stats[one]) for one in family if one in stats]
    # Fields as proc(5) numbers them, less three: utime 14, stime 15, cutime 16, cstime 17, rss 24.
    return Cost(
        user=sum(int(s[11]) + int(s[13]) for _, s in members) * _TICK_MICROSECONDS,
        system=sum(int(s[12]) + int(s[14]) for _, s in members) * _TICK_MICROSECONDS,
        resident=sum(int(s[21]) for _, s in members) * _PAGE,
    )


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields behind the command's name, which may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
