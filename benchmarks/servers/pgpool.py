"""pgpool-II, as Debian packages it, with or without its query cache in shared memory.

It has a process per client and no transaction pooling, so each client keeps a connection to the
server.
"""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers.place import Endpoint, Place
from benchmarks.servers.programs import find_program, running
from proxy.local.ports import free_port

SPARE = 16
"""Processes more than clients, for those that are ending."""


def find_pgpool() -> Path | None:
    """Its program, or None."""
    return find_program("pgpool")


def pgpool_version(program: Path) -> str:
    """As it tells it, such as "4.3.5"."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)
    return match[0] if match else "?"


@contextmanager
def running_pgpool(program: Path, place: Place, clients: int, *, cache: bool) -> Iterator[Endpoint]:
    """For the length of a block, with room for as many clients as that."""
    stack, folder = place.stack, place.folder("pgpool")
    port, log_file = free_port(set()), folder / "log"
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
        "num_init_children": clients + SPARE,
        "max_pool": 1,
        "load_balance_mode": "on",
        "sr_check_period": 10,
        "sr_check_user": stack.app_user,
        "sr_check_database": stack.database,
        "health_check_period": 0,
        "backend_hostname0": stack.primary.host,
        "backend_port0": stack.primary.port,
        "backend_weight0": 1,
        "backend_flag0": "DISALLOW_TO_FAILOVER",
        "memory_cache_enabled": "on" if cache else "off",
        "memqcache_method": "shmem",
        "memqcache_total_size": "128MB",
        "memqcache_max_num_cache": 200_000,
        "memqcache_oiddir": folder,
    }
    config = "".join(f"{key} = '{value}'\n" for key, value in settings.items())
    file = place.write(folder / "pgpool.conf", config)
    with running(
        [program, "-n", "-f", file, "-F", folder / "pcp.conf", "-a", hba],
        log_file,
        # It listens before it knows which server is the primary, and doesn't cache until then.
        lambda: "successfully started" in log_file.read_text(encoding="utf-8", errors="replace"),
        account=place.account,
        stop_signal=signal.SIGINT,
    ) as pid:
        yield Endpoint(port, pid)
