"""What Sentinels and nodes of a cluster say, put together."""

from collections.abc import Sequence
from typing import Any

import pytest

from proxy.cache import cluster, sentinel
from proxy.cache.errors import LinkLost
from proxy.cache.site import Account, Verdict

OLD, NEW = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
SILENT = LinkLost("no route to host")

# Sentinels


def told(
    primary: tuple[str, int] = OLD,
    flags: str = "master",
    epoch: int = 1,
    quorum: int = 2,
    others: int = 2,
) -> list[bytes]:
    """An answer to SENTINEL MASTER."""
    answer: dict[str, object] = {
        "name": "m",
        "ip": primary[0],
        "port": primary[1],
        "flags": flags,
        "config-epoch": epoch,
        "num-other-sentinels": others,
        "quorum": quorum,
    }
    return [str(part).encode() for pair in answer.items() for part in pair]


def by_sentinels(*replies: Any) -> Verdict:
    return sentinel.judge([Account((f"s{n}", 1), reply) for n, reply in enumerate(replies)])


@pytest.mark.parametrize(
    "replies",
    [
        [told(), told(), told()],
        [told(), told(), SILENT],
        [told(), told(flags="master,s_down"), told()],
        [told(others=0, quorum=1)],
        [told(NEW, epoch=2), told(NEW, epoch=2), told(OLD)],  # one has not heard of it yet
        [told(others=4, quorum=3)] * 3 + [SILENT] * 2,
    ],
)
def test_confirmed(replies: Sequence[Any]) -> None:
    verdict = by_sentinels(*replies)
    assert verdict.primary == (NEW if told(NEW, epoch=2) in replies else OLD)
    assert verdict.moved_to == verdict.primary


@pytest.mark.parametrize(
    ("replies", "moved_to", "why"),
    [
        ([told(), SILENT, SILENT], OLD, "1 of 3 Sentinels see the primary 10.0.0.1:6379 up, and 2"),
        ([told(flags="master,s_down"), told(flags="master,s_down"), told()], OLD, "1 of 3"),
        ([told(flags="master,disconnected"), SILENT, told()], OLD, "1 of 3"),
        # The latest epoch counts, and one alone knows it.
        (
            [told(NEW, epoch=2), told(OLD), told(OLD)],
            NEW,
            "1 of 3 Sentinels see the primary 10.0.0.2",
        ),
        # One could begin a failover by itself, so all have to see the primary.
        ([told(quorum=1), told(quorum=1), SILENT], OLD, "2 of 3"),
        # There are more than were named.
        ([told(others=4)] * 2, OLD, "name all of them in cache.sentinels, which has 2"),
        ([SILENT, SILENT], None, "no Sentinel tells of the primary (s0:1: no route to host)"),
        ([[b"ip"], b"PONG", []], None, "no Sentinel tells"),
    ],
)
def test_not_confirmed(replies: Sequence[Any], moved_to: object, why: str) -> None:
    verdict = by_sentinels(*replies)
    assert verdict.primary is None
    assert not verdict.failing_over
    assert verdict.moved_to == moved_to
    assert why in verdict.why


def test_a_failover_under_way_ends_all_trust() -> None:
    verdict = by_sentinels(told(), told(), told(flags="master,failover_in_progress,force_failover"))
    assert (verdict.primary, verdict.failing_over) == (None, True)


# Clusters

SLOT = 866
NODES = {name: (f"10.0.0.{n}", 7000) for n, name in enumerate("abcd", 1)}


def seen_by(
    observer: str, owner: str = "a", failed: str = "", doubted: str = "", epoch: int = 1
) -> bytes:
    """An answer to CLUSTER NODES: three primaries, and d as a replica of the owner."""
    ranges = {owner: "0-5460", "b": "5461-10922", "c": "10923-16383 [866->-x]"}
    lines = []
    for name, (host, port) in NODES.items():
        flags = ["myself"] if name == observer else []
        flags.append("master" if name in ranges else "slave")
        flags += ["fail"] if name == failed else []
        flags += ["fail?"] if name == doubted else []
        leader = "-" if name in ranges else owner
        own = epoch if name == owner else 0
        slots = ranges.get(name, "")
        place = f"{host}:{port}@17000,host"
        lines.append(f"{name} {place} {','.join(flags)} {leader} 0 0 {own} connected {slots}")
    return "\n".join(lines).encode()


def by_nodes(*replies: tuple[str, Any]) -> Verdict:
    return cluster.judge(SLOT, [Account(NODES[name], reply) for name, reply in replies])


def test_a_majority_of_primaries_confirms() -> None:
    verdict = by_nodes(("a", seen_by("a")), ("b", seen_by("b")), ("c", SILENT))
    assert verdict.primary == NODES["a"]
    assert set(verdict.ask) == {NODES[name] for name in "abc"}


def test_the_latest_epoch_counts() -> None:
    after = {name: seen_by(name, owner="d", epoch=5) for name in "bcd"}
    verdict = by_nodes(("a", seen_by("a")), ("b", after["b"]), ("d", after["d"]), ("c", SILENT))
    assert verdict.primary == NODES["d"]
    assert by_nodes(("a", seen_by("a")), ("b", after["b"]), ("c", seen_by("c"))).primary is None


@pytest.mark.parametrize(
    "replies",
    [
        [("a", seen_by("a")), ("b", SILENT), ("c", SILENT)],
        [("a", seen_by("a")), ("d", seen_by("d"))],  # a replica has no vote
        [("a", seen_by("a")), ("b", seen_by("b", failed="a")), ("c", seen_by("c", doubted="a"))],
    ],
)
def test_no_majority(replies: Sequence[tuple[str, Any]]) -> None:
    verdict = by_nodes(*replies)
    assert (verdict.primary, verdict.moved_to) == (None, NODES["a"])
    assert "1 of 3 primaries" in verdict.why
    assert set(verdict.ask) == {NODES[name] for name in "abc"}  # they might


def test_a_node_that_does_not_know_its_own_address() -> None:
    lines = seen_by("a").replace(b"10.0.0.1:7000", b":7000")
    verdict = by_nodes(("a", lines), ("b", seen_by("b")))
    assert verdict.primary == NODES["a"]


@pytest.mark.parametrize("reply", [b"", b"nonsense", b"a b c d e f g h 1-x", 5, SILENT])
def test_what_is_no_answer(reply: Any) -> None:
    verdict = by_nodes(("a", reply))
    assert verdict.primary is None
    assert "no node tells who has slot 866" in verdict.why


def test_slots() -> None:
    assert cluster.slot_of(b"123456789") == 12739  # of the cluster's specification
