"""A query of Penstock's own on a backend that no client has."""

import asyncio
import time
from collections.abc import Callable

from proxy.pool.backend import Backend, Borrower
from proxy.pool.exchange import Exchange
from proxy.wire import errors, messages
from proxy.wire.errors import PgError


class OwnQuery(Borrower):
    """Sends `payload`, messages that end with a Query or Sync, on `backend` and calls `done` once,
    with the answer or the connection's loss."""

    def __init__(
        self, backend: Backend, payload: bytes, done: Callable[[Exchange | PgError], None]
    ) -> None:
        self.backend = backend
        self.started = time.monotonic()
        self._exchange = Exchange()
        self._done = done
        assert backend.transport is not None
        backend.owner = self
        backend.unnamed = None
        backend.transport.write(payload)

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


async def ask(backend: Backend, sql: bytes) -> Exchange:
    """The answer to a query of Penstock's own. Raises PgError."""
    outcome = await exchange(backend, messages.query(sql))
    if outcome.error is not None:
        raise outcome.error
    return outcome


async def exchange(backend: Backend, payload: bytes) -> Exchange:
    """The answer to messages that end with a Query or Sync, also where it is an error. Raises
    PgError where the connection is lost."""
    answered: asyncio.Future[Exchange | PgError] = asyncio.get_running_loop().create_future()

    def done(outcome: Exchange | PgError) -> None:
        if not answered.done():
            answered.set_result(outcome)

    if backend.closed:
        raise PgError(errors.CONNECTION_FAILURE, f"the connection to {backend.node.name} was lost")
    OwnQuery(backend, payload, done)
    outcome = await answered
    if isinstance(outcome, PgError):
        raise outcome
    return outcome
