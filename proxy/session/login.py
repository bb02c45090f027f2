"""A client from its start-up packet to its first query: password, and what it is told."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.auth.state import AuthState
from proxy.net.channel import Channel, ChannelProtocol
from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.pool.settings_state import SettingsState, intern_settings
from proxy.session.admission import Admission
from proxy.session.authentication import Authenticator, attempt_of, peer_of
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.session.refusal import turn_away
from proxy.session.registry import Registry
from proxy.session.replication import Opening, Tunnel, database_of, wants_replication
from proxy.session.session import Session
from proxy.session.welcome import Welcome
from proxy.topology.counters import Counters
from proxy.wire import errors, messages, startup
from proxy.wire.errors import PgError, ProtocolViolation

MAX_PASSWORD_MESSAGE = 10_000
MAX_UNREAD: Final = 64 * 1024
"""Bytes kept of a client that is not logged in; then it is no longer read from."""
_NOT_SETTINGS = frozenset({"user", "database", "options", "replication"})


class Console(Protocol):
    """A virtual database: takes over the transport of an authenticated client."""

    def admit(self, user: str) -> PgError | None: ...

    def take_over(self, transport: Channel, user: str, unread: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Reception:
    """What every login needs."""

    databases: Mapping[str, DatabaseContext]
    consoles: Mapping[str, Console]
    auth: AuthState
    counters: Counters
    registry: Registry
    admission: Admission
    max_openings: int
    """Connections at once that have sent no start-up packet; beyond it the oldest is closed."""
    login_timeout: float

    def pool_of(self, database: str, user: str) -> Pool | None:
        """The pool of a user on the primary of a database; None if there is no such database."""
        if database in self.consoles:
            return None  # `[database."*"]` would serve the name
        context = self.databases.get(database)
        return None if context is None else context.pool_of(context.topology.primary, user)

    def pool_beside(self, database: str, user: str) -> Pool | None:
        """The same of another database with the same primary, if one is known."""
        own = self.databases[database].topology.primary.address
        for name, context in self.databases.items():
            primary = context.topology.primary
            there = primary.address
            if name != database and (there.host, there.port) == (own.host, own.port):
                return context.pool_of(primary, user)
        return None


class LoginProtocol(ChannelProtocol):
    """The protocol of a connection from its start-up packet until it is a `Session`."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._transport: Channel | None = None
        self._buffer = b""
        self._opening: startup.StartupMessage | None = None
        self._startup: startup.StartupMessage | None = None
        """`_opening`, once it was looked at."""
        self._welcome: Welcome | Opening | None = None
        self._authenticator: Authenticator | None = None
        self._held: asyncio.TimerHandle | None = None
        """A refusal that is held back."""
        self._deadline: asyncio.TimerHandle | None = None
        self._over = False
        self._counted = False
        """Among the clients, of whom there may be so many."""

    def begin(
        self, transport: Channel, opening: startup.StartupMessage, unread: bytes, until: float
    ) -> None:
        """Take over a connection with its start-up packet and the bytes that came behind it.

        `until`: when login must be complete, by the event loop's clock.
        """
        self._transport = transport
        self._opening = opening
        self._reception.counters.opening += 1
        self._deadline = asyncio.get_running_loop().call_at(until, self._too_slow)
        self.data_received(unread)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while not self._waiting() and self._step():
                pass
        except ProtocolViolation as violation:
            self._refuse(PgError(errors.PROTOCOL_VIOLATION, str(violation)))
        except PgError as error:
            self._refuse(error)
        if len(self._buffer) > MAX_UNREAD and not self._over and self._transport is not None:
            self._transport.pause_reading()

    def _read_on(self) -> None:
        """The user has been looked up: what the client sent meanwhile may be read."""
        if not self._over and self._transport is not None:
            self._transport.resume_reading()
            self.data_received(b"")

    def _waiting(self) -> bool:
        """Whether the client's bytes have to wait."""
        if self._over or self._held is not None or self._welcome is not None:
            return True
        return self._authenticator is not None and self._authenticator.looking_up

    def _step(self) -> bool:
        """Take one packet or message; False if it has not come whole."""
        if self._startup is None:
            assert self._opening is not None
            self._start(self._opening)
            return True
        if len(self._buffer) < 5:
            return False
        kind, length = self._buffer[0], int.from_bytes(self._buffer[1:5])
        if kind != ord("p") or not 4 <= length <= MAX_PASSWORD_MESSAGE:
            raise ProtocolViolation(
                f"message {chr(kind)!r} of {length} bytes instead of a password"
            )
        if len(self._buffer) <= length:
            return False
        body, self._buffer = self._buffer[5 : length + 1], self._buffer[length + 1 :]
        assert self._authenticator is not None
        self._authenticator.receive(body)
        return True

    def _start(self, opening: startup.StartupMessage) -> None:
        reception = self._reception
        self._startup = opening
        self._write(startup.negotiation(opening))
        user = opening.parameters.get("user")
        reception.admission.check_place(reception.counters.clients, user or "")
        reception.counters.clients += 1
        self._counted = True
        if not user:
            raise PgError(
                errors.INVALID_AUTHORIZATION, "no PostgreSQL user name in the startup packet"
            )
        assert self._transport is not None
        peer = peer_of(self._transport)
        self._authenticator = Authenticator(
            reception.auth,
            peer,
            attempt_of(peer, opening.parameters),
            reception.pool_of,
            reception.pool_beside,
            self._write,
            self._decided,
            self._read_on,
        )
        self._authenticator.start()

    def _decided(self, error: PgError | None, delay: float) -> None:
        """The outcome of the authentication, in or after a call of the authenticator's."""
        if self._over:
            return
        if error is None:
            try:
                self._authenticated()
            except PgError as refusal:
                self._refuse(refusal)
        elif delay:
            if self._deadline is not None:
                self._deadline.cancel()
            self._held = asyncio.get_running_loop().call_later(delay, self._refuse, error)
        else:
            self._refuse(error)

    def _authenticated(self) -> None:
        assert self._startup is not None
        if self._deadline is not None:
            self._deadline.cancel()  # from here on the pool says how long to wait
        parameters = self._startup.parameters
        user = parameters["user"]
        database = parameters.get("database") or user
        reception = self._reception
        console = reception.consoles.get(database)
        if console is not None:
            self._enter(console, user)
            return
        replicates = wants_replication(parameters)
        if replicates:
            context = database_of(parameters, reception.databases)
        else:
            context = reception.databases.get(database)
        if context is None:
            known = ", ".join(sorted(reception.databases)) or "none"
            raise PgError(
                errors.INVALID_CATALOG_NAME,
                f'database "{database}" does not exist',
                f"Penstock knows: {known}; add [database.{database}] to its configuration",
            )
        if context.disabled:
            raise PgError(
                errors.OBJECT_NOT_IN_PREREQUISITE_STATE,
                f'database "{database}" is not currently accepting connections',
                "an administrator has disabled it: ENABLE in the admin console undoes that",
            )
        reception.admission.check_limits(database, user, reception.registry)
        if replicates:
            self._replicate(context, user, parameters)
            return
        settings = _settings(parameters)
        if self._deadline is not None:
            self._deadline.cancel()  # the pool sets the limit from here on, also while paused
        self._welcome = Welcome(
            context,
            user,
            settings,
            lambda outcome: self._welcomed(context, user, outcome),
            keeps=context.keeps_backends(user),
        )
        self._welcome.start()

    def _replicate(
        self, context: DatabaseContext, user: str, parameters: Mapping[str, str]
    ) -> None:
        def opened(outcome: Backend | PgError) -> None:
            if isinstance(outcome, PgError):
                self._refuse(outcome)
            else:
                self._tunnel(outcome, opening.pool)

        self._welcome = opening = Opening(context, user, parameters, opened)
        opening.start()

    def _tunnel(self, backend: Backend, pool: Pool) -> None:
        registry, counters = self._reception.registry, self._reception.counters

        def closed() -> None:
            registry.remove_other(process_id)
            counters.clients -= 1

        tunnel = Tunnel(backend, pool, counters, closed)
        process_id, secret = registry.add_other(tunnel.cancel)
        counters.logins += 1
        self._counted = False  # the tunnel is, from now on
        self._write(_greeting(backend.parameters, process_id, secret))
        tunnel.start(self._let_go(), self._buffer)

    def _enter(self, console: Console, user: str) -> None:
        error = console.admit(user)
        if error is not None:
            raise error
        transport = self._let_go()
        console.take_over(transport, user, self._buffer)

    def _welcomed(
        self,
        context: DatabaseContext,
        user: str,
        outcome: dict[bytes, bytes] | PgError,
    ) -> None:
        welcome = self._welcome
        if self._over or not isinstance(welcome, Welcome):
            return
        if isinstance(outcome, PgError):
            self._refuse(outcome)
            return
        registry, counters = self._reception.registry, self._reception.counters
        try:  # again: others may have come in meanwhile
            self._reception.admission.check_limits(context.name, user, registry)
        except PgError as error:
            if welcome.kept is not None:
                pool, backend = welcome.kept
                pool.release(backend)
            self._refuse(error)
            return
        settings = welcome.settings
        client = Client(user, settings, settings, dict(outcome))
        session = Session(context, client, registry.remove)
        kept = welcome.kept
        if kept is not None:
            session.upstream.adopt(*kept)
        assert self._startup is not None
        process_id, secret = registry.add(
            session,
            startup.spoken_minor(self._startup),
            None if kept is None else kept[1].process_id,
        )
        client.process_id = process_id
        counters.logins += 1
        self._counted = False  # the session is, from now on
        self._write(_greeting(outcome, process_id, secret))
        session.start(self._let_go(), self._buffer)

    def _let_go(self) -> Channel:
        """The transport, which is somebody else's from now on."""
        assert self._transport is not None
        self._end()
        self._transport.resume_reading()
        return self._transport

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _refuse(self, error: PgError) -> None:
        if self._over:
            return
        assert self._transport is not None
        turn_away(self._transport, self._reception.counters, error)
        self._end()

    def _too_slow(self) -> None:
        if self._over:
            return
        seconds = self._reception.login_timeout
        self._refuse(
            PgError(errors.INVALID_AUTHORIZATION, f"login was not complete after {seconds:g} s")
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._reception.counters.opening -= 1
        self._over = True
        if self._counted:
            self._counted = False
            self._reception.counters.clients -= 1
        for timer in (self._deadline, self._held):
            if timer is not None:
                timer.cancel()
        if self._authenticator is not None:
            self._authenticator.cancel()
        if self._welcome is not None:
            self._welcome.cancel()


def _greeting(parameters: Mapping[bytes, bytes], process_id: int, secret: bytes) -> bytes:
    """What a client is told once it is logged in."""
    statuses = (
        messages.message(b"S", name + b"\0" + value + b"\0") for name, value in parameters.items()
    )
    key = messages.backend_key_data(process_id, secret)
    return b"".join((*statuses, key, messages.READY_IDLE))


def _settings(parameters: Mapping[str, str]) -> SettingsState:
    """The settings that a startup packet asks for; later ones win, as in PostgreSQL.

    Raises PgError for `options` that aren't settings.
    """
    try:
        values = startup.parse_options(parameters.get("options", ""))
    except ValueError as error:
        raise PgError(errors.SYNTAX_ERROR, f"startup options can't be used: {error}") from None
    for name, value in parameters.items():
        if name not in _NOT_SETTINGS:
            values[name] = value
    return intern_settings({name.lower(): value.encode() for name, value in values.items()})
