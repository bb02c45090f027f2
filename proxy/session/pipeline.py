"""What is under way between two Syncs: how many answers are to come, and what must wait for them.

Each message of the extended protocol has one answer, or the server has met an error and skips all
that follows up to a Sync, a simple Query included. And once an Execute may have begun a COPY, what
the client sends means something else. So both wait until what was sent before is answered.
"""

from typing import Final

from proxy.session.batch import SWALLOW, Ack, Batch

_NO_MESSAGES: Final = b"HS?QF"
"""Letters of a shape that no message of the extended protocol with an answer of its own has."""
_MAY_COPY: Final = ("copy_from", "unknown")


def answers_to(batch: Batch, acks: list[Ack] | None) -> int:
    """How many answers a batch draws, those to Penstock's own messages included."""
    own = sum(ack.action == SWALLOW for ack in acks or ())
    return own + sum(letter not in _NO_MESSAGES for letter in batch.shape)


def may_copy_in(batch: Batch) -> bool:
    """Whether the server may read COPY data after this batch."""
    if b"E" not in batch.shape and b"e" not in batch.shape:
        return False
    return not batch.bound or any(
        one.plan is None or one.plan.kind in _MAY_COPY for one in batch.bound
    )
