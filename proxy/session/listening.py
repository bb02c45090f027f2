"""One client's LISTENs, served by the connection that listens for all (`pool.shared_listener`).

A LISTEN or UNLISTEN that stands alone is answered here. Among other statements, or in one packet
with them, it runs on the session's backend, which is freed of it when the transaction is over: the
server then decides what fails with it, and `sql.listening.Outlook` knows what follows from that.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from proxy.config.settings import PoolSettings
from proxy.pool.shared_listener import SharedListener, Subscriber, quoted
from proxy.routing.plan import Plan
from proxy.session import states
from proxy.session.recipient import Recipient
from proxy.session.transaction import IDLE
from proxy.sql.listening import Outlook, Step, Verb, too_involved
from proxy.wire import errors
from proxy.wire.errors import PgError

_TOO_INVOLVED: Final = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "LISTEN and UNLISTEN can't share a packet with savepoints, or stand before the end of a "
    "transaction that more follows",
    'send them one by one; or set pool.listen = "pinned"',
)
UNCLEAR: Final = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "terminating connection: a pipeline with LISTEN or UNLISTEN failed after the end of a "
    "transaction in it, so that it can't be told which of them took effect",
    "send LISTEN and UNLISTEN outside of pipelines",
)
_NOT_PREPARED: Final = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY",
)
_ASKED_WITHIN: Final = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "pg_listening_channels() can't be asked within a transaction or pipeline outside session mode",
    'ask outside of it; or set pool.listen = "pinned"',
)
_LOST: Final = (
    "terminating connection: the server connection that listens for this client was lost, and "
    "notifications may have been lost with it"
)
_LOST_HINT: Final = (
    "connect again, LISTEN again, and look at what was to be notified of; or set "
    'pool.listener_loss = "warn"'
)
_INTERRUPTED: Final = (
    "the server connection that listens for this client was lost and has been replaced: "
    "notifications may have been lost"
)

DoneWith = Callable[[PgError | None], None]


class Listening(Subscriber):
    """See the module's docstring. Made at a session's first LISTEN."""

    def __init__(self, session: Recipient, listener: SharedListener, most: int) -> None:
        self.outlook = Outlook()
        self.unshared = ""
        """Why the session listens on its own backend instead; "" where it doesn't."""
        self._session = session
        self._listener = listener
        self._most = most
        """Bytes of notifications that may wait; 0: any number."""
        self._subscribed: dict[str, None] = {}
        self._committing = False
        """What is listened on in the transaction at hand may be committed by now."""
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._waiting = 0
        """Bytes in the inbox."""
        self._lost: PgError | None = None
        self._interrupted = False

    @property
    def used(self) -> bool:
        """Whether there is anything that the session listens on, or may."""
        return bool(self.outlook.channels or self.outlook.pending)

    # Steps

    def objection(self, plan: Plan, unsynced: bool) -> PgError | None:
        """Why this must not run; None if it may."""
        pending = bool(self.outlook.pending)
        if too_involved(plan.steps, pending):
            return _TOO_INVOLVED
        if pending and any(step.verb is Verb.PREPARE for step in plan.steps):
            return _NOT_PREPARED
        within = unsynced or self._session.client.transaction.status != IDLE
        if plan.asks_channels and self.outlook.channels and within:
            return _ASKED_WITHIN
        return None

    def wanted(self, steps: Sequence[Step]) -> list[str]:
        """Channels that must be subscribed to before these run."""
        return [name for name in self.outlook.wanted(steps) if name not in self._subscribed]

    def subscribe(self, channels: Sequence[str], user: str, done: DoneWith) -> None:
        """Hear of these channels from the call of `done` on."""

        def answered(error: PgError | None) -> None:
            if error is None:
                for channel in channels:
                    self._subscribed[channel] = None
            if self._session.state == states.CLOSED:
                self.leave()
            else:
                done(error)

        self._listener.subscribe(self, channels, user, answered)

    def sends(self, plan: Plan) -> bool:
        """This is being sent; whether the backend will listen by itself for a while."""
        self._committing = self._committing or bool(plan.steps)
        return plan.listens

    def settle(self, steps: Sequence[Step], failed: bool, aborted: bool, idle: bool) -> list[str]:
        """These have been answered (see `Outlook`): channels that are still to be subscribed to."""
        if failed:
            self.outlook.fail(idle)
        else:
            self.outlook.run(steps, aborted, idle)
        self._committing = False
        return self._trim(idle)

    def rolled_back(self) -> None:
        """The transaction is undone."""
        self.outlook.fail(True)
        self._trim(True)

    def _trim(self, idle: bool) -> list[str]:
        """Give up what is not listened on any more."""
        channels = self.outlook.channels
        if idle:
            gone = [name for name in self._subscribed if name not in channels]
            for name in gone:
                del self._subscribed[name]
            if gone:
                self._listener.unsubscribe(self, gone)
        if self._inbox:
            self._inbox = deque(entry for entry in self._inbox if entry[0] in channels)
            self._waiting = sum(len(message) for _, message in self._inbox)
        return [name for name in channels if name not in self._subscribed]

    def sql(self) -> bytes:
        """What has a backend listen on the session's channels itself."""
        return "; ".join(f"LISTEN {quoted(name)}" for name in self.outlook.channels).encode()

    # Notifications

    def notified(self, channel: str, message: bytes) -> None:
        if channel not in self.outlook.channels and not self._committing:
            return
        session = self._session
        if not session.client.utf8 and not message[5:].isascii() and not self._raw():
            session.fatal(_unconvertible(channel))
        elif self._quiet():
            session.write(message)
        else:
            self._inbox.append((channel, message))
            self._waiting += len(message)
            if self._most and self._waiting > self._most:
                self._inbox.clear()
                session.overwhelmed(_too_slow(self._most))

    def _raw(self) -> bool:
        return self._session.client.reported.get(b"client_encoding") == b"SQL_ASCII"

    def _quiet(self) -> bool:
        """Whether the server would tell the client now: between batches, outside a transaction."""
        session = self._session
        idle = session.state == states.IDLE and session.client.transaction.status == IDLE
        return idle and not session.congested and not self._inbox

    def take(self) -> bytes:
        """The notifications that wait."""
        inbox = b"".join([message for _, message in self._inbox])
        self._inbox.clear()
        self._waiting = 0
        if self._interrupted:
            self._interrupted = False
            inbox = errors.notice_response(_INTERRUPTED, "WARNING") + inbox
        return inbox

    def rest(self) -> None:
        """The session is idle outside a transaction: tell the client what waits."""
        self._committing = False
        self._trim(True)
        if (self._inbox or self._interrupted) and not self._session.congested:
            self._session.write(self.take())
        if self._lost is not None:
            self._session.fatal(self._lost)

    def listener_lost(self, error: PgError) -> None:
        self._subscribed.clear()
        if self._session.state == states.CLOSED:
            return
        self._lost = PgError(errors.ADMIN_SHUTDOWN, f"{_LOST} ({error.message})", _LOST_HINT)
        if self._session.state == states.IDLE and self._session.client.transaction.status == IDLE:
            self.rest()

    def listener_interrupted(self) -> None:
        self._interrupted = True
        if self._quiet():
            self.rest()

    def leave(self) -> None:
        """The client has gone."""
        subscribed, self._subscribed = list(self._subscribed), {}
        self._listener.unsubscribe(self, subscribed)


def listening_is_shared(pooling: PoolSettings) -> bool:
    """Whether one connection listens for all who are pooled so."""
    return pooling.mode != "session" and pooling.listen == "shared"


def _too_slow(most: int) -> PgError:
    return PgError(
        errors.PROGRAM_LIMIT_EXCEEDED,
        f"terminating connection: more than {most} bytes of notifications wait for the client",
        "read them sooner, keep transactions short, or raise limits.notification_backlog",
    )


def _unconvertible(channel: str) -> PgError:
    return PgError(
        errors.FEATURE_NOT_SUPPORTED,
        f'terminating connection: a notification of channel "{channel}" can\'t be given in the '
        "client's encoding",
        "set client_encoding to UTF8 in sessions that listen",
    )
