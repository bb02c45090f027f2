"""The scenarios as data, and the choice among them."""

import pytest

from benchmarks.scenarios import SCENARIOS, Script, choose

SIDES = ["direct", "pgbouncer", "pgpool", "pgpool-cache", "penstock", "penstock-2w"]


def test_names_are_unique() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)


def test_every_scenario_has_a_load() -> None:
    for scenario in SCENARIOS:
        assert bool(scenario.scripts) != bool(scenario.copy), scenario.name


def test_all_transactions_are_written_down_where_they_are_counted_by_that() -> None:
    for scenario in SCENARIOS:
        assert scenario.sampled == 1.0 or not scenario.many_logins, scenario.name


def test_names_of_built_in_scripts_are_told_from_texts() -> None:
    assert Script("select-only").is_builtin
    assert not Script("SELECT 1;\n").is_builtin


def test_everything_unless_something_is_named() -> None:
    chosen = choose([], SIDES)
    assert chosen.scenarios == SCENARIOS
    assert chosen.sides is None


def test_scenarios_by_the_beginning_of_their_names() -> None:
    chosen = choose(["select", "churn"], SIDES)
    assert [one.name for one in chosen.scenarios] == [
        "select-simple",
        "select-extended",
        "select-prepared",
        "churn",
    ]
    assert chosen.sides is None


def test_sides_by_the_beginning_of_their_names() -> None:
    assert choose(["pgp"], SIDES).sides == ["pgpool", "pgpool-cache"]


def test_a_side_that_is_named_exactly_is_meant_alone() -> None:
    assert choose(["penstock"], SIDES).sides == ["penstock"]


def test_whole_names_and_beginnings_together() -> None:
    chosen = choose(["pgb", "penstock", "direct"], SIDES)
    assert chosen.sides == ["direct", "pgbouncer", "penstock"]


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    with pytest.raises(ValueError, match=r"--only nothing: choose from select-simple.*penstock-2w"):
        choose(["nothing"], SIDES)
