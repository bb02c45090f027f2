"""The text of a local server's configuration files. Values in, text out."""

from collections.abc import Mapping
from pathlib import Path

from proxy.local.ports import HOST

HBA = f"""\
# Written by penstock. Only the servers' account can enter the sockets' directory.
local   all           all                  trust
local   replication   all                  trust
host    all           all   {HOST}/32   scram-sha-256
host    replication   all   {HOST}/32   scram-sha-256
"""

_ALWAYS: Mapping[str, str | int] = {
    "listen_addresses": HOST,
    "max_connections": 300,
    "password_encryption": "scram-sha-256",
    # Replication and logical decoding; slots that nobody reads must not fill the disk.
    "wal_level": "logical",
    "max_wal_senders": 20,
    "max_replication_slots": 40,
    "max_slot_wal_keep_size": "2GB",
    "max_prepared_transactions": 100,
    "hot_standby": "on",
    # Long reads on a standby are not cancelled by the primary's vacuum.
    "hot_standby_feedback": "on",
    # The defaults suit networks; on one machine a standby may notice at once.
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# Survives the crash of a server, not of the machine. Commits still wait for their WAL to be
# written: standbys are sent only what is, so synchronous_commit = off would delay them.
_FAST: Mapping[str, str | int] = {"fsync": "off", "full_page_writes": "off"}


def server_config(*, name: str, port: int, socket_dir: Path, durable: bool) -> str:
    """The settings of one server, to be included by postgresql.conf.

    A standby refuses to start with smaller limits than its primary, so all have the same.
    """
    settings: dict[str, str | int] = {
        "cluster_name": name,
        "port": port,
        "unix_socket_directories": f'"{socket_dir}"',
        **_ALWAYS,
        **({} if durable else _FAST),
    }
    lines = [f"{key} = {_literal(value)}" for key, value in settings.items()]
    return "# Written by penstock at each start.\n" + "\n".join(lines) + "\n"


def standby_conninfo(*, name: str, socket_dir: Path, port: int) -> str:
    """How a standby reaches its primary: through the socket, so that no password is stored."""
    host = str(socket_dir).replace("\\", "\\\\").replace("'", "\\'")
    return f"host='{host}' port={port} user=postgres application_name={name}"


def repointed(auto_conf: str, conninfo: str) -> str:
    """postgresql.auto.conf with the primary at `conninfo`."""
    kept = [line for line in auto_conf.splitlines() if not line.startswith("primary_conninfo")]
    return "\n".join([*kept, f"primary_conninfo = {_literal(conninfo)}"]) + "\n"


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
