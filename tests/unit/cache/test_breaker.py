"""The circuit breaker, on a clock of its own."""

from proxy.cache.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def broken(timeouts: int = 3, pause: float = 5.0) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(timeouts, pause, clock), clock


def test_it_opens_at_the_last_of_so_many() -> None:
    breaker, clock = broken()
    assert [breaker.timed_out() for _ in range(3)] == [False, False, True]
    assert breaker.seconds_left == 5.0
    clock.now += 5
    assert breaker.seconds_left == 0.0


def test_time_outs_far_apart_do_not_add_up() -> None:
    breaker, clock = broken()
    for _ in range(10):
        assert not breaker.timed_out()
        clock.now += 5.1


def test_one_more_opens_it_again_until_redis_was_well_for_a_pause() -> None:
    breaker, clock = broken()
    for _ in range(3):
        breaker.timed_out()
    clock.now += 9.9  # closed for 4.9 s
    assert breaker.timed_out()
    assert breaker.seconds_left == 5.0
    clock.now += 10.1
    assert not breaker.timed_out()


def test_each_time_out_while_it_is_open_prolongs_it() -> None:
    breaker, clock = broken()
    for _ in range(3):
        breaker.timed_out()
    clock.now += 4
    assert breaker.timed_out()
    assert breaker.seconds_left == 5.0


def test_it_can_be_turned_off() -> None:
    breaker, _ = broken(timeouts=0)
    assert not any(breaker.timed_out() for _ in range(10))
    assert breaker.seconds_left == 0.0
