"""What a cancel key says, and what it must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import cancel_key
from proxy.wire.cancel_key import FIRST_SESSION, MOST_SESSIONS, MOST_WORKERS


@given(st.integers(0, MOST_WORKERS - 1), st.integers(1, MOST_SESSIONS))
def test_a_process_id_names_its_worker(worker: int, session: int) -> None:
    process_id = cancel_key.process_id(worker, session)
    assert 0 < process_id < 1 << 31
    assert cancel_key.worker_of(process_id) == worker


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(1, MOST_SESSIONS)), max_size=50))
def test_process_ids_differ(pairs: set[tuple[int, int]]) -> None:
    assert len({cancel_key.process_id(*pair) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("worker", "session"), [(-1, 1), (MOST_WORKERS, 1), (0, 0), (0, MOST_SESSIONS + 1)]
)
def test_numbers_that_have_no_key(worker: int, session: int) -> None:
    with pytest.raises(ValueError, match="no cancel key"):
        cancel_key.process_id(worker, session)


@pytest.mark.parametrize(("minor", "length"), [(0, 4), (1, 4), (2, 32)])
def test_secrets(minor: int, length: int) -> None:
    made = {cancel_key.new_secret(minor) for _ in range(50)}
    assert {len(secret) for secret in made} == {length}
    assert len(made) == 50


def test_session_numbers_are_not_counted() -> None:
    numbers = [cancel_key.new_session() for _ in range(200)]
    assert all(FIRST_SESSION <= number <= MOST_SESSIONS for number in numbers)
    assert max(numbers) - min(numbers) > MOST_SESSIONS // 4


def test_comparing() -> None:
    assert cancel_key.same(b"abcd", b"abcd")
    assert not cancel_key.same(b"abcd", b"abce")
    assert not cancel_key.same(b"abcd", b"abcdef")
    assert not cancel_key.same(b"", b"abcd")
