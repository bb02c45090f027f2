"""What routing and the cache need beside the suite's server: a standby, and a Redis."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.local.account import give
from tests.integration.cache.servers import OwnRedis
from tests.suites.postgres.cluster import DATABASE, HOST, RESTORED, SUPERUSER, Cluster, free_port


@contextmanager
def standby(cluster: Cluster) -> Iterator[int]:
    """A streaming copy of the server; its port. It stops after the block."""
    data = cluster.home / "standby"
    data.mkdir(mode=0o700)
    give(cluster.account, [data])
    port = free_port()
    cluster.run(
        "pg_basebackup",
        *("-h", HOST, "-p", str(cluster.port), "-U", SUPERUSER, "-D", str(data)),
        *("-X", "stream", "-c", "fast", "-R", "--no-sync"),
    )
    with (data / "postgresql.conf").open("a") as file:
        file.write(f"\nport = {port}\nunix_socket_directories = '{data}'\nhot_standby = on\n")
    cluster.run("pg_ctl", "start", "-w", "-s", "-D", str(data), "-l", str(data / "log"))
    try:
        yield port
    finally:
        cluster.run("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", str(data))


@contextmanager
def redis(cluster: Cluster) -> Iterator[int]:
    """A Redis that keeps nothing; its port."""
    server = OwnRedis(cluster.home, "--appendonly", "no")
    server.start()
    try:
        yield server.port
    finally:
        server.kill()


def configuration(standby_port: int, redis_port: int) -> str:
    """Reads on the standby, and all results in the cache."""
    databases = "".join(
        f'[database.{name}.replicas]\nhosts = ["{HOST}:{standby_port}"]\n'
        for name in (DATABASE, RESTORED)
    )
    return (
        f'{databases}[cache]\nredis = "redis://{HOST}:{redis_port}/0"\n'
        '[[cache.rule]]\nname = "everything"\ntables = ["*"]\nttl = "60s"\n'
    )
