"""One connection to a database's primary that listens for all clients of the database.

Who subscribes to a channel is registered when the server has answered a LISTEN that was sent for
it, also where the connection listened already: a backend reads the queue of notifications before
each ReadyForQuery (PostgresMain), so what was committed before the client's LISTEN is told before,
and what is committed after its answer comes after. Source: PostgreSQL's async.c, postgres.c.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from proxy.pool.backend import Backend, Borrower
from proxy.pool.pool import Pool
from proxy.tasks import spawn
from proxy.wire import errors, messages
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

APPLICATION_NAME: Final = "penstock listener"
_PARAMETERS: Final = {"application_name": APPLICATION_NAME, "client_encoding": "UTF8"}
_UNUSED_SECONDS: Final = 60.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_NOTIFICATION: Final = ord("A")
_ERROR: Final = ord("E")
_READY: Final = ord("Z")

Done = Callable[[PgError | None], None]


class Subscriber:
    """Who is told of notifications."""

    def notified(self, channel: str, message: bytes) -> None:
        """A NotificationResponse of this channel."""

    def listener_lost(self, error: PgError) -> None:
        """Notifications may have been lost from now on; all subscriptions are over."""

    def listener_interrupted(self) -> None:
        """Notifications may have been lost; subscriptions go on."""


class _Command:
    """A query under way, and what follows its answer."""

    __slots__ = ("done", "error", "sql")

    def __init__(self, sql: bytes, done: Done) -> None:
        self.sql = sql
        self.done = done
        self.error: PgError | None = None


class SharedListener(Borrower):
    """See the module's docstring. `pool_of` gives the pool of a user on the primary, by whose login
    a connection is opened; the connection counts as none of the pool's."""

    def __init__(self, database: str, pool_of: Callable[[str], Pool]) -> None:
        self.database = database
        self.backend: Backend | None = None
        self.user = ""
        """By whose login the connection was opened."""
        self.delivered = 0
        """Notifications given to clients."""
        self.senders: dict[int, int] = {}
        """Server processes whose notifications are a client's at the moment, and the process id
        that this client was told: whoever hears of them is told it too."""
        self.relistens = False
        """Whether subscriptions outlive the connection."""
        self._pool_of = pool_of
        self._channels: dict[str, dict[Subscriber, None]] = {}
        self._coming: Counter[str] = Counter()
        """LISTENs under way, by channel."""
        self._queue: list[_Command] = []
        """To be sent when the connection is there."""
        self._sent: deque[_Command] = deque()
        self._data = b""
        self._opening = False
        self._closed = False
        self._unused_since: float | None = None

    @property
    def channels(self) -> int:
        """How many channels are listened on."""
        return len(self._channels)

    @property
    def in_use(self) -> bool:
        """Whether anybody listens, or is about to."""
        return bool(self._channels or self._queue or self._sent)

    def subscribe(
        self, subscriber: Subscriber, channels: Sequence[str], user: str, done: Done
    ) -> None:
        """Have `subscriber` told of these channels from the call of `done` on, which may say that
        it can't be had. `user`: whose login may serve to connect."""

        def answered(error: PgError | None) -> None:
            self._coming.subtract(channels)
            for channel in channels:
                if error is None:
                    self._channels.setdefault(channel, {})[subscriber] = None
            done(error)
            self._tidy(channels)

        self._coming.update(channels)
        sql = "; ".join(f"LISTEN {quoted(channel)}" for channel in channels)
        self._run(_Command(sql.encode(), answered), user)

    def unsubscribe(self, subscriber: Subscriber, channels: Iterable[str]) -> None:
        """Tell `subscriber` no more of these channels."""
        names = list(channels)
        for channel in names:
            self._channels.get(channel, {}).pop(subscriber, None)
        self._tidy(names)

    def catch_up(self, done: Done) -> None:
        """Call `done` when all that was committed before this call has been delivered."""
        self._run(_Command(b"", done), None)

    def _tidy(self, channels: Iterable[str]) -> None:
        """Stop listening where nobody is left."""
        for channel in dict.fromkeys(channels):
            if not self._coming[channel]:
                del self._coming[channel]
                if not self._channels.get(channel, True):
                    del self._channels[channel]
                    self._run(_Command(f"UNLISTEN {quoted(channel)}".encode(), _ignore), None)

    def _run(self, command: _Command, user: str | None) -> None:
        backend = self.backend
        if backend is not None and backend.transport is not None:
            self._sent.append(command)
            backend.transport.write(messages.query(command.sql))
        elif self._closed:
            command.done(_CLOSED)
        elif user is not None:
            self._queue.append(command)
            if not self._opening:
                self._opening = True
                spawn(self._open(user), f"listener {self.database}")
        else:
            command.done(None)  # a connection that is no more listens on nothing

    # The connection

    async def _open(self, user: str) -> None:
        backend, failure = await self._connect(user)
        self._opening = False
        if backend is None:
            self._fail(failure or _CLOSED)
            return
        self._take(backend, user)
        queue, self._queue = self._queue, []
        for command in queue:
            self._run(command, user)

    async def _connect(self, user: str) -> tuple[Backend | None, PgError | None]:
        try:
            backend = await self._pool_of(user).open(_PARAMETERS, _nothing)
        except PgError as error:
            return None, error
        if backend.closed or self._closed:
            backend.close()
            return None, _CLOSED
        return backend, None

    def _take(self, backend: Backend, user: str) -> None:
        self.backend, self.user, self._data = backend, user, b""
        backend.in_use = True
        backend.owner = self
        self._unused_since = None
        log.info("listening for clients", database=self.database, user=user)

    def _fail(self, error: PgError) -> None:
        """Whoever waits for an answer gets this one."""
        commands = [*self._sent, *self._queue]
        self._sent.clear()
        self._queue.clear()
        for command in commands:
            command.done(error)

    def backend_lost(self, error: PgError) -> None:
        self.backend = None
        log.warning(
            "the connection that listens for clients was lost",
            database=self.database,
            channels=len(self._channels),
            error=error.message,
        )
        self._fail(error)
        if not self._channels or self._closed:
            return
        if self.relistens:
            self._opening = True
            spawn(self._again(self.user), f"listener {self.database}")
        else:
            self._end_all(error)

    def _end_all(self, error: PgError) -> None:
        subscribers = self._subscribers()
        self._channels.clear()
        for subscriber in subscribers:
            subscriber.listener_lost(error)

    def _subscribers(self) -> list[Subscriber]:
        return list(dict.fromkeys(one for those in self._channels.values() for one in those))

    async def _again(self, user: str) -> None:
        """Connect until it succeeds, listen on all channels, tell all who may have missed some."""
        pause = _FIRST_PAUSE
        while self._channels and not self._closed:
            backend, _ = await self._connect(user)
            if backend is not None:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            backend = None
        self._opening = False
        if backend is None:
            self._fail(_CLOSED)
            return
        self._take(backend, user)
        sql = "; ".join(f"LISTEN {quoted(channel)}" for channel in self._channels)
        queue, self._queue = self._queue, []
        for command in (_Command(sql.encode(), self._listening_again), *queue):
            self._run(command, user)

    def _listening_again(self, error: PgError | None) -> None:
        if error is None:
            for subscriber in self._subscribers():
                subscriber.listener_interrupted()

    def sweep(self, now: float) -> None:
        """Close the connection when nobody has needed it for long. Called each second."""
        if self.backend is None or self.in_use:
            self._unused_since = None
        elif self._unused_since is None:
            self._unused_since = now
        elif now - self._unused_since > _UNUSED_SECONDS:
            self.rest()

    def rest(self) -> None:
        """Close the connection if nobody needs it now."""
        backend = self.backend
        if backend is not None and not self._channels and not any(self._coming.values()):
            self.backend = None
            backend.close()
            self._fail(_CLOSED)

    def move(self, error: PgError) -> None:
        """The primary is another one from now on: what was listened on there is lost."""
        backend = self.backend
        if backend is not None:
            backend.sever(error)

    def close(self) -> None:
        """Nobody is served any more."""
        self._closed = True
        backend, self.backend = self.backend, None
        if backend is not None:
            backend.close()
        self._fail(_CLOSED)
        self._end_all(_CLOSED)

    # What it says

    def backend_data(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        position, size = 0, len(data)
        while size - position >= 5:
            end = position + 1 + int.from_bytes(data[position + 1 : position + 5])
            if end > size:
                break
            kind = data[position]
            if kind == _NOTIFICATION:
                self._deliver(data[position:end])
            elif kind == _ERROR and self._sent:
                self._sent[0].error = errors.from_fields(
                    errors.error_fields(data[position + 5 : end])
                )
            elif kind == _READY and self._sent:
                command = self._sent.popleft()
                command.done(command.error)
            position = end
        self._data = data[position:]

    def _deliver(self, message: bytes) -> None:
        end = message.index(b"\0", 9)
        channel = message[9:end].decode("utf-8", "surrogateescape")
        sender = self.senders.get(int.from_bytes(message[5:9]))
        if sender is not None:
            message = message[:5] + sender.to_bytes(4) + message[9:]
        for subscriber in list(self._channels.get(channel, ())):
            self.delivered += 1
            subscriber.notified(channel, message)

    def backend_congested(self, congested: bool) -> None:
        pass  # LISTENs are short


_CLOSED: Final = PgError(errors.ADMIN_SHUTDOWN, "the connection that listens for clients is closed")


def quoted(channel: str) -> str:
    """The channel's name as an identifier."""
    return '"' + channel.replace('"', '""') + '"'


def _ignore(error: PgError | None) -> None:
    """Nobody waits for the answer."""


def _nothing(backend: Backend) -> None:
    """The owner is told too."""
