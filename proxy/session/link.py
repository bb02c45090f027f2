"""A session's link to a backend, and the state that goes with it.

`Link` holds what the serving of batches needs to remember and the plain things that are done with
a linked backend; `settlement.Settlement` adds what follows an answer, `upstream.Upstream` the way
of a batch and everything that can go wrong on it.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.cache.results import ResultCache
from proxy.cache.statistics import BY_WRITE
from proxy.pool.backend import Backend, Borrower
from proxy.pool.exchange import Exchange
from proxy.pool.pool import Pool
from proxy.routing.plan import Plan
from proxy.routing.route import Route
from proxy.session import caching, states
from proxy.session.batch import FLUSH, Batch
from proxy.session.client import Client
from proxy.session.combine import NOTHING
from proxy.session.context import DatabaseContext
from proxy.session.downstream import MISTAKE, Downstream
from proxy.session.plans import PlanCache
from proxy.session.relay import Relay
from proxy.session.sequences import Sequences
from proxy.session.transaction import IDLE
from proxy.topology.node import Node, Role
from proxy.wire import errors, messages
from proxy.wire.framing import split_messages, whole_messages

_PARAMETER_STATUS: Final = ord("S")
_ERROR: Final = ord("E")
_NOTIFICATION: Final = ord("A")
_MOST_RETRIES: Final = 2
_LATE_COMMITS: Final = (1.0, 5.0, 30.0)
"""Seconds after a write's outcome became unknown at which its tables' epochs move once more."""


class Entry(NamedTuple):
    """A batch that leaves nothing to settle, and where it goes."""

    session: Downstream
    context: DatabaseContext
    plans: PlanCache
    batch: Batch
    plan: Plan
    pool: Pool
    """That it goes to."""
    pool_of: Callable[[Node], Pool]
    fresh_after: float
    """As `Facts.fresh_after` for all that the client reads until it writes; infinite where others'
    writes move it."""


class Link(Borrower):
    """See the module's docstring."""

    def __init__(self, session: Downstream, context: DatabaseContext, client: Client) -> None:
        self._session = session
        self._context = context
        self._client = client
        self._relay = Relay()
        self._batch: Batch | None = None
        self._plan: Plan = NOTHING
        self._literals: tuple[bytes | None, ...] = ()
        self._fill: caching.Fill | None = None
        self._moves: frozenset[str] = frozenset()
        """Epochs that the batch's writes move."""
        self._pool: Pool | None = None
        self._pools: dict[str, Pool] = {}
        """Those used so far, by node."""
        self._exchange: tuple[Exchange, Callable[[Exchange], None]] | None = None
        self._plans: list[Plan] = []
        """Plans of what was sent since the last ReadyForQuery."""
        self._retries = 0
        self._planned = b""
        """The token of the schema when the batch at hand was planned."""
        self._pins: set[str] = set()
        """All the reasons why the session stays on its backend."""
        self._quiet = False
        """What was sent leaves nothing to settle, unless its answer does: one read, all of it known
        to the server, of a client that has nothing to remember."""
        self._early_sync = False
        """The client flushed where Penstock synced: this ReadyForQuery is not for the client."""
        self._abandoned = False
        self._copying = False
        """The server waits for COPY data, and its end has not been sent."""
        self._draining = False
        """The server has ended COPY, the client is in the middle of a message of it."""
        self._queued = False
        """In the pool's queue."""
        self._preparing = False
        """The backend is being brought into the state that the batch needs."""
        self._canceled = False
        """A cancel request came meanwhile."""
        self._reading_back = False
        """The client has its answer, the session's settings or leftovers are being read."""
        self._leaves = False
        """The transaction may have left something: the server is to be asked."""
        self._releasing = False
        """Part of an answer is held until the epochs have moved."""
        self._settling = False
        """The answer's end is held until the epochs have moved."""
        self._misinformed = False
        """A RESET told the client the server's default where it has its own."""
        self._aside = b""
        """Part of a message that came outside any answer."""
        self._listened = False
        """The backend listens on channels that the client hears of by another way."""
        self._freeing = False
        """It is being told to do so no more."""
        self._signer = 0
        """The server process whose notifications are told as the client's, if there is one."""
        self._parting = False
        """The client has been passed an error that came outside any answer."""
        self.pooling = context.pool_settings_of(client.user)
        self._keeps_backend = self.pooling.mode == "session"
        self._single_statements = self.pooling.mode == "statement"
        if self._keeps_backend:
            client.facts.pinned = "session pooling keeps one connection to the primary"
        self._sequences = Sequences()
        self.route: Route | None = None
        self.backend: Backend | None = None
        self.unsynced = False
        """Messages were sent with no Sync behind them yet: the backend stays ours."""
        self.congested = False
        """The server doesn't read as fast as it is written to."""
        self.blocked = False
        """What comes next waits until all that was sent has been answered (see `pipeline`)."""
        self._sent = 0
        """Answers that the batches sent since the last Sync draw."""
        self._reserved: Backend | None = None
        """On it what comes next is under way already: the fast path has sent it."""
        self._query_waits = False
        """The batch at hand is what waits."""

    @property
    def queued(self) -> bool:
        """Whether the batch waits for a server connection."""
        return self._queued

    @property
    def mid_message(self) -> bool:
        """Whether the client has been sent part of a message."""
        return self._relay.mid_message

    @property
    def listens_itself(self) -> bool:
        """Whether the session's own backend listens, and stays with it."""
        return any("listen" in reason.lower() for reason in self._pins)

    def entry(self) -> Entry | None:
        """The batch at hand, if it may be for the fast path."""
        context, client = self._context, self._client
        batch, plan, pool, transaction = self._batch, self._plan, self._pool, client.transaction
        if self._keeps_backend or self._single_statements or self._signer or self._fill is not None:
            return None
        if batch is None or pool is None or self._retries or self.unsynced:
            return None
        if transaction.status != IDLE or transaction.effects or transaction.deferred is not None:
            return None
        if client.facts.pinned is not None or self._abandoned:
            return None
        plans, fresh_after = context.plans_of(client.user), context.own_floor(client, plan)
        return Entry(self._session, context, plans, batch, plan, pool, self._pool_of, fresh_after)

    def go_fast(self) -> None:
        """The fast path has the client now, and the backend, if there was one."""
        self._queued = False
        self.backend = self._client.facts.linked = None
        self._session.state = states.IDLE
        self._session.fast = True

    def _pool_of(self, node: Node) -> Pool:
        pool = self._pools.get(node.name)
        if pool is None:
            pool = self._context.pool_of(node, self._client.user)
            self._pools[node.name] = pool
        return pool

    def forget_pools(self) -> None:
        """Nodes may have changed: ask for each pool anew."""
        self._pools.clear()

    def _ask(self, sql: bytes, done: Callable[[Exchange], None]) -> None:
        """Run a query of Penstock's own on the linked backend."""
        assert self.backend is not None
        assert self.backend.transport is not None
        self._session.state = states.WAITING
        self._exchange = (Exchange(), done)
        self.backend.unnamed = None
        self.backend.transport.write(messages.query(sql))

    def _unlink(self, discard: bool, clean_with: str | None = None) -> None:
        """Part from the backend, which the pool may have to clean by this SQL first."""
        backend, self.backend = self.backend, None
        self._client.facts.linked = None
        if self._signer:
            self._sign_off()
        if backend is None or self._pool is None:
            return
        backend.owner = None
        if self._session.congested and backend.transport is not None and not backend.closed:
            backend.transport.resume_reading()
        rest, self._relay.rest = self._relay.rest, b""
        if rest:
            backend.returned_bytes(rest)
        self.congested = False
        if discard:
            self._pool.discard(backend)
        elif clean_with is not None:
            self._pool.clean(backend, clean_with)
        else:
            self._pool.release(backend)

    def _sign_off(self) -> None:
        """What this backend notifies of is not the client's any more."""
        self._context.listener.senders.pop(self._signer, None)
        self._signer = 0

    def backend_delayed(self, seconds: float) -> None:
        """The pool's answer takes long: tell the client, who may wonder."""
        if not self._relay.mid_message and not self._abandoned:
            self._session.write(
                errors.notice_response(
                    f"waiting for a server connection for {seconds:.0f} s, still queued"
                )
            )

    def _pass_statuses(self, bodies: list[bytes]) -> None:
        """ParameterStatus that Penstock's own exchange drew: news for the client if it differs."""
        for body in bodies:
            if self._client.note_status(body):
                self._session.write(messages.message(b"S", body))
        self._note_parameters(bodies)

    def _tell_parameters(self, backend: Backend) -> None:
        """Correct what the client has been told, now that the backend is in its state."""
        self._misinformed = False
        self._pass_statuses(
            [
                name + b"\0" + value + b"\0"
                for name, value in backend.parameters.items()
                if name != b"in_hot_standby"
            ]
        )

    def _note_statuses(self) -> None:
        """ParameterStatus that passed through to the client."""
        bodies, self._relay.statuses = self._relay.statuses, []
        for body in bodies:
            self._client.note_status(body)
        self._note_parameters(bodies)

    def _note_parameters(self, bodies: list[bytes]) -> None:
        """The backend has them whoever owns it."""
        if self.backend is not None:
            for body in bodies:
                name, _, value = body[:-1].partition(b"\0")
                self.backend.parameters[name] = value

    def _unasked(self, data: bytes) -> None:
        """Bytes outside any answer: notifications, notices, parameters, a server's last words."""
        if self._settling:
            self._relay.rest += data  # the end of the answer goes first
            return
        self._aside += data
        data, self._aside = whole_messages(self._aside)
        for kind, body in split_messages(data):
            if kind == _PARAMETER_STATUS:
                self._client.note_status(body)
                self._note_parameters([body])
            elif kind == _ERROR:
                self._parting = True
        if data and self._listened:
            data = b"".join(
                messages.message(bytes((kind,)), body)
                for kind, body in split_messages(data)
                if kind != _NOTIFICATION
            )
        if data:
            self._session.write(data)

    def _said_why(self) -> bool:
        """Whether the server has told the client that it ends the connection, and why."""
        relay = self._relay
        if self._parting:
            return True
        if relay.untouched or relay.held or not relay.errors:
            return False
        return errors.error_fields(relay.errors[-1]).get("V") in ("FATAL", "PANIC")

    def backend_failed(self) -> None:
        """The client would wait for ever, or take one answer for another."""
        self._session.fatal(MISTAKE)

    def backend_congested(self, congested: bool) -> None:
        """The server doesn't take bytes as fast as the client sends them, or does again."""
        self.congested = congested
        if congested:
            self._session.pause_reading(True)
        else:
            self._session.relieve()

    def pause_reading(self, pause: bool) -> None:
        """The client doesn't take bytes as fast as the server sends them, or does again."""
        backend = self.backend
        if backend is None or backend.transport is None or backend.closed:
            return
        if pause:
            backend.transport.pause_reading()
        else:
            backend.transport.resume_reading()

    def send_copy(self, data: bytes) -> None:
        """COPY data from the client."""
        if self.backend is not None and self.backend.transport is not None:
            self.backend.transport.write(data)

    def _invalidate(self, cache: ResultCache, done: Callable[[], None]) -> None:
        """Move the epochs of what the transaction has written, now that it has ended."""
        ended = self._client.transaction
        cache.move(self._context.name, ended.outdates, done, BY_WRITE, ended.planned)

    def _move_after(self, tables: frozenset[str], planned: bytes) -> None:
        """Move the epochs of writes whose outcome nobody waits for."""
        if tables and self._context.cache is not None:
            self._context.cache.move(self._context.name, tables, _nothing, BY_WRITE, planned)

    def _move_unknown(self) -> None:
        """Writes were under way whose outcome is unknown: what they touched can't be trusted."""
        transaction = self._client.transaction
        tables = transaction.outdates
        self._move_after(tables, transaction.planned)
        if tables:  # a server that is cut off may still be running the write, and commit it
            loop = asyncio.get_running_loop()
            for seconds in _LATE_COMMITS:
                loop.call_later(seconds, self._move_after, tables, transaction.planned)
        if not transaction.read_only:
            self._client.wrote_at = self._context.writes.tick(frozenset(transaction.writes))

    def _syncs_early(self, batch: Batch) -> bool:
        """Parse, Describe and Close alone can be synced at once, which frees the backend."""
        return (
            batch.end == FLUSH
            and not self._keeps_backend
            and self._client.transaction.status == IDLE
            and not self.unsynced
            and not batch.shape.strip(b"PdCH")
        )

    def has_sequences(self) -> bool:
        """Whether what the session's nextval() gave can be asked for now."""
        if self.backend is not None or self._keeps_backend:
            return True
        backend = self._sequences.backend()
        pool = None if backend is None else self._pools.get(backend.node.name)
        return backend is not None and pool is not None and pool.put_first(backend)

    def _may_retry(self) -> bool:
        """Whether a standby's refusal, or its loss, can be made good on another node."""
        return (
            self._client.transaction.status == IDLE
            and self.route is not None
            and self.route.on_replica
            and self._client.facts.pinned is None
            and self._retries < _MOST_RETRIES
        )

    def _check_fill(self, node: Node) -> None:
        """A transaction on a replica may read what is older than a fill has to be."""
        fill, pool, backend = self._fill, self._pool, self.backend
        if fill is None:
            return
        old = node.role is Role.REPLICA and node.fresh_until < fill.fresh_after
        # One that is to be replaced may have begun with other settings.
        if old or (pool is not None and backend is not None and pool.must_close(backend)):
            self.forgo()
            self._fill = None

    def forgo(self) -> None:
        """Nobody need wait for what the batch at hand was to fetch for the cache."""
        fill, cache = self._fill, self._context.cache
        if fill is not None and cache is not None:
            cache.forgo(fill.ticket)


def _nothing() -> None:
    """Nobody waits."""
