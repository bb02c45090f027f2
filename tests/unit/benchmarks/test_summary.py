"""What is made of measurements."""

from benchmarks.measuring.measurement import Calls
from benchmarks.report.summary import Figure, Row, figure, ratio_between, summarise
from tests.unit.benchmarks.samples import a_round, measured


def row(rows: list[Row], side: str) -> Row:
    (found,) = [one for one in rows if one.side == side]
    return found


def test_figures_are_medians_with_extremes() -> None:
    assert figure([3.0, 1.0, 2.0]) == Figure(2.0, 1.0, 3.0)


def test_values_that_are_missing_do_not_count() -> None:
    assert figure([None, 4.0, 2.0]) == Figure(3.0, 2.0, 4.0)
    assert figure([None, None]) is None


def test_ratios_are_taken_within_each_round() -> None:
    """A round on a machine half as fast changes no ratio, though it changes every figure."""
    rows = summarise(
        [
            a_round(
                measured("direct", 1, 1000.0),
                measured("pgbouncer", 1, 800.0, 10.0),
                measured("penstock", 1, 600.0, 12.0),
            ),
            a_round(
                measured("direct", 2, 500.0),
                measured("pgbouncer", 2, 400.0, 20.0),
                measured("penstock", 2, 300.0, 24.0),
            ),
        ]
    )
    found = row(rows, "penstock")
    assert found.throughput_to_direct == Figure(0.6, 0.6, 0.6)
    assert found.throughput_to_pgbouncer == Figure(0.75, 0.75, 0.75)
    assert found.cpu_to_pgbouncer == Figure(1.2, 1.2, 1.2)
    assert found.cpu == Figure(18.0, 12.0, 24.0)


def test_nothing_to_compare_with_gives_no_ratio() -> None:
    found = row(summarise([a_round(measured("penstock", 1, 600.0, 12.0))]), "penstock")
    assert found.throughput_to_direct is None
    assert found.cpu_to_pgbouncer is None


def test_a_round_that_the_other_lacks_is_left_out() -> None:
    taken = [
        a_round(measured("direct", 1, 1000.0), measured("penstock", 1, 500.0, 10.0)),
        a_round(measured("penstock", 2, 900.0, 10.0)),
    ]
    found = row(summarise(taken), "penstock")
    assert found.throughput_to_direct == Figure(0.5, 0.5, 0.5)
    assert found.per_second == Figure(700.0, 500.0, 900.0)


def test_servers_without_proxy_have_no_cost() -> None:
    assert row(summarise([a_round(measured("direct", 1, 1000.0))]), "direct").cpu is None


def test_added_latency_is_what_direct_does_not_have() -> None:
    taken = [
        a_round(measured("direct", 1, 9.0, p99=0.5), measured("penstock", 1, 9.0, p99=0.75)),
        a_round(measured("direct", 2, 9.0, p99=1.0), measured("penstock", 2, 9.0, p99=1.5)),
    ]
    assert row(summarise(taken), "penstock").p99_added == Figure(0.375, 0.25, 0.5)


def test_system_calls_of_whom_they_were_counted() -> None:
    calls = (Calls("select-simple", "penstock", {"sendto": 2.0}),)
    taken = [a_round(measured("direct", 1, 9.0), measured("penstock", 1, 9.0, 1.0), calls=calls)]
    assert row(summarise(taken), "penstock").calls == {"sendto": 2.0}
    assert row(summarise(taken), "direct").calls is None


def test_ratios_between_scenarios_are_taken_within_each_round() -> None:
    taken = [
        a_round(measured("penstock", number, 9.0, p99=p99, scenario=scenario))
        for scenario, latencies in (("alone", (2.0, 4.0)), ("crowd", (3.0, 5.0)))
        for number, p99 in enumerate(latencies)
    ]
    found = ratio_between(taken, ("crowd", "penstock"), ("alone", "penstock"), lambda one: one.p99)
    assert found == Figure(1.375, 1.25, 1.5)
