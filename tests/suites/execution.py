"""One suite run in one setting, in the driver's environment; its outcomes as they come."""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.suites.comparison import Outcomes
from tests.suites.definition import DJANGO, RUNTESTS, Setting, Suite
from tests.suites.places import Place, place_for
from tests.suites.sources import Ready

PLUGIN = Path(__file__).parent / "plugin"
TEST_SECONDS = 60
_WORSE = {"passed": 0, "skipped": 1, "failed": 2}


@dataclass(slots=True)
class Run:
    """What is known of a run so far."""

    setting: Setting
    outcomes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """What pytest said of tests that did not pass."""
    total: int = 0
    broken: list[str] = field(default_factory=list)
    """Files that could not be collected."""
    finished: bool = False

    def note(self, line: str) -> None:
        """Take a line of the recording plugin's."""
        record = json.loads(line)
        if "total" in record:
            self.total = max(self.total, record["total"])
        elif "broken" in record:
            self.broken.append(f"{record['broken']}: {record['text'][-300:]}")
        else:
            test, outcome = record["test"], record["outcome"]
            if _WORSE[outcome] >= _WORSE[self.outcomes.get(test, "passed")]:
                self.outcomes[test] = outcome
                self.texts[test] = record["text"]


def execute(
    ready: Ready,
    setting: Setting,
    stop: threading.Event,
    progress: Callable[[Run], None],
    tests: Sequence[str] = (),
    repeat: Callable[[Outcomes], Sequence[str]] = lambda _: (),
) -> Run:
    """Run the suite, or some of its files or tests, on servers started for it.

    `repeat` tells which tests to run once more afterwards, by themselves: a test that fails only
    on a busy machine is not lost.
    """
    run = Run(setting)
    with tempfile.TemporaryDirectory(prefix="penstock-suites-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # the servers' account must get through
        with place_for(ready.suite, setting, directory) as place:
            deadline = time.monotonic() + ready.suite.seconds
            _run(ready, place, tests or ready.suite.tests, run, stop, deadline, progress)
            again = [] if stop.is_set() else list(repeat(run.outcomes))
            if again:
                second = Run(setting)
                _run(ready, place, again, second, stop, deadline, lambda _: None)
                for test in again:
                    if second.outcomes.get(test) == "passed":
                        run.outcomes[test] = "passed"
    run.finished = not stop.is_set()
    return run


def _run(
    ready: Ready,
    place: Place,
    tests: Sequence[str],
    run: Run,
    stop: threading.Event,
    deadline: float,
    progress: Callable[[Run], None],
) -> None:
    suite = ready.suite
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch, "record")
        record.touch()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            **{name: value.format(**place) for name, value in suite.environment.items()},
            "PYTHONPATH": str(PLUGIN),
            "PENSTOCK_RECORD": str(record),
            "PENSTOCK_TEST_SECONDS": str(TEST_SECONDS),
        }
        arguments = [argument.format(**place) for argument in suite.arguments]
        with Path(scratch, "output").open("wb") as output, record.open(encoding="utf-8") as lines:
            process = subprocess.Popen(
                [ready.python, *_runner(suite, scratch), *arguments, *tests],
                cwd=ready.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            rest = ""
            try:
                while process.poll() is None and not stop.is_set() and time.monotonic() < deadline:
                    rest = _take(rest + lines.read(), run)
                    progress(run)
                    stop.wait(1.0)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                _take(rest + lines.read(), run)
        if not run.outcomes and not stop.is_set():
            said = Path(scratch, "output").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{suite.name}: nothing was run:\n{said[-3000:]}")


def _runner(suite: Suite, scratch: str) -> list[str]:
    if suite.runner == DJANGO:
        return [RUNTESTS, "--settings=penstock_django", "--noinput", "--parallel=1"]
    own = ["-q", "-p", "penstock_record", "-o", "addopts=", "-o", f"cache_dir={scratch}/cache"]
    return ["-P", "-m", "pytest", *own, f"--timeout={TEST_SECONDS}"]


def _take(text: str, run: Run) -> str:
    """Note whole lines; the part of a line that is left."""
    *lines, rest = text.split("\n")
    for line in lines:
        run.note(line)
    return rest
