"""What the answers of a database's nodes, taken together, say of each node. No I/O."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.topology.health import Lineage, complaint
from proxy.topology.node import DatabaseTopology, Node, Role
from proxy.topology.positions import Samples, last_record_end
from proxy.topology.reading import Identity, Reading

_LATENCY_WEIGHT = 1 / 8

OnVerdict = Callable[[Node, bool], None]
"""Called with a node on its first verdict, and whenever its health changes; the flag says whether
`Node.healthy` differs from before."""


@dataclass(frozen=True, slots=True)
class _Answer:
    lineage: Lineage
    reading: Reading


class Findings:
    """Writes health, latency, freshness and lag into the nodes of `topology`.

    A sample of the primary counts as current for `patience` seconds. `on_sample` is called after
    each, by who reads the primary's WAL beside its replicas.
    """

    def __init__(
        self,
        topology: DatabaseTopology,
        patience: float,
        on_verdict: OnVerdict,
        clock: Callable[[], float] = time.monotonic,
        on_sample: Callable[[], None] | None = None,
    ) -> None:
        self._topology = topology
        self._patience = patience
        self._on_verdict = on_verdict
        self._on_sample = on_sample
        self._clock = clock
        self._samples = Samples()
        self._lineage: Lineage | None = None
        self._inserted: int | None = None
        self._answers: dict[str, _Answer] = {}
        """The last answer of each healthy replica."""
        self._judged: set[str] = set()

    def answered(self, node: Node, identity: Identity, reading: Reading) -> bool:
        """Take an answer; true where the node's WAL should be flushed now."""
        own = Lineage(identity.system, reading.timeline)
        error = complaint(node.role, reading, own, self._lineage)
        if error is not None:
            self.failed(node, error)
            return False
        earlier = reading.round_trip if node.latency is None else node.latency
        node.latency = earlier + (reading.round_trip - earlier) * _LATENCY_WEIGHT
        flush = False
        if node.role is Role.PRIMARY:
            flush = self._sample(own, identity, reading)
        elif node.role is Role.REPLICA:
            self._answers[node.name] = _Answer(own, reading)
            self._place(node)
        self._judge(node, None)
        return flush

    def failed(self, node: Node, error: str) -> None:
        """The node can't be asked, or must not be used."""
        if node.role is Role.REPLICA:
            # After a restart it may stand further back than before.
            self._answers.pop(node.name, None)
            self._place(node)
        self._judge(node, error)

    def _sample(self, own: Lineage, identity: Identity, reading: Reading) -> bool:
        """Keep a sample; true where WAL waits in the primary's memory and nothing moves it on.

        Standbys get flushed WAL only. A transaction left open, or a read that tidied a page, leaves
        a tail that the server flushes 15 s later: until then no replica could reach the position.
        """
        assert reading.inserted is not None  # what is not in recovery has both
        assert reading.flushed is not None
        if own != self._lineage:
            self._lineage = own
            self._samples.clear()
            self._judge_replicas_again()
        end = last_record_end(reading.inserted, identity.layout)
        self._samples.add(reading.asked_at, end)
        for replica in self._topology.replicas:
            self._place(replica)
        if self._on_sample is not None:
            self._on_sample()
        idle = reading.inserted == self._inserted
        self._inserted = reading.inserted
        waited_for = bool(self._topology.replicas) or self._on_sample is not None
        return idle and end > reading.flushed and waited_for

    def fresh_until(self, system: int, timeline: int, lsn: int) -> float:
        """The moment before which every acknowledged write lies before `lsn` of this WAL; -inf
        where that is not known, or another is the primary's."""
        if self._lineage != Lineage(system, timeline):
            return float("-inf")
        return self._samples.fresh_until(lsn)

    def newest(self, system: int, timeline: int) -> int | None:
        """The primary's position as sampled last, if this is its WAL."""
        if self._lineage != Lineage(system, timeline) or self._samples.latest is None:
            return None
        return self._samples.latest[1]

    def _judge_replicas_again(self) -> None:
        """Another server, or the same on another timeline, is the primary: what replicas said
        before may be about other WAL, at positions that look the same."""
        for replica in self._topology.replicas:
            answer = self._answers.get(replica.name)
            if answer is not None:
                error = complaint(replica.role, answer.reading, answer.lineage, self._lineage)
                if error is not None:
                    self.failed(replica, error)

    def _place(self, node: Node) -> None:
        """Set how fresh a replica is, from the samples and its last answer."""
        answer, latest = self._answers.get(node.name), self._samples.latest
        if answer is None or latest is None:
            node.fresh_until = float("-inf")
            node.lag_bytes = None
            node.lag_seconds = None if answer is None else answer.reading.commit_age
            return
        replayed = answer.reading.replayed
        assert replayed is not None  # or complaint would have said so
        now = self._clock()
        latest_at, latest_lsn = latest
        node.fresh_until = self._samples.fresh_until(replayed)
        node.lag_bytes = max(0, latest_lsn - replayed)
        if node.lag_bytes == 0 and now - latest_at <= self._patience:
            node.lag_seconds = 0.0
        elif node.fresh_until > float("-inf"):
            node.lag_seconds = max(0.0, now - node.fresh_until)
        else:  # further behind than the oldest sample
            node.lag_seconds = answer.reading.commit_age

    def _judge(self, node: Node, error: str | None) -> None:
        changed = node.healthy != (error is None)
        node.healthy = error is None
        node.error = error
        if changed or node.name not in self._judged:
            self._judged.add(node.name)
            self._on_verdict(node, changed)
        self._topology.tell()
