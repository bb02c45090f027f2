"""Penstock as a process of its own, in front of a test's database."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.local.configuration import render_config
from tests.databases import Database
from tests.nursery import TREE, Child, nursery

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running Penstock."""

    host: str
    port: int
    http_port: int
    database: Database
    process: subprocess.Popen[bytes] | Child
    log_file: Path
    config_file: Path

    def dsn(self, database: str | None = None, **parameters: str) -> str:
        """A connection string for the application's role."""
        own = self.database
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return (
            f"postgresql://{own.user}:{own.password}@{self.host}:{self.port}"
            f"/{database or own.name}{'?' + query if query else ''}"
        )

    @property
    def url(self) -> str:
        """Of the HTTP listener."""
        return f"http://{self.host}:{self.http_port}"

    def environment(self) -> dict[str, str]:
        """libpq's variables for a client program."""
        return {
            **os.environ,
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.database.user,
            "PGPASSWORD": self.database.password,
            "PGDATABASE": self.database.name,
        }

    def log(self) -> list[dict[str, object]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line]

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running_proxy(
    database: Database,
    directory: Path,
    *,
    extra: str = "",
    sharded_tables: Sequence[Mapping[str, str]] = (),
    environment: Mapping[str, str] | None = None,
    sockets: Sequence[socket.socket] = (),
) -> Iterator[Proxy]:
    """Start `penstock serve` on free ports with `extra` appended to its configuration, stop it
    after the block and fail if it did not stop cleanly. `sockets`: listeners to hand over, as
    systemd does."""
    name = uuid.uuid4().hex[:8]
    config_file, log_file = directory / f"{name}.toml", directory / f"{name}.log"
    config_file.write_text(
        render_config(
            database.stack,
            database=database.name,
            listen="127.0.0.1:0",
            http_listen="127.0.0.1:0",
            sharded_tables=sharded_tables,
            extra='[log]\nformat = "json"\n' + extra,
        )
    )
    serve = ["serve", "--config", str(config_file)]
    process: subprocess.Popen[bytes] | Child
    variables = {**os.environ, **(environment or {})}
    if sockets:
        process = _started(serve, log_file, variables, sockets)
    else:
        process = nursery.start(serve, log_file, variables)
    try:
        proxy = _await_listening(process, database, log_file, config_file)
        yield proxy
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # doesn't wait for idle clients to leave
        code = process.wait(timeout=20)
        if code != 0:
            raise AssertionError(f"penstock ended with {code}:\n{log_file.read_text()[-3000:]}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _started(
    arguments: Sequence[str],
    log_file: Path,
    environment: Mapping[str, str],
    sockets: Sequence[socket.socket],
) -> subprocess.Popen[bytes]:
    """`penstock` as a command of its own."""
    command = [sys.executable, "-m", "proxy.cli.main", *arguments]
    with log_file.open("wb") as log:
        return subprocess.Popen(
            _activating(command, sockets) if sockets else command,
            pass_fds=[one.fileno() for one in sockets],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=os.environ.get(TREE),
        )


def _activating(command: Sequence[str], sockets: Sequence[socket.socket]) -> list[str]:
    """The command with the sockets as descriptors 3 and following, as sd_listen_fds(3) says."""
    moves = " ".join(f"{3 + index}<&{one.fileno()}" for index, one in enumerate(sockets))
    script = f'exec {moves}; LISTEN_PID=$$ LISTEN_FDS={len(sockets)} exec "$@"'
    return ["bash", "-c", script, "bash", *command]


def _await_listening(
    process: subprocess.Popen[bytes] | Child, database: Database, log_file: Path, config_file: Path
) -> Proxy:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log_file.read_text().splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "listening":
                host, _, port = str(event["sql"]).rpartition(":")
                http_port = int(str(event["http"]).rpartition(":")[2])
                return Proxy(host, int(port), http_port, database, process, log_file, config_file)
        time.sleep(0.02)
    raise AssertionError(f"penstock did not start:\n{log_file.read_text()}")
