"""Processes of Penstock that begin with its modules loaded.

Most tests start a Penstock, and most of what a start costs is imports. Here they are done once, by
a process that forks for each start and says what has become of what it forked.

`python -m tests.nursery DESCRIPTOR` is that process: lines of JSON come and go on the socket.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_PRELOADED: Final = ("uvloop", "proxy.cli.main", "proxy.cli.serve", "proxy.server.process")
_ROOT: Final = Path(__file__).parent.parent
TREE: Final = "PENSTOCK_TREE"
"""Names the directory of another build of the package to test, such as the compiled one."""


class Child:
    """One of the nursery's processes, handled as `subprocess.Popen` is."""

    def __init__(
        self,
        nursery: "Nursery",
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._nursery = nursery
        self._arguments = list(arguments)
        log.touch()
        self.pid: int = nursery.ask(
            {"start": self._arguments, "log": str(log), "environment": dict(environment)}
        )
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                assert timeout is not None
                raise subprocess.TimeoutExpired(self._arguments, timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that forks, started when it is needed first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def start(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Child:
        """`penstock` with these arguments; its output goes to `log`."""
        return Child(self, arguments, log, environment)

    def ask(self, question: dict[str, object]) -> Any:
        """The nursery's answer."""
        with self._lock:
            if self._socket is None:
                self._socket = self._open()
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(_line(self._socket))

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=os.environ.get(TREE, _ROOT),
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        theirs.close()
        atexit.register(process.wait)
        atexit.register(ours.close)
        return ours


def _line(connected: socket.socket) -> bytes:
    """Up to a newline; empty at the end."""
    line = b""
    while not line.endswith(b"\n"):
        got = connected.recv(65536)
        if not got:
            return b""
        line += got
    return line


nursery: Final = Nursery()


def main() -> None:
    """Fork on demand until nobody asks any more, then end what still runs."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else a collection in a child would copy what all share
    running: set[int] = set()
    while line := _line(asked):
        question = json.loads(line)
        if "start" in question:
            pid = os.fork()
            if not pid:
                asked.close()
                _become(**question)
            running.add(pid)
            answer: int | None = pid
        else:
            answer = _exit_code(question["poll"])
            if answer is not None:
                running.discard(question["poll"])
        asked.sendall(json.dumps(answer).encode() + b"\n")
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _exit_code(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _become(start: list[str], log: str, environment: dict[str, str]) -> None:
    """Be `penstock` from here on."""
    from proxy.cli.main import main as penstock

    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.argv = ["penstock", *start]
    code = 1
    try:
        penstock()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
