"""A Redis of a test's own, to be killed, frozen, filled and restarted."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.local.programs import find_redis


def free_port(below: int = 65536) -> int:
    """A port of 127.0.0.1 that nobody has now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < below:
            return port


class OwnRedis:
    """A real server on a free port of 127.0.0.1. Everything here blocks, briefly."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        program: str | Path | None = None,
        tls: bool = False,
        port: int = 0,
    ) -> None:
        self._directory = directory
        self.options = options
        self._program = program or find_redis(system=False).server
        self.port = port or free_port()
        self.tls_port = free_port() if tls else 0
        self._process: subprocess.Popen[bytes] | None = None
        self.password: str | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        """A plain client, as somebody else would use one."""
        return redis.Redis(port=self.port, password=self.password, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """With what the last `save` left, if there was one."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--dir", str(self._directory), *self.options]
        if self.tls_port:
            arguments += ["--tls-port", str(self.tls_port)]
        self._process = subprocess.Popen([self._program, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "the test's Redis does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            self.client().ping()
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        return True

    @property
    def running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """SIGKILL: what was not saved is lost."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)
