"""The checker of the coherence tests must itself be right."""

import pytest

from tests.faults.cache.history import History


def history(*writes: tuple[int | None, float, float | None]) -> History:
    """One key `k` with writes (state, began, ended)."""
    made = History()
    for state, began, ended in writes:
        made.begin("k", state, began).ended = ended
    return made


@pytest.mark.parametrize(
    ("state", "began", "ended", "right"),
    [
        (1, 3.5, 4.0, True),  # beside the second write: old or new
        (2, 3.5, 4.0, True),
        (1, 4.6, 5.0, False),  # the second was acknowledged at 4.5
        (2, 4.6, 5.0, True),
        (2, 1.0, 2.5, False),  # from the future: it had not begun
        (7, 4.6, 5.0, False),  # never written
        (None, 4.6, 5.0, False),
    ],
)
def test_reads_around_a_write(state: int | None, began: float, ended: float, right: bool) -> None:
    made = history((1, 0.0, 0.5), (2, 3.0, 4.5))
    made.saw("k", state, began, ended, "reader")
    assert (not made.wrong) is right


@pytest.mark.parametrize("state", [1, 2, 3])
def test_a_write_of_unknown_outcome_demands_nothing(state: int) -> None:
    made = history((1, 0.0, 0.5), (2, 1.0, None), (3, 2.0, None))
    made.saw("k", state, 9.0, 9.1, "reader")
    assert not made.wrong


def test_after_an_acknowledged_write_earlier_unknown_ones_explain_nothing() -> None:
    made = history((1, 0.0, 0.5), (2, 1.0, None), (3, 2.0, 2.5))
    made.saw("k", 2, 3.0, 3.1, "reader")
    (violation,) = made.wrong
    assert violation.floor == 3
    assert violation.age == 0.5


def test_a_deleted_row_may_be_absent_and_must_not_come_back() -> None:
    made = history((1, 0.0, 0.5), (None, 1.0, 1.5))
    made.saw("k", None, 2.0, 2.1, "right")
    made.saw("k", 1, 2.0, 2.1, "wrong")
    assert [each.read.reader for each in made.wrong] == ["wrong"]
