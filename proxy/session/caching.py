"""A session's use of the cache: whether to ask, under which key, and what to keep."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import random
from typing import Final

from proxy.cache.entry import entry_digest
from proxy.cache.members import lease_clock
from proxy.cache.results import ResultCache
from proxy.cache.statistics import MISSES, RENEWED
from proxy.cache.ticket import Lookup, Ticket
from proxy.cache.tier import Answer, Right
from proxy.pool.description import Description, describe
from proxy.routing.plan import CachePlan, Plan
from proxy.session.answers import CACHEABLE_SHAPES, ONE_ROW_SHAPES, add_preamble, strip_preamble
from proxy.session.batch import Batch
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.session.keyed import epochs_read
from proxy.session.prepared import Prepared
from proxy.session.transaction import IDLE
from proxy.sql.hints import without_refresh
from proxy.topology.statement_tallies import StatementTally
from proxy.wire.framing import uint32_at
from proxy.wire.messages import ready_for_query

_READY_SIZE: Final = 6
"""Bytes of ReadyForQuery."""


@dataclass(frozen=True, slots=True)
class Fill:
    """The right to keep the answer that is about to be fetched."""

    ticket: Ticket
    ttl_seconds: float
    room: int
    """Bytes; a larger answer is not kept."""
    fresh_after: float
    """A replica may serve it only if it has replayed all that was acknowledged before."""
    retain: Callable[[bytes, Right], None] | None = None
    """Keeps the result in memory, once it is stored."""
    stale_seconds: float = 0.0
    empty_ttl_seconds: float | None = None
    """Both as in `CachePlan`."""
    tally: StatementTally = field(default_factory=StatementTally)


def bypass(context: DatabaseContext, client: Client, batch: Batch, plan: Plan) -> str | None:
    """Why this batch of a cacheable statement doesn't ask the cache, or None to ask."""
    if context.cache is None:
        return "no cache is configured"
    first_row = batch.one_row and batch.shape in ONE_ROW_SHAPES
    if batch.shape not in CACHEABLE_SHAPES and not first_row:
        return "its messages are not those of one plain execution"
    if client.facts.pinned is not None:
        return "the session is pinned"
    transaction = client.transaction
    if transaction.status != IDLE:
        if first_row:
            return "its portal may be asked for more rows in the transaction"
        if transaction.wrote:
            return "the transaction has written"
        if transaction.changed_settings:
            return "the transaction has changed settings"
        if context.may_have_snapshot(client):
            return "the transaction has a snapshot or settings of its own"
    if not context.catalogue.usable_for_cache:
        return "the catalogue is being read again"
    if context.trust is not None:
        return context.trust.doubt(0.0 if plan.cache is None else plan.cache.max_feed_lag)
    return None


def remembered(
    context: DatabaseContext, client: Client, batch: Batch, plan: Plan
) -> tuple[bytes, Answer | None]:
    """The batch's key in this process's memory, empty if nothing is kept there, and the answer."""
    cache = context.cache
    assert cache is not None
    tier = cache.tier
    if not tier.limit:
        return b"", None
    if client.settings is not client.cache_settings:
        client.cache_settings = client.settings
        client.cache_context = tier.context(context.name.encode() + b"\0" + _context_bytes(client))
    if batch.text is not None:
        key = client.cache_context + b"Q" + batch.text
    else:
        statement = batch.bound[0]
        if not statement.cache_key:
            statement.cache_key = entry_digest(_described(statement), statement.content)
        key = b"".join((client.cache_context, batch.shape, statement.cache_key, batch.binds[0]))
    return key, tier.get(key, plan.cache, lease_clock())


Note = Callable[[bytes, Batch, CachePlan, tuple[str, ...]], None]
"""(key, batch, terms, epochs read): a client has asked for this, see `hot.HotResults.note`."""


def ask(
    context: DatabaseContext,
    client: Client,
    batch: Batch,
    plan: Plan,
    literals: tuple[bytes | None, ...],
    key: bytes,
    done: Callable[[bytes | None, Fill | None], None],
    note: Note,
) -> None:
    """Look the batch's answer up in Redis; `done` gets a hit, or the right to fill, or neither.

    `key`: under which the answer is kept in memory; empty: it is not."""
    cache, rule = context.cache, plan.cache
    assert cache is not None
    assert rule is not None
    reads = rule.reads
    if rule.pins:
        reads = epochs_read(rule, batch, literals, client.utf8)
    if rule.refresh:
        _renew(context, client, batch, rule, reads, done)
        return
    question = _Question(context, batch.shape, rule, key, done)
    digest = entry_digest(_context_bytes(client), _request_bytes(batch))
    if rule.refresh_seconds:
        note(key or digest, batch, rule, reads)
    cache.lookup(
        context.name,
        rule.label,
        digest,
        reads,
        question.answered,
        rule.rule,
        rule.stale_seconds,
    )


class _Question:
    """A look-up in Redis under way. Closures instead would hold one another: garbage that only
    Python's collector finds, for each look-up."""

    __slots__ = ("_catalogue", "_context", "_done", "_key", "_rule", "_shape")

    def __init__(
        self,
        context: DatabaseContext,
        shape: bytes,
        rule: CachePlan,
        key: bytes,
        done: Callable[[bytes | None, Fill | None], None],
    ) -> None:
        self._context = context
        self._catalogue = context.catalogue.current
        self._shape = shape
        self._rule = rule
        self._key = key
        self._done = done

    def answered(self, lookup: Lookup) -> None:
        context, fill, ticket = self._context, None, lookup.ticket
        _count(self._rule.tally, lookup)
        if ticket is not None:
            known = context.catalogue.current is self._catalogue  # the plan is of no older one
            if known and context.catalogue.usable_for_cache:
                retain = self._keep if self._key else None
                fill = _fill(self._rule, ticket, lookup.fresh_after, retain)
            elif context.cache is not None:
                context.cache.forgo(ticket)
        elif lookup.payload is not None and lookup.right is not None and self._key:
            self._keep(lookup.payload, lookup.right)
        self._done(lookup.payload, fill)

    def _keep(self, payload: bytes, right: Right) -> None:
        """In this process's memory."""
        cache, rule = self._context.cache, self._rule
        if cache is not None:
            reply = add_preamble(self._shape, payload, IDLE)
            start = len(reply) - len(payload) - _READY_SIZE
            cache.retain(self._key, reply, start, rule, rule.rule, right)


def _count(tally: StatementTally, lookup: Lookup) -> None:
    if lookup.payload is not None:
        tally.hits += 1
    elif lookup.ticket is not None or lookup.reason in MISSES:
        tally.missed()
    else:
        tally.bypasses[lookup.reason] += 1


def _fill(
    rule: CachePlan,
    ticket: Ticket,
    fresh_after: float,
    retain: Callable[[bytes, Right], None] | None,
) -> Fill:
    ttl = rule.ttl_seconds
    if rule.jitter_seconds:
        ttl -= rule.jitter_seconds * random()
    return Fill(
        ticket,
        ttl,
        rule.max_bytes,
        fresh_after,
        retain,
        rule.stale_seconds,
        rule.empty_ttl_seconds,
        rule.tally,
    )


def _renew(
    context: DatabaseContext,
    client: Client,
    batch: Batch,
    rule: CachePlan,
    reads: tuple[str, ...],
    done: Callable[[bytes | None, Fill | None], None],
) -> None:
    """As `ask` where the answer is to take the place of what is kept for the text without the
    hint that says so."""
    cache, catalogue = context.cache, context.catalogue.current
    assert cache is not None

    def renewed(lookup: Lookup) -> None:
        ticket = lookup.ticket
        rule.tally.bypasses[RENEWED if ticket is not None else lookup.reason] += 1
        known = context.catalogue.current is catalogue  # the plan is of no older one
        if ticket is None or not known or not context.catalogue.usable_for_cache:
            done(None, None)
            return
        done(None, _fill(rule, ticket, lookup.fresh_after, None))

    text = batch.text
    if text is not None:
        request = b"Q" + _plain(text)
    else:
        statement = batch.bound[0]
        types = statement.content[len(statement.text) :]
        request = _bound_request(batch, _plain(statement.text) + types)
    digest = entry_digest(_context_bytes(client), request)
    cache.renew(context.name, rule.label, digest, reads, renewed, rule.rule)


def _plain(text: bytes) -> bytes:
    return without_refresh(text.decode()).encode()


def _context_bytes(client: Client) -> bytes:
    return client.user.encode() + b"\0" + client.settings.fingerprint


def _request_bytes(batch: Batch) -> bytes:
    """All of the request that decides the answer: text, types, parameters, formats, Describe."""
    if batch.text is not None:
        return b"Q" + batch.text
    return _bound_request(batch, batch.bound[0].content)


def _bound_request(batch: Batch, content: bytes) -> bytes:
    described = b"D" if 68 in batch.shape else _described(batch.bound[0])
    if batch.one_row:
        described = b"1" + described
    return b"".join((described, len(content).to_bytes(4), content, batch.binds[0]))


def _described(statement: Prepared) -> bytes:
    """Rows of a time when the statement had another result are not for a client that was told."""
    if statement.description is None:
        return b"-"
    rows = statement.description.rows
    return b"T" + len(rows).to_bytes(4) + rows


def tells(batch: Batch) -> bool:
    """Whether the answer describes a statement of which the client hasn't been told yet."""
    return 68 in batch.shape and batch.bound[0].description is None


def description_in(batch: Batch, hit: bytes) -> Description | None:
    """What a hit tells the client of a named statement of which it hasn't been told yet."""
    if hit[:1] != b"T" or not tells(batch):
        return None
    return describe(None, hit[: 1 + uint32_at(hit, 1)])


def reply(batch: Batch, hit: bytes, status: int) -> bytes:
    """The whole answer to a batch from what was kept in Redis."""
    return add_preamble(batch.shape, hit, status)


def remembered_reply(answer: Answer, status: int) -> bytes:
    """The whole answer from what was kept in memory."""
    return answer.reply if status == IDLE else answer.reply[:-_READY_SIZE] + ready_for_query(status)


def keep(cache: ResultCache, fill: Fill, captured: bytes | None, seconds: float) -> None:
    """Store an answer that has been relayed whole, if it is one that can be kept. `seconds`: how
    long the client has waited for it."""
    kept = None if captured is None else strip_preamble(captured)
    if kept is None:
        cache.forgo(fill.ticket)
        return
    counters = fill.ticket.scope.counters
    counters.reads += 1
    counters.read_seconds += seconds
    fill.tally.reads += 1
    fill.tally.read_seconds += seconds
    retain, ttl = fill.retain, _life(fill, kept)
    if ttl <= 0:
        cache.share(fill.ticket, kept)
        return
    cache.fill(
        fill.ticket,
        kept,
        ttl,
        None if retain is None else partial(retain, kept),
        fill.stale_seconds,
    )


def _life(fill: Fill, kept: bytes) -> float:
    """Seconds for which to keep a stored result; 0: not at all."""
    empty = fill.empty_ttl_seconds
    if empty is None or empty >= fill.ttl_seconds or not _is_empty(kept):
        return fill.ttl_seconds
    return empty


def _is_empty(kept: bytes) -> bool:
    """Whether a stored result has no rows: its end comes at once, or behind its description."""
    start = 1 + uint32_at(kept, 1) if kept[:1] == b"T" else 0
    return kept[start : start + 1] == b"C"
