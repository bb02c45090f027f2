"""Groups of the fast path (see `net.fast_path`), in rings, and what they have done made known.

A ring has a group for each node that its clients' reads go to in turn: the primary alone, or every
replica that is fit. It closes, so that all of them are decided on anew, as soon as they would go
elsewhere: a replica fails, comes back, lags or turns out to be further back than it was.
"""

from time import perf_counter
from typing import Final, NamedTuple

from proxy.net import fast_path
from proxy.net.channel import poller
from proxy.pool.backend import Backend, Borrower
from proxy.pool.pool import Pool
from proxy.pool.settings_state import SettingsState
from proxy.routing.decide import standing
from proxy.routing.plan import Plan
from proxy.session.context import DatabaseContext
from proxy.session.downstream import Downstream
from proxy.session.plans import PlanCache
from proxy.topology.counters import Counters, Tally
from proxy.topology.statement_tallies import SELDOM, StatementTally

_MOST_GROUPS: Final = 64
"""Of one pool: clients in more states of settings would take each other's servers all the time."""


class Key(NamedTuple):
    """What all in a ring have in common."""

    pools: tuple[Pool, ...]
    plans: PlanCache
    settings: SettingsState
    preference: str
    """See `decide.preference_of`."""
    own_writes: str
    """`routing.read_your_writes`."""


class Group(Borrower):
    """Clients and servers that fit together. The servers in it are lent to it."""

    __slots__ = ("context", "number", "pool")

    def __init__(self, context: DatabaseContext, pool: Pool) -> None:
        self.context = context
        self.pool = pool
        pool.uncrowd()  # servers may become free here that are not for the others
        self.number = fast_path.open_group()
        pool.fast_groups.append(self.number)

    def backend_returned(self, backend: Backend, request: bytes) -> None:
        if request:
            backend.unnamed = self.context.prepared.parsed_by(request)
        self.pool.release(backend)


class Ring:
    """See the module's docstring. Made by `ring_of`."""

    __slots__ = ("_fresh_after", "_seldom", "_watch", "context", "groups", "key")

    def __init__(self, context: DatabaseContext, key: Key) -> None:
        self.context = context
        self.key = key
        self._fresh_after = float("-inf")
        self._seldom: dict[StatementTally, None] = {}
        """Of which only what is asked for the first time is relayed here."""
        self.groups = {pool: Group(context, pool) for pool in key.pools}
        groups = list(self.groups.values())
        for group, following in zip(groups, groups[1:] + groups[:1], strict=True):
            fast_path.link_group(group.number, following.number)
            key.plans.fast_groups.append(group.number)
        self._watch = _watch_of(context)
        self._watch.rings.append(self)

    def admit(self, fresh_after: float) -> None:
        """A client enters that must see all writes acknowledged before that moment."""
        self._fresh_after = max(self._fresh_after, fresh_after)

    def learn(self, request: bytes, plan: Plan, exact: bool) -> bool:
        """Recognise what is like this request; false if it can't be done."""
        terms, cache = plan.cache, self.context.cache
        passing = None
        if terms is not None and cache is not None:
            passing = terms.tally
            fast_path.watch(cache.doorkeeper.memory)
            self._seldom[passing] = None
        return all(
            fast_path.learn(group.number, request, _slot(group, plan.kind, passing), exact)
            for group in self.groups.values()
        )

    def weigh(self) -> None:
        """Relay nothing more of what is asked for again often enough by now."""
        if not all(tally.seldom for tally in self._seldom):
            self._seldom.clear()
            self.key.plans.forget_fast()

    def look(self) -> None:
        """Close if not all would go here any more."""
        context, key = self.context, self.key
        nodes = standing(
            key.preference,
            context.topology,
            context.replicas,
            self._fresh_after,
            context.max_lag,
        )
        if (
            nodes != tuple(pool.node for pool in key.pools)
            or context.read_your_writes != key.own_writes
            or context.write_back is not None
        ):
            self.close()

    def close(self) -> None:
        """Take nobody any more; who is in it leaves with his next request."""
        self._watch.forget(self)
        del _rings[self.key]
        _closed.append(self)
        for group in self.groups.values():
            fast_path.close_group(group.number)
            group.pool.uncrowd()

    @property
    def empty(self) -> bool:
        """Whether nobody is in it."""
        return not any(fast_path.members(group.number) for group in self.groups.values())

    def end(self) -> None:
        """Be no more: it is closed and empty, and what it counted was collected."""
        for group in self.groups.values():
            fast_path.end_group(group.number)
            group.pool.fast_groups.remove(group.number)
            self.key.plans.fast_groups.remove(group.number)


class _Watch:
    """Has the rings of one database look anew when something is other than it was: there may be
    many, and their nodes are asked many times a second."""

    __slots__ = ("_fresh_until", "_state", "context", "rings")

    def __init__(self, context: DatabaseContext) -> None:
        self.context = context
        self.rings: list[Ring] = []
        self._state: object = None
        self._fresh_until: list[float] = []
        context.topology.observers.append(self.look)

    def look(self) -> None:
        """The topology's call."""
        context, most = self.context, self.context.max_lag
        topology = context.topology
        lagging = [
            most and node.lag_seconds and node.lag_seconds > most for node in topology.replicas
        ]
        state = (
            [(id(node), node.healthy) for node in topology.nodes()],
            lagging,
            id(context.replicas),
            context.read_your_writes,
            context.write_back is None,
        )
        fresh_until = [node.fresh_until for node in topology.replicas]
        pairs = zip(fresh_until, self._fresh_until, strict=False)
        same = state == self._state and all(now >= before for now, before in pairs)
        self._state, self._fresh_until = state, fresh_until
        if not same:
            for ring in list(self.rings):
                ring.look()

    def forget(self, ring: Ring) -> None:
        """A ring closes."""
        self.rings.remove(ring)
        if not self.rings:
            self.context.topology.observers.remove(self.look)
            _watches.remove(self)


def _watch_of(context: DatabaseContext) -> _Watch:
    for watch in _watches:
        if watch.context is context:
            return watch
    _watches.append(_Watch(context))
    return _watches[-1]


_watches: Final[list[_Watch]] = []
_rings: Final[dict[Key, Ring]] = {}
_closed: Final[list[Ring]] = []
_slots: Final[dict[tuple[Tally, StatementTally | None], int]] = {}
_counted: Final[list[tuple[Counters, Tally, StatementTally | None]]] = []
"""By the number of their slot; where the cache is passed by, what counts that."""


def ring_of(context: DatabaseContext, key: Key) -> Ring | None:
    """The ring with this key; None where there are too many."""
    ring = _rings.get(key)
    if ring is None and all(len(pool.fast_groups) < _MOST_GROUPS for pool in key.pools):
        ring = _rings[key] = Ring(context, key)
    return ring


def _slot(group: Group, kind: str, passing: StatementTally | None) -> int:
    node, counters = group.pool.node, group.context.counters
    tally = counters.tally(node.role.value, node.name, kind)
    slot = _slots.get((tally, passing))
    if slot is None:
        slot = _slots[tally, passing] = fast_path.open_slot(passing is not None)
        _counted.append((counters, tally, passing))
    return slot


def settle(patience: float = 0.0) -> None:
    """Make everything be as if there were no fast path: sessions run what is under way, or wait for
    a server, pools have their connections, counters count. What came less than `patience` seconds
    ago may go on."""
    rings = [*_rings.values(), *_closed]
    if not rings:
        return
    for descriptor in fast_path.under_way(perf_counter() - patience):
        poller().take_back(descriptor)
    for ring in rings:
        for pool in ring.groups:
            pool.recall(False)
    for session, started in fast_path.touched():
        assert isinstance(session, Downstream)
        session.served(started)
    _collect()
    for ring in list(_rings.values()):
        ring.weigh()
        if ring.empty:
            ring.close()
    for ring in [one for one in _closed if one.empty]:
        _closed.remove(ring)
        ring.end()


def _collect() -> None:
    of_groups, of_slots = fast_path.collect()
    numbered = {
        group.number: group
        for ring in (*_rings.values(), *_closed)
        for group in ring.groups.values()
    }
    for number, simple, parsed, bound, bytes_in, bytes_out, waits in of_groups:
        context = numbered[number].context
        counters = context.counters
        counters.bytes_in += bytes_in
        counters.bytes_out += bytes_out
        counters.lends += simple + parsed + bound
        counters.fast += simple + parsed + bound
        counters.wait_seconds += waits
        counters.plan_hits += simple
        context.prepared.asked += parsed
    for slot, count, seconds, buckets in of_slots:
        counters, tally, passing = _counted[slot]
        if passing is not None:
            counters.cache_bypasses[SELDOM] += count
            passing.passed(count)
        tally.count += count
        tally.durations.total += seconds
        for place, more in enumerate(buckets):
            tally.durations.counts[place] += more
