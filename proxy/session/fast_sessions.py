"""Who may take the fast path (see `net.fast_path`).

A session enters after a query that left nothing to settle, and only where the next one like it
would go the very same way: to the nodes of its ring, in the client's settings, past cache, shards
and write-back. Whatever could change that makes it leave: other messages of the client, what the
server says beside an answer, other plans, and what becomes known of the nodes.
"""

from typing import Final

from proxy.net import fast_path
from proxy.net.channel import poller
from proxy.pool.backend import Backend
from proxy.pool.description import STALE
from proxy.routing.decide import preference_of, standing
from proxy.routing.plan import Plan
from proxy.session.batch import USES, Batch
from proxy.session.context import DatabaseContext
from proxy.session.fast_rings import Group, Key, Ring, ring_of
from proxy.session.link import Entry, Link
from proxy.session.relay import PLAIN
from proxy.topology.counters import BUCKET_BOUNDS
from proxy.wire.scan import renamed

_SHAPES: Final = (b"Q", b"PBDES", b"PBES", b"BDES", b"BES")
_LONGEST: Final = 8192
"""Bytes of a request."""

AVAILABLE: Final = fast_path.AVAILABLE
if AVAILABLE:
    fast_path.configure(BUCKET_BOUNDS, PLAIN, STALE)


def enter(link: Link, backend: Backend) -> bool:
    """Put the session's client and its backend on the fast path, after a query that left nothing to
    settle, and with them who waits for the same; false where they have to go on as they are."""
    entry = link.entry()
    server_at = -1 if backend.transport is None else backend.transport.fast_descriptor
    if entry is None or server_at < 0 or not entry.pool.may_go_on(backend):
        return False
    client_at, ring = _client_of(entry), _ring_of(entry)
    if client_at < 0 or ring is None or backend.settings is not ring.key.settings:
        return False
    exact = _is_exact(entry)
    if exact is None or not ring.learn(entry.batch.payload, entry.plan, exact):
        return False
    group, pool = ring.groups[entry.pool], entry.pool
    if pool.waiting_count and not _let_in(ring, group):
        return False
    backend.owner = group
    ring.admit(entry.fresh_after)
    session, number, wanted = entry.session, group.number, pool.waiting_count > 0
    fast_path.add_client(client_at, session, number, session.statements)
    link.go_fast()
    if fast_path.add_server(server_at, backend, number, backend.prepared, wanted):
        poller().take_odd_soon()
    return True


def _let_in(ring: Ring, group: Group) -> int:
    """Have those who are next in the pool's queue wait here, as far as they fit in; how many."""
    pool, count = group.pool, 0
    if pool.size < pool.settings.size or len(pool.fast_groups) > 1:
        return 0  # who waits has a connection opened; or one may become free that is not for here
    while (borrower := pool.next_waiting()) is not None:
        if not isinstance(borrower, Link):
            break
        entry = borrower.entry()
        if entry is None or _ring_of(entry) is not ring:
            break
        client_at, request, session = _client_of(entry), _request_of(entry), entry.session
        if client_at < 0 or not fast_path.add_waiting(
            client_at, session, group.number, session.statements, request, session.started
        ):
            break
        ring.admit(entry.fresh_after)
        pool.take_waiting(borrower)
        borrower.go_fast()
        count += 1
    return count


def _client_of(entry: Entry) -> int:
    """The descriptor of a client that may take the fast path, else -1."""
    client = entry.session.client
    fit = client.utf8 and client.plain_strings and len(entry.batch.payload) <= _LONGEST
    return entry.session.fast_descriptor if fit and entry.session.at_rest() else -1


def _ring_of(entry: Entry) -> Ring | None:
    """Its ring, in which its pool is; None where what it runs is nothing for the fast path."""
    context, plan = entry.context, entry.plan
    if (
        not _is_alike(entry.batch)
        or not _is_relayed(plan)
        or not _passes_cache(context, plan)
        or context.sharded
        or context.write_back is not None
    ):
        return None
    preference = preference_of(plan, context.replicas)
    nodes = standing(
        preference, context.topology, context.replicas, entry.fresh_after, context.max_lag
    )
    if entry.pool.node not in nodes:
        return None
    pools = (entry.pool,) if len(nodes) == 1 else tuple(map(entry.pool_of, nodes))
    settings = entry.session.client.settings
    key = Key(pools, entry.plans, settings, preference, context.read_your_writes)
    return ring_of(context, key)


def _is_relayed(plan: Plan) -> bool:
    """Whether nothing but relaying is ever done for it, besides what makes it `plain`."""
    return (
        plan.plain
        and plan.reads_only
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


def _passes_cache(context: DatabaseContext, plan: Plan) -> bool:
    """Whether nothing is looked up, or only what is asked for again."""
    terms = plan.cache
    return terms is None or context.cache is None or (terms.adaptive and terms.tally.seldom)


def _request_of(entry: Entry) -> bytes:
    """What the client has sent, with its own name for the statement."""
    batch = entry.batch
    if batch.references is None:
        return batch.payload
    payload, (reference,) = batch.payload, batch.references
    return renamed(payload, 0, len(payload), len(reference.prepared.name), reference.client_name)


def _is_exact(entry: Entry) -> bool | None:
    """Whether the plan is kept under the whole text alone; None where another is kept, or none."""
    plans, batch, plan = entry.plans, entry.batch, entry.plan
    if batch.text is not None:
        return plans.keeps(batch.text, plan)
    prepared = batch.bound[0]
    current = prepared.plan is plan and prepared.plan_version == plans.version
    plain = prepared.executes is None and prepared.runs is None
    return False if current and plain else None


def _is_alike(batch: Batch) -> bool:
    """Whether it is a Query, parses what it runs, or runs only what was prepared by a name."""
    references = batch.references
    if batch.shape not in _SHAPES:
        return False
    if references is None:
        return batch.text is not None or batch.unnamed is not None
    return (
        batch.text is None
        and len(references) == 1
        and references[0].action == USES
        and not references[0].unnamed
    )
