"""The run: scenario by scenario and round by round, the sides in turn, A B C A B C."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.measuring import syscalls
from benchmarks.measuring.instances import Instances
from benchmarks.measuring.machine import look_around
from benchmarks.measuring.measure import measure, measure_calls, prepare, probe
from benchmarks.measuring.measurement import Calls, Measurement, Round
from benchmarks.measuring.state import State, key_of
from benchmarks.scenarios import DIRECT, PENSTOCK_ROUTING, PENSTOCK_SHARDS, Scenario
from benchmarks.servers.place import Endpoint, Place, open_place
from benchmarks.servers.programs import BenchmarkError, most_clients
from benchmarks.sides import Side, taking_part

_PROBE_SECONDS = 1

_T = TypeVar("_T")


class Progress(Protocol):
    """Is told how far the run is."""

    def say(self, what: str) -> None:
        """What is under way."""

    def advance(self, steps: int = 1) -> None:
        """So many steps are done."""

    def took(self, taken: Round) -> None:
        """A round is over."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often.

    Attributes:
        minutes: that it may take; scenarios then have fewer rounds, but at least one; None: as
            long as it takes.
        directory: for the servers' data; None: the system's directory for such.
    """

    seconds: int
    rounds: int
    minutes: float | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One scenario with those who take part in it."""

    scenario: Scenario
    sides: Sequence[Side]
    key: str

    def steps(self, rounds: int) -> int:
        """Of so many rounds, for a progress bar."""
        return len(self.sides) * self.scenario.weight * rounds


def plan(scenarios: Sequence[Scenario], sides: Sequence[Side], seconds: int) -> list[Part]:
    """What there is to do: scenarios in which somebody takes part."""
    parts = [(one, taking_part(sides, one)) for one in scenarios if not too_many_clients(one)]
    return [Part(one, some, key_of(one, some, seconds)) for one, some in parts if some]


def too_many_clients(scenario: Scenario) -> str | None:
    """Why a scenario can't be run within the limit of open files here; None: it can."""
    if most_clients(scenario.connected) >= scenario.connected:
        return None
    return f"{scenario.connected} clients need more open files than this system allows (ulimit -Hn)"


def run(
    parts: Sequence[Part], state: State, options: Options, progress: Progress
) -> Iterator[Round]:
    """Every round, from the state where it is there, the others measured.

    Raises LocalStackError if the servers don't start. A side that fails has no figures in that
    round; one that does not start has none in the scenario.
    """
    allowance = Allowance(options.minutes, sum(part.steps(1) for part in parts))
    roles = {side.role for part in parts for side in part.sides}
    with ExitStack() as entered:
        open_instances: list[tuple[Place, Instances]] = []
        for part in parts:
            allowance.next(part.steps(1))
            done = list(state.rounds(part.key))[: options.rounds]
            yield from done
            progress.advance(part.steps(len(done)))
            if len(done) == options.rounds:
                continue
            if not open_instances:  # not before there is something to measure
                place = entered.enter_context(
                    open_place(
                        options.directory,
                        replicas=PENSTOCK_ROUTING in roles,
                        shards=PENSTOCK_SHARDS in roles,
                        progress=progress.say,
                    )
                )
                open_instances.append((place, entered.enter_context(Instances(place))))
            scene = _Scene(part, *open_instances[0], options, progress)
            yield from scene.rounds(done, state, allowance)


class Allowance:
    """The time that a run may take, shared among its scenarios by their steps.

    What a scenario leaves or takes too much goes to or from those behind it.
    """

    def __init__(
        self,
        minutes: float | None,
        steps: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._end = math.inf if minutes is None else now() + minutes * 60
        self._steps = steps
        self._until = self._end

    def next(self, steps: int) -> None:
        """A scenario with so many of the steps begins."""
        share = steps / self._steps
        now = self._now()
        self._until = now + (self._end - now) * share
        self._steps -= steps

    def has(self, seconds: float) -> bool:
        """Whether the scenario has so much time left."""
        return self._now() + seconds <= self._until


class _Scene:
    """One scenario with its sides up."""

    def __init__(
        self, part: Part, place: Place, instances: Instances, options: Options, progress: Progress
    ) -> None:
        self._part = part
        self._scenario = part.scenario
        self._place = place
        self._options = options
        self._progress = progress
        progress.say(f"{part.scenario.name}: starting the proxies")
        endpoints, failed = instances.serve(part.scenario, part.sides)
        self._endpoints: Mapping[str, Endpoint] = endpoints
        self._down = failed
        self._failed: dict[str, str] = {}
        """In the round that is under way."""

    def rounds(self, done: Sequence[Round], state: State, allowance: Allowance) -> Iterator[Round]:
        """Those that are not done, as far as time allows; each is kept before it is given."""
        for side in self._able():
            self._progress.say(f"{self._scenario.name}: filling {side.name}")
            self._attempt(side, prepare, *self._where(side))
        rate = done[0].rate if done else self._half_load()
        took = 0.0
        for number in range(len(done) + 1, self._options.rounds + 1):
            begun = time.monotonic()
            if number > self._scenario.least and not allowance.has(took):
                self._progress.advance(self._part.steps(self._options.rounds - number + 1))
                return
            taken = self._round(number, rate)
            took = time.monotonic() - begun
            state.add(self._part.key, taken)
            self._progress.took(taken)
            yield taken

    def _round(self, number: int, rate: float | None) -> Round:
        scenario, seconds = self._scenario, self._options.seconds
        self._progress.say(f"{scenario.name}, round {number}: how busy is the machine?")
        bustle = look_around()
        measurements: list[Measurement] = []
        for side in self._part.sides:
            if side.name not in self._down:
                self._progress.say(f"{scenario.name}, round {number}: {side.name}")
                where = self._where(side)
                found = self._attempt(side, measure, *where, number, seconds, rate)
                measurements += [found] if found else []
            self._progress.advance(scenario.weight)
        calls = self._calls() if number == 1 else []
        failed, self._failed = {**self._down, **self._failed}, {}
        return Round(scenario.name, number, bustle, rate, tuple(measurements), tuple(calls), failed)

    def _calls(self) -> list[Calls]:
        calls: list[Calls] = []
        if not self._scenario.traced or syscalls.why_not():
            return calls
        for side in self._able():
            if self._endpoints[side.name].pid is not None:
                self._progress.say(f"{self._scenario.name}, system calls: {side.name}")
                found = self._attempt(side, measure_calls, *self._where(side))
                calls += [found] if found else []
        return calls

    def _half_load(self) -> float | None:
        """Half of what the slowest side reaches, where the scenario wants that.

        The server alone is no measure: it is as a rule the fastest.
        """
        if not self._scenario.half_load:
            return None
        reached: list[float] = []
        for side in self._able():
            if side.role != DIRECT:
                self._progress.say(f"{self._scenario.name}: what can {side.name} do?")
                found = self._attempt(side, probe, *self._where(side), _PROBE_SECONDS)
                reached += [found] if found else []
        return min(reached) / 2 if reached else None

    def _able(self) -> list[Side]:
        return [side for side in self._part.sides if side.name not in self._down]

    def _where(self, side: Side) -> tuple[Place, Scenario, Side, Endpoint]:
        return self._place, self._scenario, side, self._endpoints[side.name]

    def _attempt(self, side: Side, work: Callable[..., _T], *arguments: object) -> _T | None:
        """What `work` gives; None, and the reason kept, if it can't be done."""
        try:
            return work(*arguments)
        except BenchmarkError as error:
            self._failed[side.name] = str(error).strip()
            return None
