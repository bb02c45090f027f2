"""A real PostgreSQL server that does TLS: the one that the system has, as the bundled can't."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.local.account import give, server_account
from proxy.local.errors import LocalStackError
from proxy.local.postgres import PostgresServer
from proxy.local.programs import find_postgres
from proxy.local.stack import Stack, StackOptions
from proxy.local.start import start_stack
from tests.certificates import Authority, Pair
from tests.stacks import RUN_DIR

PATIENCE = 20.0


def missing() -> str:
    """Why there is no such server here; empty if there is one."""
    try:
        programs = find_postgres(system=True)
    except LocalStackError:
        return "postgresql (the system's server, with TLS) is not installed"
    if b"libssl" not in (programs.bin_dir / "postgres").read_bytes():
        return "postgresql of the system has no TLS"
    return ""


@contextmanager
def tls_stack(authority: Authority) -> Iterator[Stack]:
    """A primary and a standby of the system's PostgreSQL, both with TLS by `authority`."""
    directory = Path(os.environ[RUN_DIR]) / f"tls-{uuid.uuid4().hex[:8]}"
    stack = start_stack(
        StackOptions(
            data_dir=directory, replicas=1, shards=0, redis=False, durable=False, system=True
        )
    )
    try:
        for server in (stack.primary, *stack.replicas):
            certify(server, authority.server(file=server.name), authority)
        yield stack
    finally:
        stack.remove()


def certify(server: PostgresServer, pair: Pair, authority: Authority) -> None:
    """Give a server its certificate, and have it ask for those of clients."""
    own = server.data_dir
    for source, name in (
        (pair.certificate, "server.crt"),
        (pair.key, "server.key"),
        (authority.file, "root.crt"),
    ):
        shutil.copy(source, own / name)
        (own / name).chmod(0o600)
        give(server_account(), [own / name])
    configure(server, ssl="on", ssl_ca_file="root.crt")


def configure(server: PostgresServer, **settings: str) -> None:
    """Settings that a reload brings into force."""
    with (server.data_dir / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    reload(server)


def reload(server: PostgresServer) -> None:
    """Have a server read its files again, and wait until it has: connections made from then on
    are served by what it read."""
    loaded = server.psql("SELECT pg_conf_load_time()")
    server.psql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + PATIENCE
    while server.psql("SELECT pg_conf_load_time()") == loaded:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{server.name} does not read its configuration again")
        time.sleep(0.02)


@contextmanager
def hba(server: PostgresServer, kind: str) -> Iterator[None]:
    """Let TCP connections in only by lines of `kind`: hostssl or hostnossl; "cert" wants a client's
    certificate too."""
    file = server.data_dir / "pg_hba.conf"
    before = file.read_text()
    line = "hostssl" if kind == "cert" else kind
    method = "scram-sha-256" + (" clientcert=verify-ca" if kind == "cert" else "")
    changed = "\n".join(
        f"{line} all all 127.0.0.1/32 {method}" if each.startswith("host ") else each
        for each in before.splitlines()
    )
    try:
        file.write_text(changed + "\n")
        reload(server)
        yield
    finally:
        file.write_text(before)
        reload(server)
