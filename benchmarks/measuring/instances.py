"""The sides that are up: started when a scenario needs them, kept while the next ones do."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType

from benchmarks.scenarios import Scenario
from benchmarks.servers.place import Endpoint, Place
from benchmarks.servers.programs import BenchmarkError
from benchmarks.sides import Side

Key = tuple[str, int]


class Instances:
    """As a context manager, it stops all at the end.

    Those that a scenario doesn't need are stopped before it, so that they cost it nothing.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._up: dict[Key, tuple[Endpoint, ExitStack]] = {}

    def serve(
        self, scenario: Scenario, sides: Sequence[Side]
    ) -> tuple[Mapping[str, Endpoint], Mapping[str, str]]:
        """Have these sides up and no others: where each is, and why any did not start."""
        wanted = {side.instance(scenario) for side in sides}
        for key in [key for key in self._up if key not in wanted]:
            self._up.pop(key)[1].close()
        failed: dict[str, str] = {}
        for side in sides:
            try:
                self._start(side, scenario)
            except BenchmarkError as error:
                failed[side.name] = str(error)
        found = {
            side.name: self._up[side.instance(scenario)][0]
            for side in sides
            if side.name not in failed
        }
        return found, failed

    def _start(self, side: Side, scenario: Scenario) -> None:
        key = side.instance(scenario)
        if key in self._up:
            return
        assert side.start is not None
        with ExitStack() as started:
            endpoint = started.enter_context(side.start(self._place, scenario))
            self._up[key] = endpoint, started.pop_all()

    def __enter__(self) -> "Instances":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as all_of_them:
            for _, started in self._up.values():
                all_of_them.push(started)
