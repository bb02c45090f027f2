"""What a client is told at login: the server's ParameterStatus values under its settings.

The first login of a user with some settings tries them on a server; later ones know the outcome.
A client that is to have a server connection of its own gets the one that they were tried on.
"""

from collections.abc import Callable

from proxy.pool.backend import Backend, Borrower
from proxy.pool.exchange import Exchange
from proxy.pool.pool import Pool
from proxy.pool.settings_state import DEFAULTS, SettingsState, difference
from proxy.session.context import DatabaseContext
from proxy.wire import messages
from proxy.wire.errors import PgError

_MOST_WELCOMES = 2000

Done = Callable[[dict[bytes, bytes] | PgError], None]


class Welcome(Borrower):
    """One login's probe of a server."""

    def __init__(
        self,
        context: DatabaseContext,
        user: str,
        settings: SettingsState,
        done: Done,
        keeps: bool = False,
    ) -> None:
        self.kept: tuple[Pool, Backend] | None = None
        """A connection to the primary in the client's state, if it `keeps` one; set by `done`."""
        self._keeps = keeps
        self._context = context
        self._user = user
        self._asked = settings
        self.settings = settings
        """What the client starts with: what it asked for, over what connect_query sets."""
        self._done: Done | None = done
        self._exchange = Exchange()
        self._backend: Backend | None = None
        self._pools = [
            context.pool_of(node, user)
            for node in (context.topology.primary, *context.topology.replicas)
        ]
        self._learn_base(self._pools)
        self._pool: Pool = self._pools.pop(0)

    def start(self) -> None:
        """Answer from memory, or borrow a backend; `done` is called once."""
        known = self._context.welcomes.get((self._user, self._asked))
        if known is not None and not self._keeps:
            self._finish(known)
            return
        self._borrow()

    def _borrow(self) -> None:
        backend = self._pool.acquire(self)
        if backend is not None:
            self.backend_lent(backend)

    def _learn_base(self, pools: list[Pool]) -> None:
        base = next((pool.base for pool in pools if pool.base is not DEFAULTS), DEFAULTS)
        if base is not DEFAULTS:
            self.settings = base.replaced(self._asked.values)

    def cancel(self) -> None:
        """The client has gone."""
        self._done = None
        if self._backend is None:
            self._pool.forget(self)

    def backend_lent(self, backend: Backend) -> None:
        self._backend = backend
        backend.owner = self
        self._learn_base([self._pool])
        sql = difference(backend.settings, self.settings)
        if not sql:
            self._succeed(backend)
            return
        assert backend.transport is not None
        backend.transport.write(messages.query(sql))

    def backend_refused(self, error: PgError) -> None:
        if self._pools and error.sqlstate.startswith("08"):
            self._pool = self._pools.pop(0)  # the primary is away: a replica knows as much
            self._borrow()
        else:
            self._finish(error)

    def backend_data(self, data: bytes) -> None:
        backend = self._backend
        if backend is None or not self._exchange.feed(data):
            return
        if self._exchange.error is not None:
            self._pool.discard(backend)
            self._finish(self._exchange.error)
            return
        for body in self._exchange.statuses:
            name, _, value = body[:-1].partition(b"\0")
            backend.parameters[name] = value
        self._succeed(backend)

    def _succeed(self, backend: Backend) -> None:
        backend.settings = self.settings
        welcomes = self._context.welcomes
        if len(welcomes) >= _MOST_WELCOMES:
            welcomes.clear()
        known = welcomes[self._user, self._asked] = dict(backend.parameters)
        if (
            self._keeps
            and self._done is not None
            and backend.node is self._context.topology.primary
        ):
            self.kept = self._pool, backend
        else:
            self._pool.release(backend)
        self._finish(known)

    def backend_lost(self, error: PgError) -> None:
        self._finish(error)

    def backend_congested(self, congested: bool) -> None:
        pass  # one short query

    def _finish(self, outcome: dict[bytes, bytes] | PgError) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)
