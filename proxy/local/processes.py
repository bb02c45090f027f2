"""Runs programs for the stack, and finds and ends its servers without touching anybody else's."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from proxy.local.account import Account
from proxy.local.errors import LocalStackError

# Only these are ever taken for ours: an editor with one of our files open is not.
_PROGRAMS = {
    "initdb",
    "pg_basebackup",
    "pg_ctl",
    "postgres",
    "redis-server",
    "valkey-server",
}


def run(
    command: Sequence[str | Path],
    *,
    account: Account | None,
    doing: str,
    input_text: str | None = None,
    timeout: float = 120.0,
) -> str:
    """Run a program to its end as `account`, in a session of its own, and return what it printed.

    A session of its own, so that Ctrl-C reaches us alone and we end the servers in order.

    Raises LocalStackError, naming `doing`, with the program's words when it fails.
    """
    try:
        done = subprocess.run(
            command,
            input=input_text,
            stdin=subprocess.DEVNULL if input_text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd="/",
            env=_environment(),
            umask=0o077,
            start_new_session=True,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalStackError(f"{doing}: {command[0]} did not end within {timeout:g} s") from error
    except OSError as error:
        raise LocalStackError(f"{doing}: {command[0]} could not be run: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise LocalStackError(f"{doing}: {Path(command[0]).name} failed:\n{said}")
    return done.stdout


def find(pid: int | None, marker: Path) -> psutil.Process | None:
    """The live process `pid`, provided that its command line names `marker`.

    The process ids in files outlive their processes and are used again by strangers; the
    directory on the command line is what shows that a process is ours.
    """
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if _names(process, marker) else None
    except psutil.Error:
        return None


def find_strays(markers: Iterable[Path]) -> list[psutil.Process]:
    """Every live server process that works in one of `markers`, or names one when called.

    PostgreSQL's backends rename themselves, but their working directory is the data directory;
    they outlive a killed postmaster for a moment.
    """
    wanted = list(markers)
    strays = []
    for process in psutil.process_iter():
        try:
            if process.name() not in _PROGRAMS:
                continue
            working_dir = Path(process.cwd())
            if any(working_dir == marker or _names(process, marker) for marker in wanted):
                strays.append(process)
        except psutil.Error:
            continue
    return strays


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal each process that is still the one it was; psutil checks its start time."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def wait_gone(processes: Sequence[psutil.Process], timeout: float) -> bool:
    """Wait up to `timeout` seconds for all of them to end; whether they did.

    One that nobody has reaped is gone too: containers often run without an init that would.
    """
    _, alive = psutil.wait_procs(processes, timeout=0)
    if not alive:
        return True
    deadline = time.monotonic() + timeout
    while alive and time.monotonic() < deadline:
        _, alive = psutil.wait_procs(alive, timeout=0.02)
        alive = [process for process in alive if not _is_zombie(process)]
    return not alive


def end(process: psutil.Process, first: signal.Signals, timeout: float) -> None:
    """Ask with `first`, and after `timeout` seconds kill the process and what it started."""
    members = family(process)
    send([process], first)
    if not wait_gone(members, timeout):
        kill(process)


def kill_strays(markers: Iterable[Path]) -> int:
    """Kill what `find_strays` finds; how many that were."""
    strays = find_strays(markers)
    send(strays, signal.SIGKILL)
    if not wait_gone(strays, 10.0):
        raise LocalStackError(f"left-over processes outlived SIGKILL: {strays}")
    return len(strays)


def kill(process: psutil.Process) -> None:
    """SIGKILL to the process and its descendants, and wait until all are gone."""
    members = family(process)
    send(members, signal.SIGKILL)
    if not wait_gone(members, 10.0):
        raise LocalStackError(f"process {process.pid} outlived SIGKILL; it may hang in the kernel")


def started_at(pid: int) -> float | None:
    """When the process started, in seconds of the epoch; None when there is none."""
    try:
        process = psutil.Process(pid)
        return None if _is_zombie(process) else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _names(process: psutil.Process, marker: Path) -> bool:
    if process.name() not in _PROGRAMS or _is_zombie(process):
        return False
    text = str(marker)
    return any(
        word == text or word.endswith(f"={text}") or word.startswith(f"{text}/")
        for word in process.cmdline()
    )


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _environment() -> dict[str, str]:
    """Ours, without libpq's variables and files: they would send us to somebody else's server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "PGPASSFILE": f"{os.devnull}/none", "PGCONNECT_TIMEOUT": "10"}
