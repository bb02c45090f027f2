"""File descriptors: each client and each server connection takes one."""

import resource
from typing import Final

import structlog

from proxy.config.pooling import pool_settings
from proxy.config.settings import Settings

log = structlog.get_logger(__name__)

OWN: Final = 64
"""For listeners, logs, the connections of monitors and the like."""


class TooFewDescriptors(Exception):
    """The process may not open as many files as its settings ask for; says what to do."""


def provide(settings: Settings) -> None:
    """Raise the soft limit to the hard one. Raises TooFewDescriptors if that is below what the
    clients need; logs a warning if it is below what they and full pools of one user need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return
    for_clients, for_servers = needed(settings)
    if for_clients > hard:
        raise TooFewDescriptors(
            f"server.max_client_connections = {settings.server.max_client_connections} needs "
            f"{for_clients} file descriptors and this process may open {hard}: lower the setting, "
            "or raise the limit (ulimit -n; LimitNOFILE= of a systemd unit; --ulimit nofile= of a "
            "container)"
        )
    if for_clients + for_servers > hard:
        log.warning(
            "full pools would need more file descriptors than this process may open",
            limit=hard,
            needed=for_clients + for_servers,
        )


def needed(settings: Settings) -> tuple[int, int]:
    """File descriptors for (all clients and the process itself, the pools of one user)."""
    clients = settings.server.max_client_connections + settings.limits.admin_clients + OWN
    servers = 0
    for name, database in settings.databases.items():
        own = pool_settings(settings, name, "")
        nodes = 1 + len(database.replicas.hosts) + len(database.sharding.shards)
        servers += nodes * (own.size + own.reserve_size)
    return clients, servers
