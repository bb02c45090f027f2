"""A client's statement run once more, for the cache's sake (see `hot`)."""

import asyncio
from collections.abc import Callable

import structlog

from proxy.cache.results import ResultCache
from proxy.net.clock import clock
from proxy.routing.plan import CachePlan
from proxy.routing.route import Route
from proxy.session import states
from proxy.session.batch import Batch
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.session.hot import HotResults, Request
from proxy.session.plans import Unanalysed
from proxy.session.session import Session
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)


class Refresh(Session):
    """A session without a client, for one batch. What it would be answered goes nowhere."""

    def __init__(
        self, context: DatabaseContext, request: Request, done: Callable[[bool], None]
    ) -> None:
        client = Client(request.user, request.settings, request.settings, dict(request.reported))
        super().__init__(context, client, _nobody)
        self._request = request
        self._done: Callable[[bool], None] | None = done
        self._timer: asyncio.TimerHandle | None = None
        self._answered = False

    def begin(self) -> None:
        """Run the batch, unless it isn't cached by write-through any more, or there is no server
        connection for it: the writer may hold the only one, and waits."""
        batch = self._request.batch
        try:
            plan = self._plan_of(batch)
        except Unanalysed as unanalysed:  # a writer waits, so it is done here and now
            self.context.plans_of(self.client.user).learn(unanalysed.text, None)
            plan = self._plan_of(batch)
        if plan.cache is None or not plan.cache.refresh_seconds or not self._has_room():
            self.close()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(plan.cache.refresh_seconds, self.close)
        self._started = clock.now()
        self._batch, self._plan = batch, plan
        self._running = True  # there is no other batch to go on with
        self._start_planned(batch, plan)
        if self.state == states.IDLE:
            self._end()

    def _has_room(self) -> bool:
        """Whether the primary's pool has a connection to spare, or may open one."""
        context, user = self.context, self.client.user
        pool = context.pool_of(context.topology.primary, user)
        return pool.idle_count > 0 or pool.size < pool.settings.size

    def note_hot(self, key: bytes, batch: Batch, terms: CachePlan, reads: tuple[str, ...]) -> None:
        """Nobody has asked."""

    def touch_hot(self, key: bytes) -> None:
        """Nobody has asked."""

    def count(self, route: Route) -> None:
        """It is no query of a client's."""

    def count_cached(self) -> None:
        """It is no query of a client's."""

    def idle(self) -> None:
        """The batch has come to its end."""
        if self.state != states.CLOSED:  # else it was given up
            super().idle()
            self._end()

    def _end(self) -> None:
        self._answered = True
        self.close()

    def fatal(self, error: PgError) -> None:
        """The reason why it can't be refreshed is for the log: a client that asks will see it."""
        log.info("a cached result was not refreshed", user=self.client.user, error=str(error))
        self.close()

    def refuse(self, error: PgError, skip: bool = False, told: bool = False) -> None:
        """As `fatal`: there is nothing that could follow."""
        self.fatal(error)

    def close(self) -> None:
        """Give up what still runs, and tell of the end."""
        super().close()
        if self._timer is not None:
            self._timer.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(self._answered)


def hot_results(context: DatabaseContext, cache: ResultCache) -> HotResults:
    """What has the results of this database refreshed."""
    return HotResults(
        cache.statistics, lambda request, done: Refresh(context, request, done).begin()
    )


def _nobody(_: Session) -> None:
    """Nobody waits for its end."""
