"""The client's side of a session, as far as the server's side needs to know it.

`session.Session` is the one that there is; `link.Link` and what builds on it know only this.
"""

from typing import Final

from proxy.net.clock import clock
from proxy.routing.plan import Plan
from proxy.routing.route import Route, Target
from proxy.session.batch import Ack, Batch
from proxy.session.client import Client
from proxy.session.combine import NOTHING
from proxy.session.context import DatabaseContext
from proxy.session.listening import Listening
from proxy.session.prepared import Prepared
from proxy.session.recipient import Recipient
from proxy.session.vacancy import Vacancy
from proxy.wire import errors
from proxy.wire.errors import PgError

MISTAKE: Final = PgError(errors.INTERNAL_ERROR, "Penstock failed; its log says how")


class Downstream(Recipient):
    """A client's channel with its state; what happens on the server's side is told by calls."""

    def __init__(self, context: DatabaseContext, client: Client) -> None:
        super().__init__(context, client)
        self.listening: Listening | None = None
        """Its LISTENs, once there has been one that others' connection serves."""
        self.vacancy: Vacancy | None = None
        """For the statement that runs, if it demands that nobody is connected to a database."""
        self.asking = False
        """The batch waits for what the cache says."""
        self._reading_paused = False
        self._plan: Plan = NOTHING
        self._started = 0.0
        self.fast = False
        """Its client's connection is on the fast path."""

    @property
    def started(self) -> float:
        """perf_counter() when the last batch had come whole; 0 before the first."""
        return self._started

    def count(self, route: Route) -> None:
        """Count the batch that a server has answered."""
        kind = self._plan.kind
        tally = route.tallies.get(kind)
        if tally is None:
            node = route.node.name if route.node is not None else ""
            tally = self.context.counters.tally(route.target.value, node, kind)
            route.tallies[kind] = tally
        tally.add(clock.now() - self._started)

    def count_cached(self) -> None:
        """Count the batch that the cache has answered."""
        kind = self._plan.kind
        tally = self.context.cached.get(kind)
        if tally is None:
            tally = self.context.counters.tally(Target.CACHE.value, "", kind)
            self.context.cached[kind] = tally
        tally.add(clock.now() - self._started)

    def pause_reading(self, pause: bool) -> None:
        """Stop or go on reading from the client."""
        if self._transport is None or self._reading_paused == pause:
            return
        self._reading_paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @property
    def fast_descriptor(self) -> int:
        """That of the client's connection if it may take the fast path, else -1."""
        return -1 if self._transport is None else self._transport.fast_descriptor

    @property
    def statements(self) -> dict[bytes, Prepared]:
        """What the client has prepared, by its names for it."""
        return {}

    def at_rest(self) -> bool:
        """Whether nothing is unread, unsent or waited for, and nothing comes but answers."""
        return False

    def served(self, started: float) -> None:
        """The last batch, on the fast path, came at that time of time.perf_counter()."""
        self._started = started

    def leave_fast_path(self) -> None:
        """Be as if there were no fast path."""
        if self.fast and self._transport is not None:
            self._transport.leave_fast_path()

    def run(self) -> None:
        """More of what the client has sent may be started."""

    def idle(self) -> None:
        """The batch has been answered: the next may start."""

    def refuse(self, error: PgError, skip: bool = False, told: bool = False) -> None:
        """Give the client an error instead of what it asked for (see `Session.refuse`)."""

    def close(self) -> None:
        """Close the connection; the server side is cleaned up."""

    def skip_to_sync(self) -> None:
        """The server reported an error to a flush that was synced early."""

    def undo_name(self, ack: Ack) -> None:
        """The server refused or skipped this Parse or Close."""

    def tell(self, name: bytes, prepared: Prepared, told: Prepared) -> None:
        """The client has been told what this statement of its is."""

    def doubt_names(self, batch: Batch) -> None:
        """Parses of this batch may have had no effect."""

    def forget_statements(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL went through."""

    def relieve(self) -> None:
        """The server takes bytes again."""

    def begin_copy(self) -> None:
        """The server waits for COPY data."""

    def copy_is_over(self) -> bool:
        """The server has ended COPY; false if the client is in the middle of a message of it."""
        return True
