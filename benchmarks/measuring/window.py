"""The cost of a load's middle, for loads with so many clients that their logins would hide it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from benchmarks.measuring.cost import Cost, cost_of

_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process had cost at a moment (seconds since the epoch)."""

    moment: float
    cost: Cost


class Sampler:
    """Samples a process's cost for the length of a block, from a thread of its own."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.samples: list[Sample] = []

    def _sample(self) -> None:
        while not self._over.is_set():
            self.samples.append(Sample(time.time(), cost_of(self._pid)))
            self._over.wait(_INTERVAL)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()


def cost_each(samples: Sequence[Sample], ends: Sequence[float]) -> Cost | None:
    """The cost of each transaction, by the moments at which transactions ended.

    It is taken between the first and the last sample within which all ended: every client has
    logged in by the first, as pgbench's thread begins when all have. None where there are not two
    such samples with a transaction between.
    """
    if not ends:
        return None
    first, last = min(ends), max(ends)
    within = [sample for sample in samples if first <= sample.moment <= last]
    if len(within) < 2:
        return None
    begin, end = within[0], within[-1]
    count = sum(begin.moment < one <= end.moment for one in ends)
    spent = end.cost.since(begin.cost)
    return Cost(spent.user / count, spent.system / count) if count else None
