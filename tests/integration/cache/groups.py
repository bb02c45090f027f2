"""Redis servers that stand in for each other: behind Sentinels, and as a cluster."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.local.programs import find_redis
from tests.integration.cache.servers import OwnRedis, free_port

MASTER = "cachemaster"
DOWN_AFTER = 700
"""Milliseconds."""
NODE_TIMEOUT = 1500
"""Milliseconds; clusters take it up to twice."""
SLOTS = 16384


def wait_for(reached: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Raises AssertionError if it doesn't come to be so."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if reached():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def cut_off(primary: OwnRedis, replicas: list[OwnRedis]) -> None:
    """Nothing that the primary does from now on reaches them; they are frozen."""
    for replica in replicas:
        replica.freeze()
    primary.client().execute_command("CLIENT KILL", "TYPE", "replica")


class OwnSentinel:
    """One Sentinel that watches a primary."""

    def __init__(self, directory: Path, primary: OwnRedis, quorum: int) -> None:
        directory.mkdir()
        self.port = free_port()
        self._config = directory / "sentinel.conf"
        self._config.write_text(
            f'port {self.port}\nbind 127.0.0.1\ndir "{directory}"\n'
            f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} {quorum}\n"
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER}\n"
            f"sentinel failover-timeout {MASTER} 6000\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self) -> Any:
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        program = find_redis(system=False).server
        self._process = subprocess.Popen(
            [program, self._config, "--sentinel"], stdout=subprocess.DEVNULL
        )
        wait_for(lambda: bool(self.client().ping()), "a Sentinel answers")

    def state(self) -> dict[str, object]:
        """What it knows of the primary."""
        state: dict[str, object] = self.client().sentinel_master(MASTER)
        return state

    def fail_over(self) -> None:
        """Promote another, though nothing is wrong with the primary."""
        self.client().execute_command("SENTINEL FAILOVER", MASTER)

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Watched:
    """A primary, replicas and Sentinels with a quorum of two thirds."""

    def __init__(self, directory: Path, replicas: int = 2, sentinels: int = 3) -> None:
        self.servers: list[OwnRedis] = []
        self.sentinels: list[OwnSentinel] = []
        self._directory = directory
        try:
            self._start(replicas, sentinels)
        except BaseException:
            self.kill()
            raise

    def _start(self, replicas: int, sentinels: int) -> None:
        first = self._server()
        for _ in range(replicas):
            self._server(
                "--replicaof", f"127.0.0.1 {first.port}", "--repl-diskless-sync-delay", "0"
            )
        wait_for(
            lambda: first.client().info("replication")["connected_slaves"] == replicas,
            "the replicas are there",
        )
        for number in range(sentinels):
            sentinel = OwnSentinel(self._directory / f"sentinel{number}", first, sentinels * 2 // 3)
            self.sentinels.append(sentinel)
            sentinel.start()
        wait_for(
            lambda: all(
                state["num-other-sentinels"] == sentinels - 1
                and state["num-slaves"] == replicas
                and "down" not in str(state["flags"])
                for state in (sentinel.state() for sentinel in self.sentinels)
            ),
            "the Sentinels know each other",
        )

    def _server(self, *options: str) -> OwnRedis:
        directory = self._directory / f"server{len(self.servers)}"
        directory.mkdir()
        server = OwnRedis(directory, *options)
        self.servers.append(server)
        server.start()
        return server

    @property
    def addresses(self) -> list[str]:
        """Of the Sentinels."""
        return [sentinel.address for sentinel in self.sentinels]

    def primary(self) -> OwnRedis:
        """As the servers themselves say; the first that says so."""
        for server in self.servers:
            try:
                if server.client().role()[0] in ("master", b"master"):
                    return server
            except redis.RedisError:
                continue
        raise AssertionError("no server says that it is the primary")

    def kill(self) -> None:
        for sentinel in self.sentinels:
            sentinel.kill()
        for server in self.servers:
            server.kill()


class OwnCluster:
    """Primaries, each with a replica."""

    def __init__(self, directory: Path, primaries: int = 3) -> None:
        self.nodes: list[OwnRedis] = []
        try:
            self._start(directory, primaries)
        except BaseException:
            self.kill()
            raise

    def _start(self, directory: Path, primaries: int) -> None:
        for number in range(2 * primaries):
            place = directory / f"node{number}"
            place.mkdir()
            options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            options += ["--cluster-node-timeout", str(NODE_TIMEOUT)]
            options += ["--repl-diskless-sync-delay", "0"]
            node = OwnRedis(place, *options)
            self.nodes.append(node)
            node.start()
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            bus = node.options[3]
            first.client().execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
            if number < primaries:
                low, high = (SLOTS * n // primaries for n in (number, number + 1))
                node.client().execute_command("CLUSTER ADDSLOTSRANGE", low, high - 1)
        wait_for(self._all_know_all, "the nodes know each other")
        for number, node in enumerate(self.nodes[primaries:]):
            leader = self.nodes[number].client().execute_command("CLUSTER MYID")
            node.client().execute_command("CLUSTER REPLICATE", leader)
        wait_for(self.well, "the cluster is well")

    def _all_know_all(self) -> bool:
        return all(
            _info(node)["cluster_known_nodes"] == str(len(self.nodes)) for node in self.nodes
        )

    def well(self) -> bool:
        """All nodes see all slots served, and each primary has its replica."""
        nodes = [node for node in self.nodes if node.running]
        states = [_info(node)["cluster_state"] for node in nodes]
        linked = [
            node.client().info("replication").get("master_link_status", "up") for node in nodes
        ]
        return set(states) == {"ok"} and set(linked) == {"up"}

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{node.port}" for node in self.nodes]

    def owner(self, slot: int) -> OwnRedis:
        """The node that has the slot, by the view of one that lives."""
        for node in self.nodes:
            if not node.running:
                continue
            for low, high, leader, *_ in node.client().execute_command("CLUSTER SLOTS"):
                if low <= slot <= high:
                    port = int(leader[1])
                    return next(one for one in self.nodes if one.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def _info(node: OwnRedis) -> dict[str, str]:
    answer = node.client().execute_command("CLUSTER INFO")
    if isinstance(answer, dict):
        return {str(key): str(value) for key, value in answer.items()}
    lines = (answer.decode() if isinstance(answer, bytes) else str(answer)).split()
    return dict(line.split(":", 1) for line in lines)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A primary with two replicas and three Sentinels."""
    started = Watched(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[OwnCluster]:
    """Three primaries with a replica each."""
    started = OwnCluster(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., OwnRedis]]:
    """Starts servers with further command line options."""
    servers: list[OwnRedis] = []

    def start(*options: str, **more: Any) -> OwnRedis:
        directory = tmp_path / f"redis{len(servers)}"
        directory.mkdir()
        server = OwnRedis(directory, *options, **more)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()
