"""What is made of runs."""

from benchmarks.relay.measure import Run
from benchmarks.relay.summary import Figure, Row, figure, summarise


def run(contender: str, number: int, per_second: float, cpu: float | None = None) -> Run:
    half = None if cpu is None else cpu / 2
    return Run("case", contender, number, per_second, 1.0, None, half, half)


def row(rows: list[Row], contender: str) -> Row:
    (found,) = [one for one in rows if one.contender == contender]
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
            *(run("direct", 1, 1000.0), run("pgbouncer", 1, 800.0, 10.0)),
            run("penstock", 1, 600.0, 12.0),
            *(run("direct", 2, 500.0), run("pgbouncer", 2, 400.0, 20.0)),
            run("penstock", 2, 300.0, 24.0),
        ]
    )
    found = row(rows, "penstock")
    assert found.throughput_to_direct == Figure(0.6, 0.6, 0.6)
    assert found.throughput_to_pgbouncer == Figure(0.75, 0.75, 0.75)
    assert found.cpu_to_pgbouncer == Figure(1.2, 1.2, 1.2)
    assert found.cpu == Figure(18.0, 12.0, 24.0)


def test_nothing_to_compare_with_gives_no_ratio() -> None:
    found = row(summarise([run("penstock", 1, 600.0, 12.0)]), "penstock")
    assert found.throughput_to_direct is None
    assert found.cpu_to_pgbouncer is None


def test_a_round_that_the_other_lacks_is_left_out() -> None:
    rows = summarise(
        [
            run("direct", 1, 1000.0),
            run("penstock", 1, 500.0, 10.0),
            run("penstock", 2, 900.0, 10.0),
        ]
    )
    assert row(rows, "penstock").throughput_to_direct == Figure(0.5, 0.5, 0.5)
    assert row(rows, "penstock").per_second == Figure(700.0, 500.0, 900.0)


def test_servers_without_proxy_have_no_cost() -> None:
    assert row(summarise([run("direct", 1, 1000.0)]), "direct").cpu is None


def test_the_share_from_the_cache() -> None:
    hit = Run("case", "penstock", 1, 9.0, 1.0, None, 1.0, 1.0, 1, {"cache": 0.75, "replica": 0.25})
    assert row(summarise([hit]), "penstock").from_cache == Figure(0.75, 0.75, 0.75)
