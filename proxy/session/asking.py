"""What a statement may wait for before a server is asked: the cache, LISTEN, an empty database.

The second of the parts of `session.Session`.
"""

from functools import partial

import structlog

from proxy.routing.plan import Access, CachePlan, Plan
from proxy.session import caching, states
from proxy.session.answering import Answering
from proxy.session.answers import CACHEABLE_SHAPES
from proxy.session.batch import (
    Batch,
)
from proxy.session.combine import on_primary
from proxy.session.listening import Listening, listening_is_shared
from proxy.session.transaction import (
    IDLE,
)
from proxy.session.vacancy import Vacancy
from proxy.topology.statement_tallies import SELDOM
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)


class Asking(Answering):
    """See the module's docstring."""

    # LISTEN

    def _listens(self, batch: Batch, plan: Plan) -> bool:
        """See to the channels that the batch is about; whether that is all for now."""
        listening = self._listening_for(plan)
        if listening is None:
            return False
        objection = listening.objection(plan, self.upstream.unsynced)
        if objection is not None:
            self.refuse(objection)
            return True
        if plan.asks_channels and listening.outlook.channels:
            self._plan = on_primary(plan)
        wanted = () if self.upstream.unsynced else listening.wanted(plan.steps)
        if not wanted:
            return self._listens_now(batch, plan, listening)
        self.state = states.WAITING
        listening.subscribe(wanted, self.client.user, self._subscribed)
        return True

    def _listening_for(self, plan: Plan) -> Listening | None:
        """What serves the session's LISTENs; None where its own backend does."""
        listening, upstream = self.listening, self.upstream
        if upstream.listens_itself:
            return None
        if listening is not None:
            if listening.unshared and upstream.unsynced:
                return None
            listening.unshared = ""
        elif plan.listens and listening_is_shared(upstream.pooling):
            context = self.context
            listening = Listening(self, context.listener, context.notification_backlog)
            self.listening = listening
        return listening

    def _listens_now(self, batch: Batch, plan: Plan, listening: Listening) -> bool:
        """Answer a LISTEN or UNLISTEN that stands alone; whether it was one."""
        transaction, steps = self.client.transaction, plan.steps
        alone = len(steps) == len(plan.analysis.statements) == 1 and plan.kind == "listen"
        if alone and batch.shape in CACHEABLE_SHAPES and not self.upstream.unsynced:
            listening.settle(steps, False, False, transaction.status == IDLE)
            verb = steps[0].verb.value.rstrip(" *")
            self._answer_command(verb, transaction.status)
            return True
        if plan.ends_transaction and transaction.deferred is not None:
            listening.settle(steps, False, False, True)
        return False

    def _subscribed(self, error: PgError | None) -> None:
        """The channels are listened on from now on, or can't be."""
        batch, plan, listening = self._batch, self._plan, self.listening
        if self.state != states.WAITING or batch is None or listening is None:
            return
        if error is not None and listening.used:
            self.refuse(error)
        elif error is not None:
            listening.unshared = f"no connection listens for all ({error.message})"
            self._go_upstream(None)
        elif not self.client.transaction.failed and (
            self._listens_now(batch, plan, listening) or self._answered_here(batch, plan)
        ):
            self.idle()
        else:
            self._go_upstream(None)

    # DROP DATABASE and the like

    def _vacates(self, plan: Plan) -> bool:
        """Have databases vacated for this; false where there is no need."""
        vacate = self.context.vacate
        outside = self.client.transaction.status == IDLE and not self.upstream.unsynced
        if vacate is None or not outside or plan.access is Access.REFUSE:
            return False
        self.state = states.WAITING
        vacate(self.context, plan.occupies, self._vacated)
        return True

    def _vacated(self, vacancy: Vacancy) -> None:
        if self.state == states.WAITING:
            self.vacancy = vacancy
            self._go_upstream(None)
        else:
            vacancy.end()

    def _occupy(self) -> None:
        vacancy, self.vacancy = self.vacancy, None
        if vacancy is not None:
            vacancy.end()

    # The cache

    def _ask_cache(self, batch: Batch, plan: Plan) -> bool:
        """Start a look-up; False if the batch bypasses the cache."""
        terms = plan.cache
        assert terms is not None
        reason = caching.bypass(self.context, self.client, batch, plan)
        if reason is not None:
            if batch.bound or batch.text is not None:  # it is a read
                self.context.counters.cache_bypasses[reason] += 1
                terms.tally.bypasses[reason] += 1
            return False
        key, answer = caching.remembered(self.context, self.client, batch, plan)
        if answer is not None:
            if batch.references is not None and caching.tells(batch):
                self._tell_cached(batch, answer.reply[answer.payload_from :])
            self.count_cached()
            terms.tally.hits += 1
            if terms.refresh_seconds:
                self.touch_hot(key)
            self._write_soon(caching.remembered_reply(answer, self.client.transaction.status))
            return True
        if terms.adaptive and self._passes_by(batch, terms):
            return False
        self.state = states.WAITING
        self.asking = True
        answered = partial(self._cache_answered, batch)
        caching.ask(
            self.context, self.client, batch, plan, self._literals, key, answered, self.note_hot
        )
        return True

    def _passes_by(self, batch: Batch, terms: CachePlan) -> bool:
        """Whether it isn't worth while to look up what is asked for the first time."""
        cache, tally = self.context.cache, terms.tally
        assert cache is not None
        again = cache.doorkeeper.seen(batch.payload)
        if not tally.seldom:
            return False
        if again:
            tally.again()
            return False
        self.context.counters.cache_bypasses[SELDOM] += 1
        tally.passed()
        return True

    def note_hot(self, key: bytes, batch: Batch, terms: CachePlan, reads: tuple[str, ...]) -> None:
        """The client asks for a result that is to be refreshed after writes."""
        if self.context.hot is not None:
            self.context.hot.note(key, self.client, batch, terms, reads)

    def touch_hot(self, key: bytes) -> None:
        """The client has got such a result from memory."""
        if self.context.hot is not None:
            self.context.hot.touch(key)

    def _cache_answered(self, batch: Batch, hit: bytes | None, fill: caching.Fill | None) -> None:
        if self.state != states.WAITING or batch is not self._batch:
            self._forgo(fill)
            return
        self.asking = False
        if hit is None or self.client.transaction.failed:
            self._go_upstream(fill)
            return
        if batch.references is not None:
            self._tell_cached(batch, hit)
        self.count_cached()
        self.write(caching.reply(batch, hit, self.client.transaction.status))
        self.idle()

    def _tell_cached(self, batch: Batch, hit: bytes) -> None:
        """A hit's description counts as any other."""
        found = caching.description_in(batch, hit)
        reference = batch.references[0] if batch.references else None
        if found is not None and reference is not None:
            self.tell(reference.client_name, reference.prepared, reference.prepared.told(found))
