"""Looking a user up on a server: `auth_query` on a connection that auth_user's pool lends.

The connection is one of the pool's like all others, so it is limited, shown and kept as they are.
"""

from collections.abc import Callable

import structlog

from proxy.auth.verifier import parse_stored
from proxy.pool.backend import Backend, Borrower
from proxy.pool.exchange import Exchange
from proxy.pool.pool import Pool
from proxy.pool.settings_state import difference
from proxy.wire import errors, messages
from proxy.wire.errors import PgError
from proxy.wire.passwords import StoredSecret

log = structlog.get_logger(__name__)

Done = Callable[[StoredSecret | None, PgError | None], None]
"""(the stored secret, None if there is none; or what went wrong, where INVALID_CATALOG_NAME is for
Penstock to deal with, and all else for the client to be told)."""

_IDLE = ord("I")


class UserLookup(Borrower):
    """One look-up. `start`; `done` is called once, unless `cancel` comes first."""

    def __init__(self, pool: Pool, sql: str, user: str, done: Done) -> None:
        self._pool = pool
        self._sql = sql
        self._user = user
        self._done: Done | None = done
        self._backend: Backend | None = None
        self._exchange = Exchange()
        self._asked = False

    def start(self) -> None:
        """Borrow a connection and ask."""
        backend = self._pool.acquire(self)
        if backend is not None:
            self.backend_lent(backend)

    def cancel(self) -> None:
        """The client has gone."""
        self._done = None
        if self._backend is None:
            self._pool.forget(self)

    def backend_lent(self, backend: Backend) -> None:
        self._backend = backend
        backend.owner = self
        assert backend.transport is not None
        sql = difference(backend.settings, self._pool.base)
        if sql:
            backend.transport.write(messages.query(sql))
        else:
            self._ask(backend)

    def _ask(self, backend: Backend) -> None:
        self._asked = True
        self._exchange = Exchange()
        backend.settings = self._pool.base
        backend.unnamed = None
        assert backend.transport is not None
        backend.transport.write(_question(self._sql, self._user))

    def backend_refused(self, error: PgError) -> None:
        self._fail(error)

    def backend_data(self, data: bytes) -> None:
        backend, exchange = self._backend, self._exchange
        if backend is None or not exchange.feed(data):
            return
        for body in exchange.statuses:
            name, _, value = body[:-1].partition(b"\0")
            backend.parameters[name] = value
        error = exchange.error
        if error is None and not self._asked:
            self._ask(backend)
            return
        self._backend = None
        if exchange.status == _IDLE and self._asked:
            self._pool.release(backend)
        else:
            self._pool.discard(backend)
        if error is not None:
            self._fail(error)
        else:
            self._answered(exchange.rows)

    def _answered(self, rows: list[list[bytes | None]]) -> None:
        try:
            secret = _stored(rows, self._user)
        except ValueError as error:
            self._fail(PgError(errors.INTERNAL_ERROR, f"auth_query {error}"))
        else:
            self._finish(secret, None)

    def backend_lost(self, error: PgError) -> None:
        self._backend = None
        self._fail(error)

    def backend_congested(self, congested: bool) -> None:
        pass  # one short query

    def _fail(self, error: PgError) -> None:
        """The client is told little: it has not shown who it is."""
        if self._done is None:
            return
        log.error(
            "can't look a user up",
            user=self._user,
            auth_user=self._pool.login.user,
            node=self._pool.node.name,
            sqlstate=error.sqlstate,
            error=error.message,
        )
        self._finish(
            None,
            error
            if error.sqlstate == errors.INVALID_CATALOG_NAME
            else PgError(
                errors.CANNOT_CONNECT_NOW,
                "users can't be looked up at this time",
                "Penstock's log says why auth_query failed",
            ),
        )

    def _finish(self, secret: StoredSecret | None, error: PgError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(secret, error)


def _question(sql: str, user: str) -> bytes:
    """The query with its one parameter, as text, and a Sync."""
    name = user.encode()
    # Unnamed portal and statement; no format codes: text; one parameter; results in text too.
    bind = b"\0\0" + b"\0\0" + b"\0\1" + len(name).to_bytes(4) + name + b"\0\0"
    return b"".join(
        (
            messages.parse(b"", sql.encode() + b"\0\0\0"),
            messages.message(b"B", bind),
            messages.message(b"E", b"\0\0\0\0\0"),
            messages.SYNC,
        )
    )


def _stored(rows: list[list[bytes | None]], user: str) -> StoredSecret | None:
    """The secret in the answer. Raises ValueError, saying what is wrong with it."""
    if not rows:
        return None
    if len(rows) > 1:
        raise ValueError(f"gave {len(rows)} rows for one user: it must give one, or none")
    row = rows[0]
    if len(row) < 2:
        raise ValueError("gave one column: it must give the user's name and its stored secret")
    name, secret = row[0], row[1]
    if name != user.encode():
        raise ValueError("gave another user than the one asked for")
    return None if secret is None else parse_stored(secret.decode())
