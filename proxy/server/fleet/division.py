"""The settings of one worker: limits of the whole are divided, all others are the same.

A pool has one connection in each worker at least, perhaps more together than its size.
"""

import secrets
from collections.abc import Iterable
from typing import Final, TypeVar

from pydantic import BaseModel, SecretStr

from proxy.config.pooling import DIVIDED_CAPS, DIVIDED_LIMITS
from proxy.config.settings import DatabaseSettings, PoolSettings, Settings, UserSettings

_POOL: Final = frozenset({"size", "min_size", "reserve_size"})
"""Sizes of pools that hold for the whole."""

_NONCE: Final = SecretStr(secrets.token_hex(32))
"""Of all workers, so that a client is told the same salt by each."""


def share(total: int, index: int, count: int) -> int:
    """The part of `total` that is the worker's with this index; all parts together are `total`."""
    return total // count + (index < total % count)


def worker_settings(settings: Settings, index: int, count: int) -> Settings:
    """What the worker with this index, of so many, goes by."""
    databases = {
        name: _owner(database, index, count) for name, database in settings.databases.items()
    }
    server, limits, auth = settings.server, settings.limits, settings.auth
    clients = {
        "max_client_connections": share(server.max_client_connections, index, count),
        "max_opening_connections": max(1, share(server.max_opening_connections, index, count)),
    }
    divided = _shares(limits, DIVIDED_LIMITS, index, count)
    # Rounded up: an admin must find a place at whichever worker the connection comes to.
    admins = -(-limits.admin_clients // count)
    nonce = auth.mock_authentication_nonce or _NONCE
    users = [_owner(user, index, count) for user in auth.users]
    return settings.model_copy(
        update={
            "auth": auth.model_copy(update={"mock_authentication_nonce": nonce, "users": users}),
            "server": server.model_copy(update=clients),
            "limits": limits.model_copy(update={**divided, "admin_clients": admins}),
            "pool": _pool(settings.pool, _POOL, index, count),
            "databases": databases,
        }
    )


Owner = TypeVar("Owner", DatabaseSettings, UserSettings)


def _owner(owner: Owner, index: int, count: int) -> Owner:
    """The share in what is limited for one database or user by itself."""
    update: dict[str, object] = {**_shares(owner, DIVIDED_CAPS, index, count)}
    if owner.pool is not None:
        # What is not given has to stay so: it is then taken from [pool].
        given = _POOL & owner.pool.model_fields_set
        update["pool"] = _pool(owner.pool, given, index, count)
    return owner.model_copy(update=update) if update else owner


def _pool(pool: PoolSettings, keys: Iterable[str], index: int, count: int) -> PoolSettings:
    shares = _shares(pool, keys, index, count)
    if "size" in shares:
        shares["size"] = max(1, shares["size"])
    return pool.model_copy(update=shares)


def rounded_up(settings: Settings) -> list[str]:
    """What names the pools that are smaller than there are workers."""
    users = {f"auth.users.{user.name}": user.pool for user in settings.auth.users}
    databases = {f"database.{name}": one.pool for name, one in settings.databases.items()}
    own = {name: pool for name, pool in {**databases, **users}.items() if pool is not None}
    given = {name: pool for name, pool in own.items() if "size" in pool.model_fields_set}
    pools = {"pool": settings.pool, **{f"{name}.pool": pool for name, pool in given.items()}}
    return [name for name, pool in pools.items() if pool.size < settings.server.workers]


def _shares(section: BaseModel, keys: Iterable[str], index: int, count: int) -> dict[str, int]:
    """The worker's parts of what is limited; 0 and None mean no limit, and stay."""
    values = {key: getattr(section, key) for key in keys}
    return {key: share(value, index, count) for key, value in values.items() if value}
