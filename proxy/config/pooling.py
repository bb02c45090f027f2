"""Which pool settings and limits hold for whom.

A user's own come first, then a database's, then those for all.
"""

from dataclasses import dataclass
from typing import Final

from proxy.config.cache_settings import FeedSettings
from proxy.config.settings import DatabaseSettings, PoolSettings, Settings, UserSettings

WILDCARD = "*"
"""The database whose settings serve every name that has none of its own."""

DIVIDED_LIMITS: Final = (
    "node_connections",
    "database_connections",
    "user_connections",
    "database_clients",
    "user_clients",
)
"""Keys of [limits] that workers share; 0 is no limit."""

DIVIDED_CAPS: Final = ("max_connections", "max_client_connections")
"""The same of single databases and users; None: those of [limits] hold."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How many server connections and clients there may be at once; 0: no limit."""

    connections: int
    clients: int


NO_CAPS: Final = Caps(0, 0)


def database_settings(settings: Settings, database: str) -> DatabaseSettings | None:
    """The settings that serve the database of this name; None if nothing does."""
    return settings.databases.get(database) or settings.databases.get(WILDCARD)


def feed_settings(settings: Settings, database: str) -> FeedSettings:
    """What holds for the change feed of this database."""
    own = database_settings(settings, database)
    return settings.cache.feed if own is None or own.feed is None else own.feed


def pool_settings(settings: Settings, database: str, user: str) -> PoolSettings:
    """What holds for the pools of this user in this database, key by key."""
    owners = (database_settings(settings, database), _user(settings, user))
    changes = {
        key: getattr(owner.pool, key)
        for owner in owners
        if owner is not None and owner.pool is not None
        for key in owner.pool.model_fields_set
    }
    return settings.pool.model_copy(update=changes) if changes else settings.pool


def database_caps(settings: Settings, database: str) -> Caps:
    """Limits of one database over all its users and nodes."""
    limits = settings.limits
    own = database_settings(settings, database) or DatabaseSettings()
    return Caps(
        _first(own.max_connections, limits.database_connections),
        _first(own.max_client_connections, limits.database_clients),
    )


def user_caps(settings: Settings, user: str) -> Caps:
    """Limits of one user over all databases."""
    limits = settings.limits
    own = _user(settings, user) or UserSettings(name=user)
    return Caps(
        _first(own.max_connections, limits.user_connections),
        _first(own.max_client_connections, limits.user_clients),
    )


def _user(settings: Settings, name: str) -> UserSettings | None:
    return next((user for user in settings.auth.users if user.name == name), None)


def _first(own: int | None, general: int) -> int:
    return general if own is None else own


def times_out(settings: Settings) -> bool:
    """Whether any client, query or transaction has a time-out."""
    pools = [
        settings.pool,
        *(one.pool for one in settings.databases.values()),
        *(user.pool for user in settings.auth.users),
    ]
    return any(
        pool.query_timeout
        or pool.transaction_timeout
        or pool.idle_in_transaction_timeout
        or pool.client_idle_timeout
        for pool in pools
        if pool is not None
    )
