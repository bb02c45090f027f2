"""The machine that figures are taken on, and what else it does."""

import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """Processor, CPUs that we may use, memory, kernel, Python."""
    return {
        "processor": _first(r"model name\s*: (.+)", "/proc/cpuinfo") or platform.machine(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


@dataclass(frozen=True, slots=True)
class Bustle:
    """How busy the machine is while we do nothing.

    Attributes:
        load: the load average of the last minute, in which our own work is.
        others: tasks that run or want to, not counting ours.
    """

    load: float
    others: float


def look_around(seconds: float = 0.3, samples: int = 15) -> Bustle:
    """Sample for so long. Nothing of our own may be under load meanwhile."""
    running = 0
    for _ in range(samples):
        time.sleep(seconds / samples)
        # "0.20 0.18 0.12 1/80 11206": the fourth counts runnable tasks, this one among them.
        running += int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0])
    return Bustle(round(os.getloadavg()[0], 2), max(0.0, round(running / samples - 1, 2)))


def _first(pattern: str, file: str) -> str | None:
    try:
        match = re.search(pattern, Path(file).read_text(encoding="utf-8"))
    except OSError:
        return None
    return match[1] if match else None
