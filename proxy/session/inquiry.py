"""A question of Penstock's own, put to the primary as a client's: by its user, in its settings."""

from collections.abc import Callable

from proxy.net.clock import clock
from proxy.pool.exchange import Exchange
from proxy.routing.plan import Access, Plan
from proxy.routing.route import Route
from proxy.session.batch import Batch
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.session.session import Session
from proxy.sql.statement import Analysis
from proxy.wire.errors import PgError

_PLAN = Plan(
    Analysis("", ()), "select", Access.READ, "a question before a write", node_hint="primary"
)


class Inquiry(Session):
    """A session without a client, for one batch; `done` gets the answer once."""

    def __init__(
        self,
        context: DatabaseContext,
        client: Client,
        done: Callable[[Exchange | PgError], None],
    ) -> None:
        own = Client(client.user, client.settings, client.settings, dict(client.reported))
        super().__init__(context, own, _nobody)
        self._done: Callable[[Exchange | PgError], None] | None = done
        self._answer_of_server = Exchange()

    def put(self, messages: bytes) -> None:
        """Send the question: messages up to a Sync."""
        self._intake.append(messages)
        batch = self._intake.next()
        assert isinstance(batch, Batch)
        self._started = clock.now()
        self._batch, self._plan = batch, _PLAN
        self._running = True  # there is no other batch to go on with
        self.upstream.run(batch, _PLAN, (), None)

    def write(self, data: bytes) -> None:
        """The answer."""
        self._answer_of_server.feed(data)

    def count(self, route: Route) -> None:
        """It is no query of a client's."""

    def idle(self) -> None:
        """The answer is whole."""
        super().idle()
        self._tell(self._answer_of_server.error or self._answer_of_server)

    def refuse(self, error: PgError, skip: bool = False, told: bool = False) -> None:
        """It can't be asked."""
        self._tell(error)

    def fatal(self, error: PgError) -> None:
        """It can't be asked."""
        self._tell(error)

    def _tell(self, outcome: Exchange | PgError) -> None:
        self.close()
        done, self._done = self._done, None
        if done is not None:
            done(outcome)


def inquire(
    context: DatabaseContext,
    client: Client,
    question: bytes,
    done: Callable[[Exchange | PgError], None],
) -> None:
    """Put a question, messages up to a Sync, as this client would."""
    Inquiry(context, client, done).put(question)


def _nobody(_: Session) -> None:
    """Nobody waits for its end."""
