"""The states of a client session, all in one place.

    waiting ──▶ idle ◀──────────────┐
     (login)     │ a batch has come │
                 ▼                  │
              waiting ──▶ active ───┤ ReadyForQuery
                 │          │ ▲     │
                 │          ▼ │     │
                 │         copy_in  │
                 └──────────────────┘ answered by Penstock itself: cache, refusal, SHOW ROUTE

Any state may go to `closed`. A session in `idle` may still be linked to a backend: in an open
transaction, or pinned.
"""

import enum


class State(enum.Enum):
    """What a session does. Names as PgBouncer's where it has them (include/bouncer.h)."""

    IDLE = "idle"
    """Nothing is under way: the next batch may start."""
    WAITING = "waiting"
    """For a backend, the cache, or an exchange of Penstock's own with the backend."""
    ACTIVE = "active"
    """A batch was sent, its answer is being relayed."""
    COPY_IN = "copy_in"
    """The server reads COPY data from the client."""
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.WAITING, State.ACTIVE, State.CLOSED}),
    State.WAITING: frozenset({State.IDLE, State.ACTIVE, State.WAITING, State.CLOSED}),
    State.ACTIVE: frozenset({State.IDLE, State.COPY_IN, State.WAITING, State.CLOSED}),
    State.COPY_IN: frozenset({State.ACTIVE, State.IDLE, State.WAITING, State.CLOSED}),
    State.CLOSED: frozenset(),
}
