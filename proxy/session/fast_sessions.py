"""Who may take the fast path (see `net.fast_path`), and what is made good for who has taken it.

A session enters after a query that left nothing to settle, and only where the next one like it
would go the very same way: to the primary, in the client's settings, past cache, shards and
write-back. Whatever could change that makes it leave: other messages of the client, what the server
says beside an answer, and, by `forget`, other plans. All that this process says or decides from
outside a session goes by what `settle` leaves.
"""

from time import perf_counter
from typing import Final

from proxy.net import fast_path
from proxy.net.channel import poller
from proxy.pool.backend import Backend, Borrower
from proxy.pool.pool import Pool
from proxy.pool.settings_state import SettingsState
from proxy.routing.plan import Access, Plan
from proxy.session.context import DatabaseContext
from proxy.session.downstream import Downstream
from proxy.session.link import Entry, Link
from proxy.session.plans import PlanCache
from proxy.session.relay import PLAIN
from proxy.topology.counters import BUCKET_BOUNDS, Tally

_SHAPES: Final = (b"Q", b"PBDES", b"PBES")
_LONGEST: Final = 8192
"""Bytes of a request."""
_MOST_GROUPS: Final = 64
"""Of one pool: clients in more states of settings would take each other's servers all the time."""

AVAILABLE: Final = fast_path.AVAILABLE
if AVAILABLE:
    fast_path.configure(BUCKET_BOUNDS, PLAIN)


class Group(Borrower):
    """Clients and servers that fit together. The servers in it are lent to it."""

    __slots__ = ("context", "number", "plans", "pool", "settings")

    def __init__(
        self, context: DatabaseContext, pool: Pool, plans: PlanCache, settings: SettingsState
    ) -> None:
        self.context = context
        self.pool = pool
        self.plans = plans
        self.settings = settings
        pool.uncrowd()  # servers may become free here that are not for the others
        self.number = fast_path.open_group()
        pool.fast_groups.append(self.number)
        plans.fast_groups.append(self.number)

    def close(self) -> None:
        """It takes nobody any more."""
        fast_path.close_group(self.number)
        self.pool.fast_groups.remove(self.number)
        self.plans.fast_groups.remove(self.number)

    def backend_returned(self, backend: Backend, request: bytes) -> None:
        backend.unnamed = self.context.prepared.parsed_by(request)
        self.pool.release(backend)


_Key = tuple[Pool, PlanCache, SettingsState]
_groups: Final[dict[_Key, Group]] = {}
_slots: Final[dict[Tally, int]] = {}
_tallies: Final[list[Tally]] = []
"""By the number of their slot."""


def enter(link: Link, backend: Backend) -> bool:
    """Put the session's client and its backend on the fast path, after a query that left nothing to
    settle, and with them who waits for the same; false where they have to go on as they are."""
    entry = link.entry()
    server_at = -1 if backend.transport is None else backend.transport.fast_descriptor
    if entry is None or server_at < 0 or not entry.pool.may_go_on(backend):
        return False
    client_at, group = _client_of(entry), _group_of(entry)
    if client_at < 0 or group is None or backend.settings is not group.settings:
        return False
    exact = _is_exact(entry)
    payload, slot = entry.batch.payload, _slot(entry)
    if exact is None or not fast_path.learn(group.number, payload, slot, exact):
        return False
    pool = entry.pool
    if pool.waiting_count and not _let_in(group):
        return False
    backend.owner = group
    backend.unnamed = None
    fast_path.add_client(client_at, entry.session, group.number)
    link.go_fast()
    fast_path.add_server(server_at, backend, group.number, pool.waiting_count > 0)
    return True


def _let_in(group: Group) -> int:
    """Have those who are next in the pool's queue wait here, as far as they fit in; how many."""
    pool, count = group.pool, 0
    if pool.size < pool.settings.size or len(pool.fast_groups) > 1:
        return 0  # who waits has a connection opened; or one may become free that is not for here
    while (borrower := pool.next_waiting()) is not None:
        if not isinstance(borrower, Link):
            break
        entry = borrower.entry()
        if entry is None or _group_of(entry) is not group:
            break
        client_at, payload = _client_of(entry), entry.batch.payload
        started = entry.session.started
        if client_at < 0 or not fast_path.add_waiting(
            client_at, entry.session, group.number, payload, started
        ):
            break
        pool.take_waiting(borrower)
        borrower.go_fast()
        count += 1
    return count


def _client_of(entry: Entry) -> int:
    """The descriptor of a client that may take the fast path, else -1."""
    client = entry.session.client
    fit = client.utf8 and client.plain_strings and len(entry.batch.payload) <= _LONGEST
    return entry.session.fast_descriptor if fit and entry.session.at_rest() else -1


def _group_of(entry: Entry) -> Group | None:
    """Its group; None where what it runs is nothing for the fast path."""
    context, batch, plan = entry.context, entry.batch, entry.plan
    if (
        batch.shape not in _SHAPES
        or not _is_relayed(plan)
        or not _always_primary(context, plan)
        or context.sharded
        or context.write_back is not None
    ):
        return None
    key = entry.pool, entry.plans, entry.session.client.settings
    group = _groups.get(key)
    if group is None and len(entry.pool.fast_groups) < _MOST_GROUPS:
        group = _groups[key] = Group(context, *key)
    return group


def _always_primary(context: DatabaseContext, plan: Plan) -> bool:
    """Whether it goes to the primary whatever the replicas are like."""
    if plan.access is not Access.READ or plan.node_hint == "primary":
        return True
    return not context.topology.replicas or context.replicas.read_preference == "primary"


def _is_relayed(plan: Plan) -> bool:
    """Whether nothing but relaying is ever done for it, besides what makes it `plain`."""
    return (
        plan.plain
        and plan.reads_only
        and plan.cache is None
        and plan.shard is None
        and not plan.keyed
        and plan.executes is None
        and plan.call is None
        and not plan.needs_session
        and not plan.notifies
        and not plan.asks_channels
        and not plan.listens
        and not plan.steps
        and not plan.occupies
        and len(plan.analysis.statements) == 1
    )


def _is_exact(entry: Entry) -> bool | None:
    """Whether the plan is kept under the whole text alone; None where another is kept, or none."""
    plans, batch, plan = entry.plans, entry.batch, entry.plan
    if batch.text is not None:
        return plans.keeps(batch.text, plan)
    prepared = batch.bound[0]
    current = prepared.plan is plan and prepared.plan_version == plans.version
    plain = batch.references is None and prepared.executes is None and prepared.runs is None
    return False if current and plain else None


def _slot(entry: Entry) -> int:
    route, kind = entry.route, entry.plan.kind
    node = "" if route.node is None else route.node.name
    tally = entry.context.counters.tally(route.target.value, node, kind)
    slot = _slots.get(tally)
    if slot is None:
        slot = _slots[tally] = fast_path.open_slot()
        _tallies.append(tally)
    return slot


def settle(patience: float = 0.0) -> None:
    """Make everything be as if there were no fast path: sessions run what is under way, or wait for
    a server, pools have their connections, counters count. What came less than `patience` seconds
    ago may go on."""
    if not _groups:
        return
    for descriptor in fast_path.under_way(perf_counter() - patience):
        poller().take_back(descriptor)
    for group in list(_groups.values()):
        group.pool.recall(False)
    for session, started in fast_path.touched():
        assert isinstance(session, Downstream)
        session.served(started)
    _collect()
    for key in [key for key, group in _groups.items() if not fast_path.members(group.number)]:
        _groups.pop(key).close()


def _collect() -> None:
    of_groups, of_slots = fast_path.collect()
    numbered = {group.number: group for group in _groups.values()}
    for number, simple, extended, bytes_in, bytes_out, waits in of_groups:
        context = numbered[number].context
        counters = context.counters
        counters.bytes_in += bytes_in
        counters.bytes_out += bytes_out
        counters.lends += simple + extended
        counters.fast += simple + extended
        counters.wait_seconds += waits
        counters.plan_hits += simple
        context.prepared.asked += extended
    for slot, count, seconds, buckets in of_slots:
        tally = _tallies[slot]
        tally.count += count
        tally.durations.total += seconds
        for place, more in enumerate(buckets):
            tally.durations.counts[place] += more
