"""What the running process knows of logins: the authentication in force, what was learned."""

from typing import Final

from proxy.auth.authentication import Authentication
from proxy.auth.hba import Method
from proxy.auth.throttle import Throttle
from proxy.auth.verifiers import Verifiers
from proxy.wire.client_login import Md5Exchange, PasswordExchange, PlainExchange, ScramExchange
from proxy.wire.passwords import Md5Hash, PlainPassword, ServerSecret, StoredSecret, md5_hash
from proxy.wire.scram import Verifier

MOST_LEARNED: Final = 100_000


class AuthState:
    """The one place that holds the authentication; `replace` is what a reload calls."""

    def __init__(self, authentication: Authentication) -> None:
        self.current = authentication
        self.throttle = Throttle(authentication.limits)
        self._verifiers = Verifiers(authentication.mock_key)
        self._learned: dict[tuple[str, str], ServerSecret] = {}
        """By database and user: the servers of another database may hold another password."""

    def replace(self, authentication: Authentication) -> None:
        """Logins from now on are judged by this; those in progress end as they began."""
        if authentication.mock_key != self.current.mock_key:
            self._verifiers = Verifiers(authentication.mock_key)
        self.current = authentication
        self.throttle.limits = authentication.limits

    def exchange(
        self, method: Method, user: str, stored: StoredSecret | None, binding: bytes | None
    ) -> PasswordExchange:
        """The exchange of a method that asks for a password: md5, scram-sha-256, password."""
        verifier = self._verifiers.of(user, stored)
        unfit = "" if stored is not None else "there is no such user, or it has no password"
        if method == "password":
            return PlainExchange(user, verifier, _hash(stored), unfit)
        if method == "md5" and not self._by_scram(stored):
            return Md5Exchange(user, _hash_of(user, stored), unfit)
        if isinstance(stored, Md5Hash):
            unfit = "only an md5 hash is stored for the user, and the method is scram-sha-256"
        return ScramExchange(user, verifier, binding, unfit)

    def _by_scram(self, stored: StoredSecret | None) -> bool:
        """As in PostgreSQL, md5 means SCRAM for users that have a verifier."""
        if stored is None:
            return self.current.mock_by_scram
        return isinstance(stored, Verifier)

    def logged_in(
        self,
        database: str,
        user: str,
        stored: StoredSecret | None,
        learned: ServerSecret | None,
    ) -> None:
        """A user has logged in: keep what will log in to the database's servers.

        `stored` is what the user's password was checked against, `learned` what the exchange gave
        away.
        """
        if isinstance(stored, PlainPassword) or (learned is None and isinstance(stored, Md5Hash)):
            learned = stored
        if learned is None or isinstance(self.current.server_secrets.get(user), PlainPassword):
            return
        if len(self._learned) >= MOST_LEARNED and (database, user) not in self._learned:
            self._learned.clear()  # each is learned again at its user's next login
        self._learned[database, user] = learned

    def server_secret(self, database: str, user: str) -> ServerSecret | None:
        """What logs `user` in to the database's servers: what is configured, or was learned."""
        given = self.current.server_secrets.get(user)
        learned = self._learned.get((database, user))
        if isinstance(given, Md5Hash) and isinstance(learned, PlainPassword):
            return learned if md5_hash(user, learned.text) == given else given
        return given or learned


def _hash(stored: StoredSecret | None) -> Md5Hash | None:
    return stored if isinstance(stored, Md5Hash) else None


def _hash_of(user: str, stored: StoredSecret | None) -> Md5Hash | None:
    return md5_hash(user, stored.text) if isinstance(stored, PlainPassword) else _hash(stored)
