"""Failed logins by address."""

import ipaddress

import pytest

from proxy.auth.networks import parse_address
from proxy.auth.throttle import Limits, Throttle, throttled_address

LIMITS = Limits(failures=3, window=60.0, most=2.0)


def test_the_first_failures_are_answered_at_once_later_ones_ever_slower() -> None:
    throttle = Throttle(LIMITS)
    delays = [throttle.failed("a", 100.0 + 5 * number) for number in range(8)]
    assert delays == [0, 0, 0, 0.25, 0.5, 1.0, 2.0, 2.0]


def test_addresses_are_apart() -> None:
    throttle = Throttle(LIMITS)
    for _ in range(5):
        throttle.failed("a", 1.0)
    assert throttle.failed("b", 1.0) == 0
    assert throttle.wait("b", 1.0) == 0


def test_failures_are_forgotten_after_the_window() -> None:
    throttle = Throttle(LIMITS)
    for _ in range(4):
        throttle.failed("a", 1.0)
    assert throttle.failed("a", 60.9) > 0
    assert throttle.failed("a", 121.0) == 0


def test_few_refusals_are_held_back_at_a_time() -> None:
    """Who doesn't wait for the answer gains nothing by that."""
    throttle = Throttle(LIMITS)
    for _ in range(3):
        throttle.failed("a", 10.0)
    assert throttle.wait("a", 10.0) == 0
    for _ in range(3):
        throttle.failed("a", 10.0)
    assert throttle.wait("a", 10.0) == pytest.approx(0.25)
    assert throttle.wait("a", 10.2) == pytest.approx(0.05)
    assert throttle.wait("a", 10.25) == 0


def test_guesses_of_an_hour_are_few() -> None:
    """However eager: as many at once as are let in, as soon as they are let in."""
    throttle, now, guesses = Throttle(LIMITS), 0.0, 0
    while now < 3600:
        if wait := throttle.wait("a", now):
            now += wait
        else:
            throttle.failed("a", now)
            guesses += 1
    assert guesses <= 3600 / LIMITS.most * LIMITS.failures + 10


def test_the_table_is_bounded() -> None:
    throttle = Throttle(LIMITS, most_addresses=100)
    for number in range(1000):
        throttle.failed(str(number), 1.0)
    assert len(throttle) == 100
    for _ in range(100_000):
        throttle.failed("a", 1.0)
    assert len(throttle) == 100


def test_switched_off() -> None:
    throttle = Throttle(Limits(failures=0))
    assert [throttle.failed("a", 1.0) for _ in range(50)] == [0.0] * 50
    assert throttle.wait("a", 1.0) == 0


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fd00:0:0:1::5", "fd00:0:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_what_is_one_address(host: str, name: str) -> None:
    address = parse_address(host)
    assert address is not None
    assert throttled_address(address) == name


def test_unix_sockets_are_one_address() -> None:
    assert throttled_address(None) == "local"
    assert parse_address("/run/x") is None
    assert parse_address("::1") == ipaddress.ip_address("::1")
