from dataclasses import replace

import pytest

from proxy.topology.health import Lineage, complaint
from proxy.topology.node import Role
from proxy.topology.reading import Reading

OURS = Lineage(system=7, timeline=2)
STANDBY = Reading(
    asked_at=0.0,
    round_trip=0.001,
    in_recovery=True,
    timeline=2,
    inserted=None,
    flushed=None,
    replayed=100,
    paused=False,
    commit_age=None,
)
WRITER = replace(STANDBY, in_recovery=False, inserted=100, flushed=100, replayed=None)


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SHARD])
def test_a_server_that_takes_writes(role: Role) -> None:
    assert complaint(role, WRITER, OURS, None) is None
    error = complaint(role, STANDBY, OURS, OURS)
    assert error is not None
    assert error.startswith(f"is a standby, but configured as {role}")


def test_a_primary_may_change_its_timeline() -> None:
    assert complaint(Role.PRIMARY, WRITER, OURS, Lineage(7, 1)) is None


@pytest.mark.parametrize("primary", [OURS, None])
def test_a_replica_of_this_primary(primary: Lineage | None) -> None:
    assert complaint(Role.REPLICA, STANDBY, OURS, primary) is None


@pytest.mark.parametrize(
    ("reading", "primary", "start"),
    [
        (WRITER, OURS, "is no standby"),
        (STANDBY, Lineage(8, 2), "is no replica of this primary"),
        (STANDBY, Lineage(7, 1), "is on timeline 2, the primary on 1"),
        (STANDBY, Lineage(7, 3), "is on timeline 2, the primary on 3"),
        (replace(STANDBY, replayed=None), OURS, "has replayed nothing yet"),
    ],
)
def test_what_a_replica_must_not_be(reading: Reading, primary: Lineage, start: str) -> None:
    error = complaint(Role.REPLICA, reading, OURS, primary)
    assert error is not None
    assert error.startswith(start)
