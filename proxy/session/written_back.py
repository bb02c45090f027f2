"""A client's write on its way to write-back: what is against it, and what is asked first."""

import time
from collections.abc import Callable
from typing import Final

from proxy.cache.writeback.check import Check, Given, Unsuited
from proxy.cache.writeback.store import KEYS_KEPT_SECONDS
from proxy.cache.writeback.writeback import Acknowledged, Answer, WriteBack
from proxy.cache.writeback.writer import Declined
from proxy.pool.exchange import Exchange
from proxy.routing.plan import Plan
from proxy.session import keyed
from proxy.session.answers import CACHEABLE_SHAPES
from proxy.session.batch import Batch
from proxy.session.binding import Parameters, decode_parameters
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.session.transaction import IDLE
from proxy.wire import messages
from proxy.wire.errors import PgError, ProtocolViolation

_LONGEST_CHECK: Final = KEYS_KEPT_SECONDS / 2
"""Seconds; then what it has found may be out of date."""

_NAME: Final = b"question"

Outcome = str | PgError | None
"""The command tag of a write that is done, an error for the client, or None: it is to be run."""


def objection(context: DatabaseContext, client: Client, batch: Batch) -> str | None:
    """Why this client's write is not for write-back now; None if it may be."""
    assert context.write_back is not None
    if context.write_back.obstacle is not None:
        return context.write_back.obstacle
    if batch.shape not in CACHEABLE_SHAPES:
        return "its messages are not those of one plain execution"
    if client.facts.pinned is not None or context.keeps_backends(client.user):
        return "the session keeps its connection"
    if client.transaction.status != IDLE:
        return "it is part of a transaction"
    if not client.utf8 or not client.plain_strings:
        return "the client's encoding, or its strings, are unusual"
    if not context.catalogue.usable_for_cache or not context.write_back.targets:
        return "the catalogue is being read again"
    return None


def depends(context: DatabaseContext, client: Client, plan: Plan) -> bool:
    """Whether a statement must see what waits to be written: also where it is the first in a
    transaction that has a snapshot of its own, in which others follow."""
    if plan.sees_waiting:
        return True
    transaction = client.transaction
    if transaction.status == IDLE or transaction.failed or plan.ends_transaction:
        return False
    return context.may_have_snapshot(client)


class Write:
    """One write under way. `done` is called once."""

    def __init__(
        self,
        context: DatabaseContext,
        client: Client,
        batch: Batch,
        plan: Plan,
        literals: keyed.Literals,
        done: Callable[[Outcome], None],
    ) -> None:
        assert context.write_back is not None
        self._write_back: WriteBack = context.write_back
        self._context = context
        self._client = client
        self._batch = batch
        self._plan = plan
        self._literals = literals
        self._done = done
        self._check: Check | None = None
        self._began = time.monotonic()
        self._planned = b""

    def start(self) -> None:
        """Ask the primary whether the write would succeed."""
        batch = self._batch
        text = batch.text if batch.text is not None else batch.bound[0].text
        oids = () if batch.text is not None else batch.bound[0].oids
        try:
            self._check = self._write_back.check(text, oids)
            bound = None if batch.text is not None else decode_parameters(batch.binds[0])
            question = _question(self._check, bound)
        except (Unsuited, ProtocolViolation) as error:
            self._decline(str(error))
            return
        self._planned = self._context.planned()
        assert self._context.inquire is not None
        self._context.inquire(self._context, self._client, question, self._asked)

    def _asked(self, outcome: Exchange | PgError) -> None:
        assert self._check is not None
        if isinstance(outcome, PgError) or len(outcome.rows) != 1:
            self._decline("the primary refuses it, or can't be asked")
            return
        epochs = keyed.epochs_moved(self._plan, self._batch, self._literals, self._client.utf8)
        try:
            entry, members = self._check.entry(outcome.rows[0], epochs)
        except Unsuited as error:
            self._decline(str(error))
            return
        if time.monotonic() - self._began > _LONGEST_CHECK:
            self._decline("asking the primary took too long")
            return
        self._write_back.write(entry, members, self._planned, self._answered)

    def _answered(self, answer: Answer) -> None:
        assert self._check is not None
        if isinstance(answer, Acknowledged):
            self._done("INSERT 0 1" if self._check.row.inserts else "UPDATE 1")
        elif isinstance(answer, Declined):
            self._decline(answer.reason)
        else:
            self._done(answer)

    def _decline(self, reason: str) -> None:
        self._write_back.decline(reason)
        self._done(None)


def _question(asked: Check, bound: Parameters | None) -> bytes:
    """The messages of the question, with the client's parameters in its own formats. Raises
    Unsuited."""
    given = [_value(one, bound) for one in asked.given]
    types = b"".join(one.oid.to_bytes(4) for one in asked.given)
    body = asked.sql.encode() + b"\0" + len(given).to_bytes(2) + types
    formats = b"".join(code.to_bytes(2) for code, _ in given)
    values = b"".join(
        b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4) + value
        for _, value in given
    )
    count = len(given).to_bytes(2)
    bind = b"\0" + _NAME + b"\0" + count + formats + count + values + b"\0\1\0\1"
    return b"".join(
        (
            messages.parse(_NAME, body),  # named, so that servers keep it
            messages.message(b"B", bind),
            messages.message(b"E", b"\0\0\0\0\0"),
            messages.SYNC,
        )
    )


def _value(one: Given, bound: Parameters | None) -> tuple[int, bytes | None]:
    """(format code, value)."""
    if one.number == 0:
        return 0, one.constant
    if bound is None or one.number > len(bound.values):
        raise Unsuited("a parameter has no value")
    return bound.format_of(one.number - 1), bound.values[one.number - 1]
