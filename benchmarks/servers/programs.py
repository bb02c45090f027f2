"""Runs a server program for the length of a block."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from proxy.local.account import Account

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_OTHER_FILES = 300
"""What a proxy has open beside its clients' sockets."""
_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


class BenchmarkError(Exception):
    """A measurement that can't be taken, and why."""


@contextmanager
def running(
    command: Sequence[str | Path],
    log_file: Path,
    ready: Callable[[], bool],
    *,
    account: Account | None = None,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[int]:
    """Start `command` in a session of its own, wait until it is `ready`, and stop it at the end.

    Gives its process id. Raises BenchmarkError with the end of its log if it does not start.
    """
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{command[0]} did not start:\n{_end_of(log_file)}")
            time.sleep(0.05)
        yield process.pid
    finally:
        _stop(process, stop_signal)


def raise_limits() -> None:
    """Let us, and what we start, have as many open files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_clients(wanted: int) -> int:
    """How many clients a proxy may accept: as wanted, or what open files suffice for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - _OTHER_FILES)


def find_program(name: str) -> Path | None:
    """Where Debian or an administrator installs it, whatever the user's PATH; None: nowhere."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PLACES}")
    return Path(found) if found else None


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(stop_signal)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # children that outlived it


def _end_of(log_file: Path) -> str:
    return log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
