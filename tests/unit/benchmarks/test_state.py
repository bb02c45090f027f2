"""What an interrupted run leaves for the next."""

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.measuring.measurement import Calls
from benchmarks.measuring.run import Allowance
from benchmarks.measuring.state import State, key_of
from benchmarks.scenarios import SCENARIOS
from benchmarks.sides import Side
from tests.unit.benchmarks.samples import a_round, measured

TAKEN = a_round(
    measured("direct", 1, 1000.0),
    measured("penstock", 1, 600.0, 12.0, p99=1.5),
    calls=(Calls("select-simple", "penstock", {"sendto": 2.0}),),
    failed={"pgpool": "no such luck"},
    rate=500.0,
)
SCENARIO, SIDE = SCENARIOS[0], Side("penstock", "penstock", identity="abc")


def test_rounds_are_there_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "state.jsonl"
    State(file).add("key", TAKEN)
    assert State(file).rounds("key") == [TAKEN]
    assert State(file).rounds("other") == ()


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    State(file).add("key", TAKEN)
    line = file.read_text()
    file.write_text(line + line[: len(line) // 2])
    assert State(file).rounds("key") == [TAKEN]


def test_lines_of_another_form_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    file.write_text(json.dumps({"key": "key", "something": "else"}) + "\n[]\n")
    assert State(file).rounds("key") == ()


def test_nothing_is_left_of_a_finished_run(tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    state = State(file)
    state.add("key", TAKEN)
    state.finish()
    assert state.rounds("key") == ()
    assert State(file).rounds("key") == ()


def test_what_figures_depend_on_makes_another_key() -> None:
    key = key_of(SCENARIO, [SIDE], 1)
    assert key == key_of(replace(SCENARIO), [replace(SIDE)], 1)
    others = [
        key_of(replace(SCENARIO, clients=17), [SIDE], 1),
        key_of(SCENARIO, [replace(SIDE, identity="abd")], 1),
        key_of(SCENARIO, [SIDE, SIDE], 1),
        key_of(SCENARIO, [SIDE], 2),
    ]
    assert len({key, *others}) == 5


def test_time_is_shared_by_steps_and_what_is_left_is_passed_on() -> None:
    clock = [0.0]
    allowance = Allowance(1.0, 4, lambda: clock[0])
    allowance.next(1)  # a fourth of 60 s
    assert allowance.has(15.0)
    assert not allowance.has(15.1)
    clock[0] = 5.0  # it took less; half of the rest is 27.5 s, of three steps, two at a time
    allowance.next(2)
    assert allowance.has(36.0)
    assert not allowance.has(37.0)
    clock[0] = 50.0  # it took more
    allowance.next(1)
    assert allowance.has(10.0)
    assert not allowance.has(11.0)


def test_without_limit_there_is_always_time() -> None:
    allowance = Allowance(None, 4)
    allowance.next(1)
    assert allowance.has(1e9)
