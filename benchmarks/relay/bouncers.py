"""PgBouncer and pgpool-II, as Debian packages them, in front of the local stack."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.relay.place import Endpoint, Place
from benchmarks.relay.programs import accepts, running
from proxy.local.ports import free_port

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/usr/lib/postgresql/15/bin"
_PREPARED_SINCE = (1, 21)
"""PgBouncer follows prepared statements in transaction pooling from this version on."""


def find_pgbouncer() -> Path | None:
    """Its program, or None."""
    found = shutil.which("pgbouncer", path=_PLACES)
    return Path(found) if found else None


def pgbouncer_version(program: Path) -> str:
    """As it tells it, such as "1.18.0"."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"PgBouncer (\d+\.\d+(\.\d+)?)", told.stdout)
    return match[1] if match else "?"


def keeps_prepared(version: str) -> bool:
    """Whether this PgBouncer knows prepared statements in transaction pooling."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return numbers >= _PREPARED_SINCE


@contextmanager
def running_pgbouncer(program: Path, place: Place) -> Iterator[Endpoint]:
    """PgBouncer in transaction pooling before the primary."""
    stack, folder, port = place.stack, place.folder("pgbouncer"), free_port(set())
    users = place.write(folder / "users.txt", f'"{stack.app_user}" "{stack.app_password}"\n')
    prepared = keeps_prepared(pgbouncer_version(program))
    config = f"""\
[databases]
{stack.database} = host={stack.primary.host} port={stack.primary.port} dbname={stack.database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {place.pool_size}
max_client_conn = {place.clients * 2 + 100}
{"max_prepared_statements = 200" if prepared else ""}
log_connections = 0
log_disconnections = 0
"""
    file = place.write(folder / "pgbouncer.ini", config)
    with running(
        [program, "-q", file],
        place.directory / "pgbouncer.log",
        lambda: accepts(port),
        account=place.account,
        stop_signal=signal.SIGINT,
    ) as pid:
        yield Endpoint(port, pid)


def find_pgpool() -> Path | None:
    """Its program, or None."""
    found = shutil.which("pgpool", path=_PLACES)
    return Path(found) if found else None


def pgpool_version(program: Path) -> str:
    """As it tells it, such as "4.3.5"."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)
    return match[0] if match else "?"


@contextmanager
def running_pgpool(program: Path, place: Place) -> Iterator[Endpoint]:
    """pgpool-II with reads on the standbys. It has a process per client and no transaction
    pooling, so each client keeps a connection to every server."""
    stack, folder = place.stack, place.folder("pgpool")
    port = free_port(set())
    password = f"{stack.app_user}:TEXT{stack.app_password}\n"
    passwords = place.write(folder / "pool_passwd", password)
    hba = place.write(folder / "pool_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n")
    settings = {
        "backend_clustering_mode": "streaming_replication",
        "listen_addresses": "127.0.0.1",
        "port": port,
        "socket_dir": folder,
        "pcp_listen_addresses": "",
        "pcp_port": free_port({port}),
        "pcp_socket_dir": folder,
        "logdir": folder,
        "pid_file_name": folder / "pgpool.pid",
        "pool_passwd": passwords,
        "enable_pool_hba": "on",
        "num_init_children": place.clients + 16,
        "max_pool": 1,
        "load_balance_mode": "on",
        "sr_check_period": 10,
        "sr_check_user": stack.app_user,
        "sr_check_database": stack.database,
        "health_check_period": 0,
        "memory_cache_enabled": "off",
    }
    for number, server in enumerate((stack.primary, *stack.replicas)):
        settings |= {
            f"backend_hostname{number}": server.host,
            f"backend_port{number}": server.port,
            f"backend_weight{number}": int(bool(number) or not stack.replicas),
            f"backend_flag{number}": "DISALLOW_TO_FAILOVER",
        }
    config = "".join(f"{key} = '{value}'\n" for key, value in settings.items())
    file = place.write(folder / "pgpool.conf", config)
    with running(
        [program, "-n", "-f", file, "-F", folder / "pcp.conf", "-a", hba],
        place.directory / "pgpool.log",
        lambda: accepts(port),
        account=place.account,
        stop_signal=signal.SIGINT,
    ) as pid:
        yield Endpoint(port, pid)
