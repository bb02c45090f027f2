"""Where a benchmark runs: the servers behind all sides, filled, and room for files."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import pgbench
from benchmarks.clients.load import Target
from benchmarks.scripts import SHARD_TABLES, TABLES
from proxy.local.account import Account, give, server_account
from proxy.local.stack import Stack, StackOptions
from proxy.local.start import start_stack
from proxy.local.watcher import remove_stacks, start_watcher

SHARDS = 2
_SETTINGS = {
    # A process for each of 1,000 clients, and pools beside.
    "max_connections": 1300,
    # A dear statement costs one core, as it would on a server that is busy.
    "max_parallel_workers_per_gather": 0,
}

_SCRAM_ITERATIONS = 64
"""Of the clients' secret. More costs the client alone, which is not what is measured here; and a
thousand clients log in at each measurement of theirs."""


@dataclass(frozen=True, slots=True)
class Place:
    """See the module's docstring.

    Attributes:
        directory: for files; removed at the end.
        account: whom programs run as that refuse to run as root; None: as ourselves.
    """

    directory: Path
    stack: Stack
    account: Account | None

    def folder(self, name: str) -> Path:
        """A new folder that the account may write in."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))
        give(self.account, [folder])
        return folder

    def write(self, path: Path, text: str) -> Path:
        """A file that only the account may read, for it may hold passwords."""
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        give(self.account, [path])
        return path

    def secret(self) -> str:
        """What the server keeps of the application's password."""
        user = self.stack.app_user
        return self.stack.primary.psql(
            f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"
        )

    def client(self, port: int) -> Target:
        """What a client needs to know to connect to a port."""
        stack = self.stack
        return Target(
            port,
            stack.app_user,
            stack.app_password,
            stack.database,
            stack.pgbench,
            stack.psql,
            self.directory,
        )


@contextmanager
def open_place(
    parent: Path | None, *, replicas: bool, shards: bool, progress: Callable[[str], None]
) -> Iterator[Place]:
    """A primary of our own with what else is asked for, and a Redis; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=parent) as name:
        directory = Path(name)
        directory.chmod(0o711)  # the servers' account must get through
        start_watcher(directory, os.getpid())
        progress("starting the servers")
        options = StackOptions(
            directory / "stack",
            replicas=2 if replicas else 0,
            shards=SHARDS if shards else 0,
            durable=False,
        )
        stack = start_stack(options)
        try:
            _configure(stack)
            place = Place(directory, stack, server_account())
            progress("filling the tables")
            _fill(place)
            yield place
        finally:
            failed = remove_stacks(directory)
        if failed:
            raise ExceptionGroup("servers that could not be removed", failed)


def _configure(stack: Stack) -> None:
    """A standby refuses to start with less than its primary has, so the primary comes last."""
    statements = ";\n".join(f"ALTER SYSTEM SET {key} = {value}" for key, value in _SETTINGS.items())
    for server in (*stack.replicas, *stack.shards, stack.primary):
        server.psql(statements)
    for server in (*stack.replicas, *stack.shards, stack.primary):
        server.stop()
        server.start()
    stack.primary.psql(
        f"SET scram_iterations = {_SCRAM_ITERATIONS};\n"
        f"ALTER ROLE {stack.app_user} PASSWORD '{stack.app_password}'"
    )


def _fill(place: Place) -> None:
    stack = place.stack
    pgbench.fill(place.client(stack.primary.port))
    stack.primary.psql(TABLES.format(owner=stack.app_user), stack.database)
    for number, shard in enumerate(stack.shards):
        tables = SHARD_TABLES.format(owner=stack.app_user, shards=len(stack.shards), number=number)
        shard.psql(tables, stack.database)
    target = stack.primary.psql("SELECT pg_current_wal_lsn()")
    for replica in stack.replicas:
        caught_up = f"pg_last_wal_replay_lsn() >= '{target}'"
        replica.wait_until(caught_up, 60.0, "replay of the tables")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where clients connect to, and the process whose cost is measured, with its children.

    Attributes:
        pid: None for a server without proxy.
        metrics_url: of a Penstock.
    """

    port: int
    pid: int | None = None
    metrics_url: str | None = None
