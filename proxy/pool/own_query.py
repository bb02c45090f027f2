"""A query of Penstock's own on a backend that no client has."""

import time
from collections.abc import Callable

from proxy.pool.backend import Backend, Borrower
from proxy.pool.exchange import Exchange
from proxy.wire import messages
from proxy.wire.errors import PgError


class OwnQuery(Borrower):
    """Runs `sql` on `backend` and calls `done` once, with the answer or the connection's loss."""

    def __init__(
        self, backend: Backend, sql: bytes, done: Callable[[Exchange | PgError], None]
    ) -> None:
        self.backend = backend
        self.started = time.monotonic()
        self._exchange = Exchange()
        self._done = done
        assert backend.transport is not None
        backend.owner = self
        backend.unnamed = None
        backend.transport.write(messages.query(sql))

    def backend_data(self, data: bytes) -> None:
        if not self._exchange.feed(data):
            return
        backend = self.backend
        for body in self._exchange.statuses:
            name, _, value = body[:-1].partition(b"\0")
            backend.parameters[name] = value
        backend.owner = None
        if self._exchange.rest:
            backend.returned_bytes(self._exchange.rest)
        self._done(self._exchange)

    def backend_lost(self, error: PgError) -> None:
        self._done(error)

    def backend_congested(self, congested: bool) -> None:
        pass  # a short query
