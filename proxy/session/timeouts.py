"""Time-outs of clients, queries and transactions, looked at once a second.

No batch pays for them: a session remembers when its last batch was started, which its statistics
need anyway, and the sweep notes what it sees. Idle times and transactions are counted from the
sweep that first saw them, so they end up to a second late, never early.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from proxy.config.settings import PoolSettings
from proxy.session import states
from proxy.session.session import Session
from proxy.session.transaction import IDLE
from proxy.wire import errors
from proxy.wire.errors import PgError

_AT_ONCE: Final = 500
"""Sessions looked at before other work gets its turn."""


async def sweep(sessions: Iterable[Session], now: float) -> None:
    """Close the sessions that have overstayed. `now`: seconds of time.perf_counter()."""
    for number, session in enumerate(sessions, 1):
        look_at(session, now)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def look_at(session: Session, now: float) -> None:
    """Close one session if a time-out of its has passed."""
    if session.state == states.CLOSED:
        return
    pooling, transaction = session.upstream.pooling, session.client.transaction
    if transaction.status != IDLE:
        if not transaction.seen_open:
            transaction.seen_open = now
        elif _passed(pooling.transaction_timeout, now - transaction.seen_open):
            session.upstream.expire(_transaction(pooling.transaction_timeout))
            return
    if session.state == states.IDLE:
        _look_at_idle(session, pooling, now)
        return
    session.idle_since = 0.0
    if session.upstream.queued:
        return  # pool.wait_timeout is for that
    running = now - session.started
    if _passed(pooling.query_timeout, running):
        session.upstream.expire(_query(pooling.query_timeout))
    elif _passed(pooling.transaction_timeout, running):
        session.upstream.expire(_transaction(pooling.transaction_timeout))


def _look_at_idle(session: Session, pooling: PoolSettings, now: float) -> None:
    if not session.idle_since or session.idle_after != session.started or session.gathering:
        session.idle_since, session.idle_after = now, session.started
        return
    idle = now - session.idle_since
    if session.client.transaction.status != IDLE:
        if _passed(pooling.idle_in_transaction_timeout, idle):
            session.fatal(_idle_in_transaction(pooling.idle_in_transaction_timeout))
    elif _passed(pooling.client_idle_timeout, idle):
        session.fatal(_idle(pooling.client_idle_timeout))


def _passed(limit: float, seconds: float) -> bool:
    return limit > 0 and seconds >= limit


def _query(limit: float) -> PgError:
    return PgError(
        errors.QUERY_CANCELED,
        f"terminating connection: the query ran longer than query_timeout ({limit:g} s)",
        "whether it took effect is unknown if it was a write; raise pool.query_timeout",
    )


def _transaction(limit: float) -> PgError:
    return PgError(
        errors.TRANSACTION_TIMEOUT,
        f"terminating connection: the transaction was open longer than transaction_timeout "
        f"({limit:g} s)",
        "shorten the transaction, or raise pool.transaction_timeout",
    )


def _idle_in_transaction(limit: float) -> PgError:
    return PgError(
        errors.IDLE_IN_TRANSACTION_TIMEOUT,
        f"terminating connection: idle in a transaction longer than idle_in_transaction_timeout "
        f"({limit:g} s)",
        "end transactions sooner, or raise pool.idle_in_transaction_timeout",
    )


def _idle(limit: float) -> PgError:
    return PgError(
        errors.IDLE_SESSION_TIMEOUT,
        f"terminating connection: idle longer than client_idle_timeout ({limit:g} s)",
        "connect again, or raise pool.client_idle_timeout",
    )
