"""What plans cost where their texts are new: `python -m benchmarks.parsing`.

Statements are planned as for a client, without a server or a client: most are known, a share is
new in its names, so that neither the text nor its shape without literals has been seen. All is
analysed in this process; a Penstock at work gives long texts to a process beside it. Times are CPU
time of this process; the longest step is how long everybody else waits for one statement.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import logic
from proxy.session.plans import PlanCache

_KNOWN = 500
"""Texts that were planned before the clock starts."""
_HIT_RATES = (1.0, 0.999, 0.9, 0.0)
_POINT = "SELECT abalance, bid AS {name} FROM pgbench_accounts WHERE aid = $1"
_JOIN = (
    "SELECT c.id, c.name, count(o.id) AS {name}, sum(o.total) AS revenue, max(o.placed_at) AS last "
    "FROM customers c JOIN orders o ON o.customer_id = c.id "
    "LEFT JOIN refunds r ON r.order_id = o.id WHERE c.region = $1 AND o.placed_at >= $2 "
    "AND r.id IS NULL GROUP BY c.id, c.name HAVING sum(o.total) > $3 ORDER BY revenue DESC LIMIT 20"
)
_SHAPES = {"select by key": _POINT, "join of three tables": _JOIN}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a run, in microseconds of CPU."""

    mean: float
    longest: float


def texts(shape: str, hit_rate: float, count: int, seed: int = 1) -> Iterator[bytes]:
    """So many texts, of which this share is among the `known` ones."""
    draw = random.Random(seed)
    for number in range(count):
        if draw.random() < hit_rate:
            yield _text(shape, f"known_{draw.randrange(_KNOWN)}")
        else:
            yield _text(shape, f"new_{seed}_{number}")


def known(shape: str) -> list[bytes]:
    """The texts that are planned before the clock starts."""
    return [_text(shape, f"known_{number}") for number in range(_KNOWN)]


def _text(shape: str, name: str) -> bytes:
    return shape.format(name=name).encode()


def measure(plans: PlanCache, wanted: Sequence[bytes]) -> Cost:
    """Plan these, one after the other."""
    longest = 0.0
    begun = before = time.process_time()
    for text in wanted:
        plans.of_text(text, True)
        now = time.process_time()
        longest = max(longest, now - before)
        before = now
    return Cost((before - begun) / len(wanted) * 1e6, longest * 1e6)


async def _run(count: int, most_new: int) -> None:
    print(f"{'':22} {'hits':>7} {'µs/statement':>13} {'longest, ms':>12}")
    for name, shape in _SHAPES.items():
        plans = logic.context().plans
        measure(plans, known(shape))
        for seed, rate in enumerate(_HIT_RATES, 1):
            number = count if rate == 1.0 else min(count, round(most_new / (1 - rate)))
            cost = measure(plans, list(texts(shape, rate, number, seed)))
            print(
                f"{name:22} {rate:7.1%} {cost.mean:13.2f} {cost.longest / 1000:12.2f}", flush=True
            )


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parsing", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="statements of each line")
    parser.add_argument("--new", type=int, default=300, help="new ones among them, at most")
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.count, arguments.new))
    return 0


if __name__ == "__main__":
    sys.exit(main())
