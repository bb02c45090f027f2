"""One client's authentication: the rule that decides, the look-up of its secret, the exchange."""

import ipaddress
import math
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.auth import identmap
from proxy.auth.authentication import UserQuery
from proxy.auth.hba import Attempt, HbaRule
from proxy.auth.networks import Address, parse_address
from proxy.auth.state import AuthState
from proxy.auth.throttle import throttled_address
from proxy.net.channel import Channel
from proxy.pool.pool import Pool
from proxy.session.auth_query import UserLookup
from proxy.session.replication import wants_physical
from proxy.wire import errors, messages
from proxy.wire.client_login import PasswordExchange
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.passwords import StoredSecret

_NOWHERE: Final = ipaddress.IPv4Address(0)


@dataclass(frozen=True, slots=True)
class Peer:
    """What the channel says of who is at its other end."""

    address: Address | None
    """None: the channel is a Unix socket."""
    tls: bool
    certificate: Mapping[str, str] | None
    """The subject of the certificate that was verified, with its whole name as "dn"; None if none
    was shown."""
    binding: bytes | None
    """tls-server-end-point data (RFC 5929)."""
    uid: int | None
    """Of the process at the other end of a Unix socket."""


def peer_of(channel: Channel) -> Peer:
    """What the channel knows; one that has gone is from no address that anybody has."""
    credentials = channel.get_extra_info("peercred")
    name = channel.get_extra_info("peername")
    local = credentials is not None or isinstance(name, str | bytes)
    return Peer(
        address=None if local else (name and parse_address(str(name[0]))) or _NOWHERE,
        tls=bool(channel.get_extra_info("tls")),
        certificate=channel.get_extra_info("peercert_subject"),
        binding=channel.get_extra_info("channel_binding"),
        uid=None if credentials is None else credentials[1],
    )


def attempt_of(peer: Peer, parameters: Mapping[str, str]) -> Attempt:
    """What HBA rules look at."""
    user = parameters["user"]
    database = parameters.get("database") or user
    return Attempt(user, database, peer.address, peer.tls, wants_physical(parameters))


Decided = Callable[[PgError | None, float], None]
"""(None, or what to refuse the client with, and the seconds for which to hold that back)."""


class Authenticator:
    """`start`, then `receive` for each password message; `decided` is called once with the outcome.

    `pool_for` gives the pool of a user on the primary of a database, None if there is no such;
    `pool_beside` that of another database of the same server.
    `looked_up` is called when messages of the client's are wanted again (see `looking_up`).
    """

    def __init__(
        self,
        state: AuthState,
        peer: Peer,
        attempt: Attempt,
        pool_for: Callable[[str, str], Pool | None],
        pool_beside: Callable[[str, str], Pool | None],
        write: Callable[[bytes], None],
        decided: Decided,
        looked_up: Callable[[], None],
    ) -> None:
        self._state = state
        self._peer = peer
        self._attempt = attempt
        self._pool_for = pool_for
        self._pool_beside = pool_beside
        self._missing: PgError | None = None
        """The database is not there, which only users are told."""
        self._write = write
        self._decided = decided
        self._when_looked_up = looked_up
        self._address = throttled_address(peer.address)
        self._rule: HbaRule | None = None
        self._stored: StoredSecret | None = None
        self._lookup: UserLookup | None = None
        self._exchange: PasswordExchange | None = None

    @property
    def looking_up(self) -> bool:
        """Whether no message of the client's is wanted yet."""
        return self._lookup is not None

    def start(self) -> None:
        """Find the rule and do what it says, as far as that goes without the client.

        Raises PgError if the client's address is not to be served at this time.
        """
        self._check_throttle()
        current = self._state.current
        try:
            rule = self._rule = current.rule_for(self._attempt)
            self._check_identity(rule)
        except PgError as error:
            self._failed(error)
            return
        user = self._attempt.user
        self._stored = current.stored.get(user)
        query = current.query_for(self._attempt.database)
        if query is not None and self._wants_lookup(rule):
            self._look_up(query)
        else:
            self._proceed(rule)

    def _wants_lookup(self, rule: HbaRule) -> bool:
        """Without a password for the client, the servers may still want one."""
        if rule.method in ("trust", "cert", "peer"):
            attempt = self._attempt
            return self._state.server_secret(attempt.database, attempt.user) is None
        return self._stored is None

    def _look_up(self, query: UserQuery) -> None:
        pool = self._pool_for(query.database or self._attempt.database, query.user)
        if pool is None:
            assert self._rule is not None
            self._proceed(self._rule)
            return
        self._lookup = UserLookup(pool, query.sql, self._attempt.user, self._looked_up)
        self._lookup.start()

    def _looked_up(self, stored: StoredSecret | None, error: PgError | None) -> None:
        self._lookup = None
        if error is not None and error.sqlstate == errors.INVALID_CATALOG_NAME:
            self._look_beside(error)
            return
        if error is not None:
            self._decided(error, 0.0)
            return
        self._stored = stored
        assert self._rule is not None
        self._proceed(self._rule)
        self._when_looked_up()

    def _look_beside(self, missing: PgError) -> None:
        """A database that isn't there has no users; the server has, who are told that it isn't."""
        query = self._state.current.query_for(self._attempt.database)
        asked, self._missing = self._missing is not None, missing
        pool = None
        if query is not None and not asked:
            pool = self._pool_beside(query.database or self._attempt.database, query.user)
        if query is None or pool is None:
            self._looked_up(None, None)
            return
        self._lookup = UserLookup(pool, query.sql, self._attempt.user, self._looked_up)
        self._lookup.start()

    def _passed(self) -> None:
        """The client is who it says."""
        self._decided(self._missing, 0.0)

    def _proceed(self, rule: HbaRule) -> None:
        user, state = self._attempt.user, self._state
        if rule.method in ("trust", "cert", "peer"):
            state.logged_in(self._attempt.database, user, self._stored, None)
            self._write(messages.AUTHENTICATION_OK)
            self._passed()
            return
        exchange = state.exchange(rule.method, user, self._stored, self._peer.binding)
        self._exchange = exchange
        self._write(exchange.start())

    def receive(self, body: bytes) -> None:
        """A password message.

        Raises ProtocolViolation if none was asked for, PgError as `start`: many of an address may
        have begun at the same time.
        """
        exchange = self._exchange
        if exchange is None:
            raise ProtocolViolation("a password that was not asked for")
        self._check_throttle()
        try:
            answer = exchange.receive(body)
        except PgError as error:
            self._failed(error)
            return
        if exchange.done:
            attempt = self._attempt
            self._state.logged_in(attempt.database, attempt.user, self._stored, exchange.learned)
        self._write(answer)
        if exchange.done:
            self._passed()

    def _check_throttle(self) -> None:
        seconds = self._state.throttle.wait(self._address, time.monotonic())
        if seconds > 0:
            raise PgError(
                errors.INVALID_AUTHORIZATION,
                "too many logins from your address have failed",
                f"try again in {math.ceil(seconds)} s",
            )

    def _failed(self, error: PgError) -> None:
        self._decided(error, self._state.throttle.failed(self._address, time.monotonic()))

    def _check_identity(self, rule: HbaRule) -> None:
        """What certificate or operating system say of the client. Raises PgError."""
        user, maps = self._attempt.user, self._state.current.maps
        if rule.client_certificate is not None or rule.method == "cert":
            certificate = self._peer.certificate
            if certificate is None:
                raise _identity_refused(
                    f'certificate authentication failed for user "{user}"',
                    "connect over TLS with a client certificate that Penstock's CA has signed",
                )
            name = certificate.get("dn" if rule.client_name == "DN" else "commonName")
            if rule.client_certificate != "verify-ca" and (
                name is None or not identmap.allows(maps, rule.map, name, user)
            ):
                raise _identity_refused(
                    f'certificate authentication failed for user "{user}"',
                    "the name in the certificate must be the user's, or mapped to it",
                )
        if rule.method == "peer":
            system = _system_user(self._peer.uid)
            if system is None or not identmap.allows(maps, rule.map, system, user):
                raise _identity_refused(
                    f'Peer authentication failed for user "{user}"',
                    "connect through the Unix socket as the system user of this name, or as one "
                    "that is mapped to it",
                )

    def cancel(self) -> None:
        """The client has gone."""
        if self._lookup is not None:
            self._lookup.cancel()


def _identity_refused(message: str, hint: str) -> PgError:
    return PgError(errors.INVALID_AUTHORIZATION, message, hint)


def _system_user(uid: int | None) -> str | None:
    """The operating system's name for a user; a number that has none is nobody."""
    if uid is None:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
