"""The states of a client session, all in one place. Names as PgBouncer's where it has them.

     idle ◀───────────────┐
      │ a batch has come  │
      ▼                   │
    waiting ──▶ active ───┤ ReadyForQuery
      │          │ ▲      │
      │          ▼ │      │
      │        copy_in    │
      └───────────────────┘ answered by Penstock itself: cache, refusal, SHOW ROUTE

Any state may go to `closed`. A session in `idle` may still be linked to a backend: in an open
transaction, or pinned. States are plain numbers, as they are compared several times per query.
"""

from typing import Final

IDLE: Final = 0
"""Nothing is under way: the next batch may start."""
WAITING: Final = 1
"""For a backend, the cache, or an exchange of Penstock's own with the backend."""
ACTIVE: Final = 2
"""A batch was sent, its answer is being relayed."""
COPY_IN: Final = 3
"""The server reads COPY data from the client."""
CLOSED: Final = 4

NAMES: Final = ("idle", "waiting", "active", "copy_in", "closed")

TRANSITIONS: dict[int, frozenset[int]] = {
    IDLE: frozenset({WAITING, ACTIVE, CLOSED}),
    WAITING: frozenset({IDLE, ACTIVE, WAITING, CLOSED}),
    ACTIVE: frozenset({IDLE, COPY_IN, WAITING, CLOSED}),
    COPY_IN: frozenset({ACTIVE, IDLE, WAITING, CLOSED}),
    CLOSED: frozenset(),
}
