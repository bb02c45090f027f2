"""Limits that pools share: who gets the next place."""

from dataclasses import dataclass, field

from proxy.pool.limits import Limit


@dataclass(eq=False)
class Pool:
    """Counts its connections and does at once what it is asked for."""

    limit: Limit
    busy: int = 0
    idle: list[float] = field(default_factory=list)
    wanting: int = 0
    heeded: int = 0
    surrendered: int = 0

    def __post_init__(self) -> None:
        self.limit.pools[self] = None

    @property
    def size(self) -> int:
        return self.busy + len(self.idle)

    def idle_longest(self) -> float | None:
        return min(self.idle, default=None)

    def spare(self) -> None:
        self.idle.remove(min(self.idle))
        self.limit.gone()

    def heed(self) -> None:
        self.heeded += 1

    def surrender(self) -> None:
        self.surrendered += 1

    def grow(self) -> None:
        if self.wanting and self.open():
            self.wanting -= 1

    def open(self) -> bool:
        if not self.limit.admits(self):
            self.limit.starve(self)
            return False
        self.limit.content(self)
        self.limit.opening()
        self.busy += 1
        return True

    def finish(self) -> None:
        """A connection ends."""
        self.busy -= 1
        self.limit.gone()


def pools(most: int, count: int) -> tuple[Limit, list[Pool]]:
    limit = Limit(most, "limits.test")
    return limit, [Pool(limit) for _ in range(count)]


def test_no_more_than_the_limit() -> None:
    limit, (one, two) = pools(3, 2)
    assert [one.open(), two.open(), one.open(), two.open()] == [True, True, True, False]
    assert limit.count == 3
    assert limit.starving
    assert (one.heeded, two.heeded) == (1, 0)


def test_the_longest_idle_connection_makes_room() -> None:
    limit, (one, two, three) = pools(2, 3)
    assert one.open()
    assert two.open()
    one.busy, one.idle = 0, [5.0]
    two.busy, two.idle = 0, [4.0]
    assert three.open()
    assert (one.idle, two.idle, limit.count) == ([5.0], [], 2)


def test_ones_own_idle_connection_makes_no_room() -> None:
    limit, (one,) = pools(1, 1)
    assert one.open()
    one.busy, one.idle = 0, [1.0]
    assert not limit.admits(one)


def test_the_first_who_starved_is_served_first() -> None:
    limit, (one, two, three) = pools(1, 3)
    assert one.open()
    for pool in (two, three):
        pool.wanting = 1
        assert not pool.open()
    one.finish()
    assert (two.busy, three.busy, limit.count) == (1, 0, 1)
    two.finish()
    assert (two.busy, three.busy, limit.count) == (0, 1, 1)


def test_who_needs_nothing_any_more_does_not_hold_up_the_next() -> None:
    limit, (one, two, three) = pools(1, 3)
    assert one.open()
    assert not two.open()
    assert not three.open()
    three.wanting = 1
    one.finish()
    assert (two.busy, three.busy) == (0, 1)
    assert not limit.starving


def test_the_largest_gives_up_a_connection_to_a_smaller_one() -> None:
    limit, (one, two, three) = pools(3, 3)
    assert one.open()
    assert one.open()
    assert two.open()
    limit.demand(three)
    assert one.surrendered == 0  # three has not asked for any
    assert not three.open()
    limit.demand(three)
    assert (one.surrendered, two.surrendered) == (1, 0)


def test_equals_do_not_take_from_each_other() -> None:
    limit, (one, two) = pools(2, 2)
    assert one.open()
    assert two.open()
    assert not two.open()
    limit.demand(two)
    assert one.surrendered == 0


def test_a_pool_that_leaves_is_asked_for_nothing() -> None:
    limit, (one, two) = pools(1, 2)
    assert one.open()
    assert not two.open()
    limit.leave(two)
    assert not limit.starving
    limit.leave(one)
    limit.starve(two)
    assert one.heeded == 1
