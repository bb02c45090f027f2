"""Everything that decides on logins, as one immutable value. A reload replaces it whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.auth import hba
from proxy.auth.hba import Attempt, HbaRule
from proxy.auth.identmap import IdentMaps
from proxy.auth.throttle import Limits
from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.passwords import ServerSecret, StoredSecret
from proxy.wire.scram import Verifier


@dataclass(frozen=True, slots=True)
class UserQuery:
    """How users are looked up on a server whose secrets stand in no file."""

    sql: str
    """Takes the user as $1, gives a row of name and stored secret, or none."""
    user: str
    """Who runs it."""
    database: str | None
    """Where, by the name that clients give; None: in the database that the client wants."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """See the module's docstring."""

    rules: tuple[HbaRule, ...]
    maps: IdentMaps = field(default_factory=dict)
    stored: Mapping[str, StoredSecret | None] = field(default_factory=dict)
    """By user; None: the user is known and has no password."""
    server_secrets: Mapping[str, ServerSecret] = field(default_factory=dict)
    """By user: what logs in to the servers."""
    queries: Mapping[str, UserQuery | None] = field(default_factory=dict)
    """By the database that the client wants; "*" is for all others."""
    mock_key: bytes = field(default=b"", repr=False)
    first_user: str | None = None
    """Whose login serves Penstock's own connections unless another is named."""
    limits: Limits = field(default_factory=Limits)

    def rule_for(self, attempt: Attempt) -> HbaRule:
        """The rule that decides. Raises PgError, worded as PostgreSQL's, if it says no."""
        rule = hba.decide(self.rules, attempt)
        if rule is None:
            raise PgError(
                errors.INVALID_AUTHORIZATION,
                f"no pg_hba.conf entry for {attempt}",
                "add a line for this to the file that auth.auth_hba_file names",
            )
        if rule.method == "reject":
            raise PgError(
                errors.INVALID_AUTHORIZATION,
                f"pg_hba.conf rejects connection for {attempt}",
            )
        return rule

    def query_for(self, database: str) -> UserQuery | None:
        """How to look up a user who wants this database."""
        if database in self.queries:
            return self.queries[database]
        return self.queries.get("*")

    @property
    def mock_by_scram(self) -> bool:
        """Under method md5: whether unknown users are asked by SCRAM, as users with verifiers are.

        PostgreSQL's default for new passwords is SCRAM, so that it is also where nothing is known.
        """
        return all(one is None or isinstance(one, Verifier) for one in self.stored.values())
