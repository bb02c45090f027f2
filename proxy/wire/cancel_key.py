"""The keys by which clients cancel: a process id that names a worker, and a secret.

Layout of the process id, 31 bits since clients show it as a positive number:

     30           23 22                        0
    +---------------+---------------------------+
    | worker, 8 bit | session, 23 bits, not 0   |
    +---------------+---------------------------+

The secret is random: 4 bytes in protocol 3.0, 32 from 3.2 on (as PostgreSQL 18). What a client
sends back is decoded by its process id alone, so any worker can tell whose the request is.
"""

import hmac
import secrets

MOST_WORKERS = 1 << 8
MOST_SESSIONS = (1 << 23) - 1
"""The highest session number."""

FIRST_SESSION = 1 << 22
"""Of those that are given out: Linux has no process ids from there on (PID_MAX_LIMIT), so that no
client's is that of a server's process too, whichever the worker is."""

_SESSION_BITS = 23
_SHORT, _LONG = 4, 32
_FIRST_WITH_LONG_KEYS = 2


def process_id(worker: int, session: int) -> int:
    """The process id of a session (1 to MOST_SESSIONS) of a worker (from 0 below MOST_WORKERS).

    Raises ValueError for numbers that it can't hold.
    """
    if not (0 <= worker < MOST_WORKERS and 1 <= session <= MOST_SESSIONS):
        raise ValueError(f"worker {worker}, session {session} have no cancel key")
    return worker << _SESSION_BITS | session


def worker_of(process_id: int) -> int:
    """The worker that gave out this process id; for one never given out, any number."""
    return process_id >> _SESSION_BITS


def new_session() -> int:
    """A session number that can't be guessed; it may be taken already."""
    return FIRST_SESSION + secrets.randbelow(MOST_SESSIONS + 1 - FIRST_SESSION)


def new_secret(minor: int) -> bytes:
    """A secret for a client that speaks protocol 3.`minor`."""
    return secrets.token_bytes(_LONG if minor >= _FIRST_WITH_LONG_KEYS else _SHORT)


def same(expected: bytes, given: bytes) -> bool:
    """Whether two secrets are equal, in a time that tells nothing."""
    return hmac.compare_digest(expected, given)
