"""When a statement's results are taken to be asked for again, or not."""

from proxy.topology.statement_tallies import SELDOM, StatementTally


def misses(tally: StatementTally, count: int) -> None:
    for _ in range(count):
        tally.missed()


def test_hardly_any_hit() -> None:
    tally = StatementTally()
    misses(tally, 1999)
    assert not tally.seldom
    tally.hits += 50
    misses(tally, 1)
    assert tally.seldom
    assert tally.misses == 2000


def test_enough_hits() -> None:
    tally = StatementTally()
    tally.hits += 150
    misses(tally, 2000)
    assert not tally.seldom
    misses(tally, 2000)  # earlier hits don't count again
    assert tally.seldom


def test_reads_that_take_long() -> None:
    """A hit in fifty is worth while."""
    tally = StatementTally()
    tally.reads, tally.read_seconds = 100, 5.0
    tally.hits += 50
    misses(tally, 2000)
    assert not tally.seldom
    misses(tally, 2000)
    assert tally.seldom


def test_what_is_asked_for_again() -> None:
    tally = StatementTally()
    misses(tally, 2000)
    tally.passed(7500)
    for _ in range(500):
        tally.again()
    assert tally.seldom
    assert tally.bypasses == {SELDOM: 7500}
    tally.passed(7000)
    for _ in range(1000):
        tally.again()
    assert not tally.seldom
    misses(tally, 1999)
    assert not tally.seldom
