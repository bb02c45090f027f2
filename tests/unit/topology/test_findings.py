from dataclasses import dataclass, field

import pytest

from proxy.config.settings import DatabaseSettings
from proxy.topology.build import build_topology
from proxy.topology.findings import Findings
from proxy.topology.node import DatabaseTopology, Node
from proxy.topology.positions import WalLayout
from proxy.topology.reading import Identity, Reading

NEVER = float("-inf")
PATIENCE = 1.0


def topology_of_three() -> DatabaseTopology:
    hosts = {"hosts": ["127.0.0.1:1", "127.0.0.1:2"]}
    return build_topology("db", DatabaseSettings.model_validate({"replicas": hosts}))


@dataclass
class Scene:
    """Three servers that answer as told, at times as told."""

    now: float = 0.0
    topology: DatabaseTopology = field(default_factory=topology_of_three)
    verdicts: list[tuple[str, bool, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        def note(node: Node, changed: bool) -> None:
            self.verdicts.append((node.name, node.healthy, changed))

        self.findings = Findings(self.topology, PATIENCE, note, lambda: self.now)
        self.primary = self.topology.primary
        self.replica, self.other = self.topology.replicas

    def inserts(
        self, at: float, lsn: int, *, flushed: int | None = None, system: int = 1, timeline: int = 1
    ) -> bool:
        """The primary answers; whether it should flush."""
        self.now = at
        reading = Reading(
            asked_at=at,
            round_trip=0.001,
            in_recovery=False,
            timeline=timeline,
            inserted=lsn,
            flushed=lsn if flushed is None else flushed,
            replayed=None,
            paused=False,
            commit_age=None,
        )
        return self.findings.answered(self.primary, identity(system), reading)

    def replays(
        self,
        at: float,
        lsn: int | None,
        *,
        node: Node | None = None,
        timeline: int = 1,
        round_trip: float = 0.001,
        commit_age: float | None = None,
    ) -> None:
        """A replica answers, replica1 by default."""
        self.now = at
        reading = Reading(
            asked_at=at,
            round_trip=round_trip,
            in_recovery=True,
            timeline=timeline,
            inserted=None,
            flushed=None,
            replayed=lsn,
            paused=False,
            commit_age=commit_age,
        )
        self.findings.answered(node or self.replica, identity(1), reading)


def identity(system: int) -> Identity:
    return Identity(system, WalLayout(16 << 20))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_replica_that_has_everything_is_as_fresh_as_the_sample(scene: Scene) -> None:
    scene.inserts(1.0, 1000)
    scene.replays(1.1, 1000)
    assert (scene.replica.fresh_until, scene.replica.lag_bytes) == (1.0, 0)
    assert scene.replica.lag_seconds == 0.0
    assert scene.other.fresh_until == NEVER


def test_an_idle_primarys_sample_freshens_replicas_without_asking_them(scene: Scene) -> None:
    scene.replays(0.9, 1000)
    scene.inserts(1.0, 1000)
    assert scene.replica.fresh_until == 1.0
    scene.inserts(2.0, 1000)
    assert scene.replica.fresh_until == 2.0
    scene.inserts(3.0, 1001)
    assert scene.replica.fresh_until == 2.0
    assert (scene.replica.lag_bytes, scene.replica.lag_seconds) == (1, 1.0)


def test_a_position_behind_a_page_header_is_reached_by_its_page(scene: Scene) -> None:
    assert not scene.inserts(1.0, (16 << 20) + 40, flushed=16 << 20)
    assert not scene.inserts(1.1, (16 << 20) + 40, flushed=16 << 20)
    scene.replays(1.2, 16 << 20)
    assert (scene.replica.fresh_until, scene.replica.lag_bytes) == (1.1, 0)


def test_a_tail_in_memory_is_flushed_once_it_stays(scene: Scene) -> None:
    assert not scene.inserts(1.0, 1200, flushed=1000)
    assert scene.inserts(1.1, 1200, flushed=1000)
    assert not scene.inserts(1.2, 1300, flushed=1200)


def test_where_there_are_no_replicas_nothing_is_flushed(scene: Scene) -> None:
    scene.topology.replicas.clear()
    scene.inserts(1.0, 1200, flushed=1000)
    assert not scene.inserts(1.1, 1200, flushed=1000)


def test_lag_grows_while_the_primary_is_silent(scene: Scene) -> None:
    scene.inserts(1.0, 1000)
    scene.replays(1.1, 1000)
    scene.findings.failed(scene.primary, "gone")
    scene.replays(1.9, 1000)
    assert scene.replica.lag_seconds == 0.0
    scene.replays(11.0, 1000)
    assert scene.replica.lag_seconds == 10.0
    assert scene.replica.healthy
    assert not scene.primary.healthy


def test_behind_every_sample_the_last_commit_tells_the_lag(scene: Scene) -> None:
    scene.inserts(1.0, 1000)
    scene.replays(1.1, 900, commit_age=77.0)
    assert scene.replica.fresh_until == NEVER
    assert scene.replica.lag_seconds == 77.0
    scene.replays(1.2, 900)
    assert scene.replica.lag_seconds is None


def test_after_a_failure_nothing_of_the_replica_is_known(scene: Scene) -> None:
    scene.inserts(1.0, 1000)
    scene.replays(1.1, 1000)
    scene.findings.failed(scene.replica, "gone")
    scene.inserts(1.2, 1000)
    node = scene.replica
    assert (node.healthy, node.error, node.fresh_until) == (False, "gone", NEVER)
    assert (node.lag_bytes, node.lag_seconds) == (None, None)
    scene.replays(1.3, 900)  # restarted further back
    assert (node.healthy, node.error, node.fresh_until) == (True, None, NEVER)


@pytest.mark.parametrize(("system", "timeline"), [(1, 2), (2, 1)])
def test_a_new_primary_puts_replicas_out_at_once(scene: Scene, system: int, timeline: int) -> None:
    """The replica is past the new primary's position, but on other WAL."""
    scene.inserts(1.0, 1000)
    scene.replays(1.1, 2000)
    scene.inserts(2.0, 1500, system=system, timeline=timeline)
    assert not scene.replica.healthy
    assert scene.replica.fresh_until == NEVER
    assert scene.primary.healthy


def test_a_replica_that_follows_the_new_primary_comes_back(scene: Scene) -> None:
    scene.inserts(1.0, 1000)
    scene.replays(1.1, 1000)
    scene.inserts(2.0, 1500, timeline=2)
    scene.replays(2.1, 1500, timeline=1)
    assert not scene.replica.healthy
    scene.replays(2.2, 1500, timeline=2)
    assert scene.replica.healthy
    assert scene.replica.fresh_until == 2.0


def test_a_replica_heard_before_the_primary_is_judged_when_that_speaks(scene: Scene) -> None:
    scene.replays(0.9, 1000, timeline=1)
    assert scene.replica.healthy
    assert scene.replica.fresh_until == NEVER
    scene.inserts(1.0, 900, timeline=2)
    assert not scene.replica.healthy


def test_verdicts_are_told_once(scene: Scene) -> None:
    for at in (1.0, 2.0):
        scene.inserts(at, 1000)
        scene.replays(at, 1000)
        scene.findings.failed(scene.other, "gone")
    scene.findings.failed(scene.replica, "gone")
    scene.findings.failed(scene.replica, "gone differently")
    assert scene.verdicts == [
        ("primary", True, False),
        ("replica1", True, True),
        ("replica2", False, False),
        ("replica1", False, True),
    ]


def test_latency_is_smoothed(scene: Scene) -> None:
    scene.inserts(0.5, 1000)
    scene.replays(1.0, 1000, round_trip=0.008)
    assert scene.replica.latency == pytest.approx(0.008)
    scene.replays(1.1, 1000, round_trip=0.016)
    assert scene.replica.latency == pytest.approx(0.009)
