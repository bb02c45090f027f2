"""currval() and lastval(): they tell what nextval() gave on the same server connection.

Which statements call nextval() can't be told from their texts (defaults and triggers do), so that
keeping the connection for all who might ask would end pooling. A session that asks for the first
time outside a transaction gets the connection of its writes if no other session has written there
since, and is told why not otherwise; from its next write on it keeps its connection.
"""

from typing import Final

from proxy.pool.backend import Backend
from proxy.routing.plan import Plan
from proxy.sql.pins import SEQUENCE_PIN
from proxy.sql.statement import Kind
from proxy.wire import errors
from proxy.wire.errors import PgError

LOST: Final = PgError(
    errors.OBJECT_NOT_IN_PREREQUISITE_STATE,
    "currval() and lastval() can't be answered: this session's writes were not all on one server "
    "connection that no other session has written on since",
    "use INSERT … RETURNING, or ask in the transaction that calls nextval(); from its next write "
    "on this session keeps its server connection",
)


def looks_back(plan: Plan) -> bool:
    """Whether the string asks for what an earlier statement's nextval() gave."""
    if plan.pins != SEQUENCE_PIN or len(plan.analysis.statements) != 1:
        return False
    statement = plan.analysis.statements[0]
    if any(name.rpartition(".")[2] == "nextval" for name in statement.functions):
        return False
    return statement.kind is Kind.SELECT or "returning" not in plan.analysis.text.lower()


class Sequences:
    """Where a session's sequences have their state, as far as it is known."""

    __slots__ = ("_backend", "_several", "_wanted")

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._several = False
        self._wanted = False
        """The session has asked, and could not be answered."""

    def wrote(self, backend: Backend) -> bool:
        """The session has written there; whether to keep the backend from now on."""
        backend.sequences = self
        if self._wanted:
            self._backend, self._several, self._wanted = backend, False, False
            return True
        if self._backend is None:
            self._backend = backend
        elif self._backend is not backend:
            self._several = True
        return False

    def backend(self) -> Backend | None:
        """The one that can answer; None: none can, until the session writes again."""
        backend = self._backend
        if backend is None or self._several or backend.closed or backend.sequences is not self:
            self._wanted = True
            return None
        return backend

    def forget(self) -> None:
        """DISCARD ALL or DISCARD SEQUENCES."""
        self._backend, self._several, self._wanted = None, False, False
