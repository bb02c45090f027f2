"""PgBouncer, as Debian packages it, before the primary.

Set up as its documentation advises for this: transaction pooling, prepared statements where it
knows them, logins by the very secret that the server has, so that it needs no password to log in
there and derives no key at each login.
"""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers.place import Endpoint, Place
from benchmarks.servers.programs import accepts, find_program, most_clients, running
from proxy.local.ports import free_port

_PREPARED_SINCE = (1, 21)
"""It follows prepared statements in transaction pooling from this version on."""

_MOST_CLIENTS = 11_500


def find_pgbouncer() -> Path | None:
    """Its program, or None."""
    return find_program("pgbouncer")


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
def running_pgbouncer(program: Path, place: Place, pool_size: int) -> Iterator[Endpoint]:
    """For the length of a block."""
    stack, folder, port = place.stack, place.folder("pgbouncer"), free_port(set())
    users = place.write(folder / "users.txt", f'"{stack.app_user}" "{place.secret()}"\n')
    prepared = keeps_prepared(pgbouncer_version(program))
    config = f"""\
[databases]
{stack.database} = host={stack.primary.host} port={stack.primary.port} dbname={stack.database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
listen_backlog = 1024
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = {most_clients(_MOST_CLIENTS)}
query_timeout = 600
{"max_prepared_statements = 200" if prepared else ""}
log_connections = 0
log_disconnections = 0
"""
    file = place.write(folder / "pgbouncer.ini", config)
    with running(
        [program, "-q", file],
        folder / "log",
        lambda: accepts(port),
        account=place.account,
        stop_signal=signal.SIGINT,
    ) as pid:
        yield Endpoint(port, pid)
