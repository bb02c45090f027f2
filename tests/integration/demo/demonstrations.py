"""Runs `penstock demo` as a user would, and looks for what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import psutil

from proxy.local.stack import open_stack

_MARK = "DEMONSTRATION_UNDER_TEST"
_PATIENCE = 120.0


@dataclass(slots=True)
class Demonstration:
    """`penstock demo` with a data directory of its own. Every process it starts has its mark."""

    data: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def command(self, *arguments: str) -> list[str]:
        """The command line; ports are free ones unless `arguments` name others."""
        ports = ("--port", "0", "--http-port", "0")
        given = ("--data", str(self.data), *ports, *arguments)
        return [sys.executable, "-m", "proxy.cli.main", "demo", *given]

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with the mark that tells its processes from all others."""
        return {**os.environ, _MARK: self.mark}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )

    @contextmanager
    def started(self, *arguments: str) -> Iterator["Running"]:
        """Start it and go on; it is killed after the block if it still runs."""
        with TemporaryFile() as output:
            process = subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                yield Running(process, output.fileno())
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def processes(self) -> list[str]:
        """Everything that it started and that still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(_MARK) == self.mark
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
        return found

    def kill_penstock(self) -> None:
        """End the proxy that a killed demonstration left."""
        for process in psutil.process_iter():
            try:
                if str(self.data / "penstock.toml") in process.cmdline():
                    process.kill()
            except psutil.Error:
                continue

    def remove(self) -> None:
        """Stop and remove its servers, wherever the data are kept."""
        self.kill_penstock()
        if (stack := open_stack(self.data / "stack")) is not None:
            stack.remove()


@dataclass(frozen=True, slots=True)
class Running:
    """A demonstration under way."""

    process: subprocess.Popen[bytes]
    output: int

    def text(self) -> str:
        """What it has printed so far."""
        return os.pread(self.output, 1_000_000, 0).decode()

    def wait_for(self, pattern: str) -> "re.Match[str]":
        """Wait until it has printed a text that `pattern` is found in."""
        deadline = time.monotonic() + _PATIENCE
        while (found := re.search(pattern, self.text())) is None:
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} (exit status {ended}) in:\n{self.text()}")
            time.sleep(0.01)
        return found

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE)
