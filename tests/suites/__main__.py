"""`python -m tests.suites`: run drivers' own test suites direct and through Penstock, compare."""

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.suites.comparison import Comparison
from tests.suites.definition import DIRECT, SETTINGS, load_known, load_suites
from tests.suites.execution import Run
from tests.suites.rounds import compare_all
from tests.suites.sources import Unavailable, prepare

CACHE = Path("build") / "suites"
_EVERY_SECONDS = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 if nothing was lost that `known.toml` doesn't give a reason for."""
    chosen = _parser().parse_args(arguments)
    suites, known = load_suites(), load_known()
    stop, good = threading.Event(), True
    for name in chosen.suite or [name for name, one in suites.items() if one.by_default]:
        try:
            ready = prepare(suites[name], Path(chosen.cache).resolve())
        except Unavailable as reason:
            print(f"left out: {reason}", flush=True)
            good = good and not chosen.suite
            continue
        settings = [each for each in SETTINGS if not chosen.setting or each.name in chosen.setting]
        settings = [each for each in settings if each.name != DIRECT]
        try:
            for found in compare_all(
                ready, settings, known, stop, chosen.jobs, _Progress(name).show, chosen.tests
            ):
                _report(found)
                good = good and found.good
        except KeyboardInterrupt:
            print(f"{name}: stopped; what was not compared yet is not counted", flush=True)
            return 130
    return 0 if good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__)
    every = [setting.name for setting in SETTINGS if setting.name != DIRECT]
    parser.add_argument(
        "--suite", action="append", choices=sorted(load_suites()), help="only this one; repeatable"
    )
    parser.add_argument(
        "--setting", action="append", choices=every, help="only this one; repeatable"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--cache", default=str(CACHE), help="where what pip fetched is kept")
    parser.add_argument("tests", nargs="*", help="only these files of the suite, or node ids")
    return parser


class _Progress:
    """A line for each run now and then."""

    def __init__(self, suite: str) -> None:
        self._suite = suite
        self._shown: dict[str, float] = {}

    def show(self, run: Run, seconds: float) -> None:
        name = run.setting.name
        if seconds - self._shown.get(name, 0.0) >= _EVERY_SECONDS:
            self._shown[name] = seconds
            done = len(run.outcomes)
            print(f"  {self._suite} {name}: {done} of {run.total}, {seconds:.0f} s", flush=True)


def _report(found: Comparison) -> None:
    print(
        f"{found.suite} {found.setting}: {found.held} held, {len(found.lost)} lost, "
        f"{len(found.known)} known not to hold",
        flush=True,
    )
    for test in found.lost:
        said = found.texts.get(test, "").strip().splitlines()
        print(f"  LOST {test}\n       {said[-1] if said else 'it was not run to its end'}")
    for test, reason in found.known.items():
        print(f"  known {test}: {reason}")
    for test in found.gained:
        print(f"  held although known.toml lists it: {test}")


if __name__ == "__main__":
    sys.exit(main())
