"""Whether Penstock is where it is to be."""

from benchmarks.report.summary import Figure
from benchmarks.report.targets import TARGETS, judge
from benchmarks.scenarios import SCENARIOS
from tests.unit.benchmarks.samples import a_round, measured


def test_bounds_above_and_below() -> None:
    most = next(target for target in TARGETS if target.most)
    least = next(target for target in TARGETS if not target.most)
    at_both = [(one, Figure(one.bound, 0.0, 9.0)) for one in (most, least)]
    assert all(target.reached(found) for target, found in at_both)
    assert not most.reached(Figure(most.bound * 1.01, 0.0, 9.0))
    assert not least.reached(Figure(least.bound * 0.99, 0.0, 9.0))


def test_what_was_not_measured_is_not_judged() -> None:
    taken = [a_round(measured("pgbouncer", 1, 9.0, 10.0), measured("penstock", 1, 9.0, 12.0))]
    found = [verdict for verdict in judge(taken) if verdict.found]
    assert [verdict.target.what for verdict in found] == [
        "select by key, simple: CPU ÷ PgBouncer's"
    ]
    assert found[0].found == Figure(1.2, 1.2, 1.2)


def test_every_target_is_found_once_all_is_measured() -> None:
    taken = [
        a_round(
            *(
                measured(side, 1, 9.0, 10.0, p99=1.0, p999=2.0, scenario=scenario.name)
                for side in scenario.sides
            )
        )
        for scenario in SCENARIOS
    ]
    assert all(verdict.found for verdict in judge(taken))
