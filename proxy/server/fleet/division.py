"""The settings of one worker: limits of the whole are divided, all others are the same."""

import secrets
from typing import Final

from pydantic import SecretStr

from proxy.config.settings import PoolSettings, Settings

_SHARED: Final = (
    "size",
    "min_size",
    "reserve_size",
    "max_node_connections",
    "max_database_connections",
    "max_user_connections",
)
"""Limits of pools that hold for the whole, where there are such; 0 is none, and stays 0."""


_NONCE: Final = SecretStr(secrets.token_hex(32))
"""Of all workers, so that a client is told the same salt by each."""


def share(total: int, index: int, count: int) -> int:
    """The part of `total` that is the worker's with this index; all parts together are `total`."""
    return total // count + (index < total % count)


def worker_settings(settings: Settings, index: int, count: int) -> Settings:
    """What the worker with this index, of so many, goes by."""
    databases = {
        name: one
        if one.pool is None
        else one.model_copy(update={"pool": _pool(one.pool, index, count)})
        for name, one in settings.databases.items()
    }
    server = settings.server
    limits = {
        "max_client_connections": share(server.max_client_connections, index, count),
        "max_opening_connections": max(1, share(server.max_opening_connections, index, count)),
    }
    auth = settings.auth
    nonce = auth.mock_authentication_nonce or _NONCE
    return settings.model_copy(
        update={
            "auth": auth.model_copy(update={"mock_authentication_nonce": nonce}),
            "server": server.model_copy(update=limits),
            "pool": _pool(settings.pool, index, count),
            "databases": databases,
        }
    )


def _pool(pool: PoolSettings, index: int, count: int) -> PoolSettings:
    return pool.model_copy(
        update={
            name: share(getattr(pool, name), index, count)
            for name in _SHARED
            if name in PoolSettings.model_fields and getattr(pool, name)
        }
    )
