"""The stack's Redis: a real server that keeps nothing on disk."""

import shutil
import signal
import socket
import time
from pathlib import Path

import psutil

from proxy.local import processes
from proxy.local.account import Account, give
from proxy.local.errors import LocalStackError, PortTakenError, log_tail
from proxy.local.layout import Layout
from proxy.local.ports import HOST
from proxy.local.programs import RedisProgram

_CONFIG = """\
# Written by penstock at each start.
bind {host}
port {port}
protected-mode yes
daemonize yes
pidfile "{directory}/redis.pid"
logfile "{log_file}"
dir "{directory}"
save ""
appendonly no
# Keeps the command line as it was, so that the process can be recognised.
set-proc-title no
enable-debug-command local
"""


class RedisServer:
    """A Valkey or Redis server on 127.0.0.1, known by its directory. Everything here blocks."""

    name = "redis"
    host = HOST

    def __init__(self, *, port: int, layout: Layout, program: RedisProgram) -> None:
        self.port = port
        self.data_dir: Path = layout.server_dir(self.name)
        self.log_file: Path = layout.log_file(self.name)
        self._account: Account | None = layout.account
        self._program = program

    def __repr__(self) -> str:
        return f"<RedisServer {self.host}:{self.port}>"

    @property
    def url(self) -> str:
        """How clients name it."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The process id of the running server, None when it doesn't run."""
        process = self._process()
        return process.pid if process else None

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self.pid is not None

    def start(self, timeout: float = 20.0) -> None:
        """Start the server and wait until it answers. Does nothing if it runs.

        Raises PortTakenError when another program listens on the port, LocalStackError with
        the end of the server's log for everything else.
        """
        if self.running:
            return
        self.clear_leftovers()
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        self.log_file.write_text("", encoding="utf-8")
        config = self.data_dir / "redis.conf"
        text = _CONFIG.format(
            host=HOST, port=self.port, directory=self.data_dir, log_file=self.log_file
        )
        config.write_text(text, encoding="utf-8")
        give(self._account, [self.data_dir, self.log_file, config])
        processes.run([self._program.server, config], account=self._account, doing="redis: start")
        deadline = time.monotonic() + timeout
        while not self.accepts():
            tail = log_tail(self.log_file)
            if "Address already in use" in tail:
                raise PortTakenError(f"redis: port {self.port} of {HOST} is in use")
            if time.monotonic() > deadline:
                self.kill()
                raise LocalStackError(f"redis did not answer within {timeout:g} s:\n{tail}")
            time.sleep(0.01)

    def stop(self, timeout: float = 10.0) -> None:
        """Stop the server; after `timeout` seconds, kill it. Does nothing if it doesn't run."""
        if (process := self._process()) is not None:
            processes.send([process], signal.SIGCONT)
            processes.end(process, signal.SIGTERM, timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        if (process := self._process()) is not None:
            processes.kill(process)

    def clear_leftovers(self) -> int:
        """End servers of this directory that its pid file doesn't name; how many."""
        return processes.kill_strays([self.data_dir])

    def freeze(self) -> None:
        """Stop the process in its tracks (SIGSTOP): a server that hangs."""
        if (process := self._process()) is not None:
            processes.send([process], signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if (process := self._process()) is not None:
            processes.send([process], signal.SIGCONT)

    def remove(self) -> None:
        """Kill the server if it runs and remove all its files."""
        self.kill()
        self.clear_leftovers()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.log_file.unlink(missing_ok=True)

    def accepts(self) -> bool:
        """Whether our server, not another on its port, answers PING."""
        if not self.running:
            return False
        try:
            with socket.create_connection((self.host, self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16) == b"+PONG\r\n"
        except OSError:
            return False

    def _process(self) -> psutil.Process | None:
        try:
            pid = int((self.data_dir / "redis.pid").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return processes.find(pid, self.data_dir)
