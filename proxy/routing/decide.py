"""The decision for one execution: a plan, the session's facts and the nodes' state to a route.

On the hot path: no I/O, no allocation where a route of the same node and reason was made before.
"""

from typing import Final, cast

from proxy.config.settings import ReplicaSettings
from proxy.routing.plan import Access, Plan
from proxy.routing.route import Facts, Route, RouteRefused, ShardUnresolved, Target
from proxy.topology.node import DatabaseTopology, Node, Role

CANNOT_CONNECT_NOW = "57P03"
FEATURE_NOT_SUPPORTED = "0A000"

_MOST_ROUTES: Final = 1024
# Constants of a compiled module are found without a look-up, members of an enumeration are not.
_READ: Final = Access.READ
_REPLICA: Final = Role.REPLICA
_SHARD: Final = Role.SHARD
_TARGETS: Final = {
    Role.PRIMARY: Target.PRIMARY,
    Role.REPLICA: Target.REPLICA,
    Role.SHARD: Target.SHARD,
}


def decide(
    plan: Plan,
    facts: Facts,
    topology: DatabaseTopology,
    replicas: ReplicaSettings,
    turn: int,
    shard: int | None = None,
    max_lag: float = 0.0,
) -> Route:
    """Where one execution of `plan` goes, and why.

    `turn` grows with every decision and spreads reads over equal replicas. `shard` is what
    `plan.shard.resolve` returned where `plan.shard.shard` is None. `max_lag` is in seconds:
    replicas known to be further behind get no reads; 0 means any lag. Plans that are refused or
    answered locally have no route: don't ask. Raises `RouteRefused`.
    """
    if plan.shard is not None:
        return _to_shard(plan.shard.shard if shard is None else shard, facts, topology)
    linked = facts.linked
    if linked is not None:
        if linked.role is _SHARD and plan.touches_tables:
            raise _elsewhere(facts, linked, "tables that are not sharded")
        return _route(linked, _STAYS if facts.pinned is None else facts.pinned)
    if facts.pinned is not None:
        return _route(topology.primary, facts.pinned)
    if facts.in_transaction:
        return _route(topology.primary, "in a transaction, which may write")
    if plan.access is not _READ and not _begins_reading(plan, facts):
        return _route(topology.primary, plan.reason)
    hint = plan.node_hint
    if hint == "primary":
        return _route(topology.primary, "a hint or rule asks for the primary")
    policy = _policy
    if policy.settings is not replicas:
        policy.take(replicas)
    preference = policy.preference
    if hint is None and preference != "replica_preferred":
        if preference == "primary":
            return _route(topology.primary, "read_preference is primary")
        if preference == "primary_preferred":
            if topology.primary.healthy:
                return _route(topology.primary, "read_preference is primary_preferred")
            node = _pick(topology.replicas, facts.fresh_after, max_lag, replicas.balance, turn)
            if node is not None:
                return _route(node, "a read, and the primary is not healthy")
            return _route(topology.primary, "no replica can stand in for the primary")
        if preference == "nearest":
            return _route(*_nearest(topology, facts.fresh_after, max_lag, turn))
    node = _pick(topology.replicas, facts.fresh_after, max_lag, policy.balance, turn)
    if node is not None:
        return _route(node, _READS)
    return _without_replica(topology, facts, preference == "replica", max_lag)


def preference_of(plan: Plan, replicas: ReplicaSettings) -> str:
    """The `read_preference` that a plan goes by outside transactions, its hint included."""
    if plan.access is not _READ or plan.node_hint == "primary":
        return "primary"
    preference = replicas.read_preference
    if plan.node_hint is None or preference == "replica":
        return preference
    return "replica_preferred"


def standing(
    preference: str,
    topology: DatabaseTopology,
    replicas: ReplicaSettings,
    fresh_after: float,
    max_lag: float = 0.0,
) -> tuple[Node, ...]:
    """The nodes that reads of this preference go to, one after the other, as long as what is known
    of the nodes stays as it is; none where each has to be decided on.

    As `decide` has it for sessions that are bound to none; `fresh_after`, `max_lag` as there.
    """
    primary = (topology.primary,)
    if preference == "primary" or not topology.replicas:
        return primary
    if preference == "primary_preferred":
        return primary if topology.primary.healthy else ()
    fit = [
        node
        for node in topology.replicas
        if _pick([node], float("-inf"), max_lag, "round_robin", 0) is not None
    ]
    if not fit and preference == "replica_preferred":
        return primary
    alone = len(fit) == 1 and preference != "nearest"
    takes_turns = replicas.balance == "round_robin" and preference != "nearest"
    fresh = all(node.fresh_until >= fresh_after for node in fit)
    return tuple(fit) if fresh and (alone or takes_turns) else ()


class _Policy:
    """What a section of the settings says: its attributes take long to get at."""

    __slots__ = ("balance", "preference", "settings")

    def __init__(self) -> None:
        self.take(ReplicaSettings.model_validate({}))

    def take(self, settings: ReplicaSettings) -> None:
        self.settings = settings
        self.preference: str = settings.read_preference
        self.balance: str = settings.balance


_policy: Final = _Policy()
"""Those asked for last, nearly always the same again."""
_READS: Final = "only reads"
_STAYS: Final = "the transaction stays on its connection"


def _route(node: Node, reason: str) -> Route:
    route = node.routes.get(reason)
    if route is None:
        if len(node.routes) >= _MOST_ROUTES:
            node.routes.clear()
        route = node.routes[reason] = Route(
            _TARGETS[node.role], node, reason, node.role is _REPLICA
        )
    return cast(Route, route)


def _begins_reading(plan: Plan, facts: Facts) -> bool:
    """Whether it opens a transaction that can't write, so that a replica may run all of it."""
    begin = plan.begin
    return begin is not None and (
        facts.read_only_default if begin.read_only is None else begin.read_only
    )


def _pick(
    nodes: list[Node], fresh_after: float, max_lag: float, balance: str, turn: int
) -> Node | None:
    """The replica whose turn it is, or that has least to do, among those fit to read from."""
    count = len(nodes)
    best: Node | None = None
    for step in range(count):
        node = nodes[(turn + step) % count]
        if not node.healthy or node.fresh_until < fresh_after:
            continue
        if max_lag and node.lag_seconds is not None and node.lag_seconds > max_lag:
            continue
        if balance == "round_robin":
            return node
        if best is None or node.in_use < best.in_use:
            best = node
    return best


def _nearest(
    topology: DatabaseTopology, fresh_after: float, max_lag: float, turn: int
) -> tuple[Node, str]:
    """The fit node that answers fastest; taking turns while a latency is not known."""
    fit = [topology.primary] if topology.primary.healthy else []
    for step in range(len(topology.replicas)):
        replica = topology.replicas[step : step + 1]
        if _pick(replica, fresh_after, max_lag, "round_robin", 0) is not None:
            fit.extend(replica)
    if not fit:
        return topology.primary, "no healthy node"
    latencies = [node.latency for node in fit if node.latency is not None]
    if len(latencies) < len(fit):
        return fit[turn % len(fit)], "a read, and not all latencies are known"
    return fit[latencies.index(min(latencies))], "the nearest node"


def _without_replica(
    topology: DatabaseTopology, facts: Facts, strict: bool, max_lag: float
) -> Route:
    """The primary, and why no replica; an error where only replicas may be read."""
    healthy = False
    for node in topology.replicas:
        if node.healthy:
            healthy = True
            if not (max_lag and node.lag_seconds is not None and node.lag_seconds > max_lag):
                # Fit but for its freshness. Reading one's own writes comes before the preference,
                # even the strict one.
                return _route(topology.primary, "no replica has replayed this session's last write")
    if not topology.replicas:
        reason = "no replica is configured"
    elif not healthy:
        reason = "no healthy replica"
    else:
        reason = f"every replica is more than {max_lag:g} s behind"
    if strict:
        raise RouteRefused(
            CANNOT_CONNECT_NOW,
            f"no replica of database {topology.database!r} can be read: {reason}",
            'read_preference is "replica": with "replica_preferred" the primary would answer.',
        )
    return _route(topology.primary, reason)


def _to_shard(number: int | None, facts: Facts, topology: DatabaseTopology) -> Route:
    if number is None:
        raise ShardUnresolved
    node = topology.shards[number]
    linked = facts.linked
    if linked is not None and linked is not node:
        raise _elsewhere(facts, linked, f"rows on {node.name}")
    return _route(node, "the shard of the key")


def _elsewhere(facts: Facts, linked: Node, needs: str) -> RouteRefused:
    if facts.in_transaction:
        return RouteRefused(
            FEATURE_NOT_SUPPORTED,
            f"the transaction is on {linked.name}, and the statement needs {needs}",
            "Keep each transaction to one shard, or to tables that are not sharded.",
        )
    return RouteRefused(
        FEATURE_NOT_SUPPORTED,
        f"the session is bound to {linked.name} ({facts.pinned}), and the statement needs {needs}",
        "Use another connection for this statement.",
    )
