"""A replication client: a server connection of its own, and bytes passed both ways as they are.

The replication protocol has commands of its own and streams in both directions at once (COPY
BOTH), so there is nothing to pool, to route or to cache.

Source: PostgreSQL documentation, "Streaming Replication Protocol".
"""

from collections.abc import Callable, Mapping

from proxy.net.channel import Channel, ChannelProtocol
from proxy.pool.backend import HIGH_WATER, Backend, Borrower
from proxy.pool.cancel import cancel_on_server
from proxy.pool.pool import Pool
from proxy.session.context import DatabaseContext
from proxy.tasks import spawn
from proxy.topology.counters import Counters
from proxy.wire import errors
from proxy.wire.errors import PgError

_OFF = frozenset({"false", "off", "no", "0", "f", "n"})
_PHYSICAL = frozenset({"true", "on", "yes", "1", "t", "y"})
_LOGICAL = "database"
_OWN = frozenset({"user", "database"})

Opened = Callable[[Backend | PgError], None]


def wants_replication(parameters: Mapping[str, str]) -> bool:
    """Whether a start-up packet asks for a replication connection. Raises PgError."""
    asked = parameters.get("replication", "false").lower()
    if asked in _OFF:
        return False
    if asked == _LOGICAL or asked in _PHYSICAL:
        return True
    raise PgError(
        errors.INVALID_PARAMETER_VALUE,
        f'invalid value for parameter "replication": "{asked}"',
        'give "database", true or false',
    )


def wants_physical(parameters: Mapping[str, str]) -> bool:
    """Whether that is of the physical kind, which has HBA rules of its own."""
    return parameters.get("replication", "false").lower() in _PHYSICAL


def database_of(
    parameters: Mapping[str, str], databases: Mapping[str, DatabaseContext]
) -> DatabaseContext | None:
    """The database whose primary a replication client is for.

    Physical replication is of a whole server: its clients name no database, or any. Then the
    configured ones must have the same primary, or it can't be told which one is meant. Raises
    PgError for that.
    """
    name = parameters.get("database") or parameters["user"]
    if name in databases or parameters["replication"].lower() == _LOGICAL:
        return databases.get(name)
    places = {
        (one.topology.primary.address.host, one.topology.primary.address.port): one
        for one in databases.values()
    }
    if len(places) > 1:
        known = ", ".join(sorted(databases))
        raise PgError(
            errors.INVALID_CATALOG_NAME,
            "the server to replicate from can't be told: the databases have different primaries",
            f"name one of its databases: {known}",
        )
    return next(iter(places.values()), None)


class Opening:
    """Opens the server's connection; `opened` is called once, unless `cancel` was."""

    def __init__(
        self, context: DatabaseContext, user: str, parameters: Mapping[str, str], opened: Opened
    ) -> None:
        if context.pool_settings_of(user).mode != "session":
            raise PgError(
                errors.FEATURE_NOT_SUPPORTED,
                f"replication connections need session pooling, and database {context.name} has "
                f'pool.mode = "{context.pool_settings_of(user).mode}"',
                f"connect to the server itself, or add a database to Penstock's configuration that "
                f'has [database.NAME.pool] mode = "session" and server_database = "{context.name}"',
            )
        self.pool = context.pool_of(context.topology.primary, user)
        self._parameters = {name: value for name, value in parameters.items() if name not in _OWN}
        self._opened: Opened | None = opened

    def start(self) -> None:
        """Connect and log in with all that the client's start-up packet asks for."""
        spawn(self._open(), f"replication connection to {self.pool.node.name}")

    async def _open(self) -> None:
        outcome: Backend | PgError
        try:
            outcome = await self.pool.open(self._parameters, _nothing)
        except PgError as error:
            outcome = error
        if self._opened is not None:
            self._opened(outcome)
        elif isinstance(outcome, Backend):
            outcome.close()

    def cancel(self) -> None:
        """The client has gone."""
        self._opened = None


class Tunnel(Borrower):
    """The server's side of a replication client; `_Client` is the other."""

    def __init__(
        self, backend: Backend, pool: Pool, counters: Counters, on_closed: Callable[[], None]
    ) -> None:
        self._backend = backend
        self._pool = pool
        self._counters = counters
        self._on_closed: Callable[[], None] | None = on_closed
        self._transport: Channel | None = None

    def start(self, transport: Channel, unread: bytes) -> None:
        """Take over the client, with the bytes that came behind its login."""
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        transport.set_protocol(_Client(self))
        self._backend.owner = self
        if self._backend.closed:
            self.leave()
        elif unread:
            self.to_server(unread)

    def to_server(self, data: bytes) -> None:
        """Bytes from the client."""
        self._counters.bytes_in += len(data)
        if self._backend.transport is not None:
            self._backend.transport.write(data)

    def backend_data(self, data: bytes) -> None:
        self._counters.bytes_out += len(data)
        if self._transport is not None:
            self._transport.write(data)

    def backend_lost(self, error: PgError) -> None:
        self.leave()

    def backend_congested(self, congested: bool) -> None:
        if self._transport is not None:
            _hold(self._transport, congested)

    def client_congested(self, congested: bool) -> None:
        """The client doesn't take bytes as fast as the server sends them, or does again."""
        if self._backend.transport is not None and not self._backend.closed:
            _hold(self._backend.transport, congested)

    def cancel(self) -> None:
        """The client's cancel request."""
        if not self._backend.closed:
            cancel_on_server(self._backend, self._pool)

    def leave(self) -> None:
        """One side has gone: end the other.

        The server's end is cut off without a Terminate, which could land within a message.
        """
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is None:
            return
        on_closed()
        self._backend.owner = None
        if self._backend.transport is not None:
            self._backend.transport.abort()
        if self._transport is not None:
            self._transport.close()


class _Client(ChannelProtocol):
    """The client's side."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def data_received(self, data: bytes) -> None:
        self._tunnel.to_server(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.leave()

    def pause_writing(self) -> None:
        self._tunnel.client_congested(True)

    def resume_writing(self) -> None:
        self._tunnel.client_congested(False)


def _hold(transport: Channel, congested: bool) -> None:
    if congested:
        transport.pause_reading()
    else:
        transport.resume_reading()


def _nothing(backend: Backend) -> None:
    """The tunnel hears of it as the owner."""
