"""Penstock as a process of its own, as an operator would run it: `penstock serve`."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from proxy.demo.errors import DemoError
from proxy.demo.place import Place
from proxy.demo.signals import StopSignals
from proxy.local.errors import log_tail
from proxy.local.ports import HOST, is_free

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_PACKAGES = Path(__file__).resolve().parents[2]


def check_port(port: int, option: str) -> None:
    """Raise DemoError when another program listens on the port; 0 means any free one."""
    if port == 0 or is_free(port):
        return
    instead = next(
        (number for number in range(port + 1, min(port + 100, 65536)) if is_free(number)), 0
    )
    raise DemoError(
        f"port {port} of {HOST} is in use{_by_whom(port)}; end that program, or choose another "
        f'port: make demo ARGS="{option} {instead}"'
    )


def _by_whom(port: int) -> str:
    """ " by NAME (process N)" where the system tells."""
    try:
        for one in psutil.net_connections("tcp"):
            if (
                one.status == psutil.CONN_LISTEN
                and getattr(one.laddr, "port", None) == port
                and one.pid
            ):
                return f" by {psutil.Process(one.pid).name()} (process {one.pid})"
    except psutil.Error:
        pass  # others' sockets are not ours to see; the message does without
    return ""


def end_leftover(place: Place) -> int:
    """End the Penstock that a killed demonstration left in this place; how many processes.

    Only while the place is ours (`place.occupied`): a running demonstration's is no leftover.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if str(place.config_file) in process.cmdline() and "serve" in process.cmdline():
                process.kill()
                found.append(process)
        except psutil.Error:
            continue
    psutil.wait_procs(found, timeout=_STOP_SECONDS)
    return len(found)


@dataclass(slots=True)
class Serving:
    """A running `penstock serve`. `port` and `http_port` are those it really listens on."""

    process: subprocess.Popen[bytes]
    place: Place
    port: int = 0
    http_port: int = 0

    @property
    def metrics_url(self) -> str:
        """Where Prometheus would scrape it."""
        return f"http://{HOST}:{self.http_port}/metrics"

    def dsn(self, database: str, user: str, password: str) -> str:
        """What an application's connection string becomes."""
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    def wait_until_listening(self) -> None:
        """Wait for its own word that it listens. Raises DemoError with the end of its log."""
        deadline = time.monotonic() + _START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if (event := _listening(self.place.log_file)) is not None:
                self.port = int(event["sql"].rpartition(":")[2])
                self.http_port = int(event["http"].rpartition(":")[2])
                return
            time.sleep(0.02)
        raise self.failure("Penstock did not start")

    def failure(self, what: str) -> DemoError:
        """An error with the end of the log."""
        return DemoError(
            f"{what}; the end of {self.place.log_file}:\n{log_tail(self.place.log_file)}"
        )

    def stop(self) -> None:
        """SIGINT, and SIGKILL where that is not heard. Does nothing if it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def launch(place: Place, signals: StopSignals, cleanup: ExitStack) -> Serving:
    """Start the process, whose end `cleanup` is charged with; `wait_until_listening` comes next."""
    with signals.held(), place.log_file.open("wb") as log:
        # A session of its own: Ctrl-C reaches the demonstration alone, which ends this in order.
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "proxy.cli.main"),
                *("serve", "--config", str(place.config_file)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(),
            start_new_session=True,
        )
        serving = Serving(process, place)
        cleanup.callback(serving.stop)
    return serving


def _environment() -> dict[str, str]:
    """Ours without settings for Penstock, and with the very package that we were loaded from: the
    working directory may hold another form of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    paths = [str(_PACKAGES), kept.get("PYTHONPATH", "")]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _listening(log_file: Path) -> dict[str, str] | None:
    for line in log_file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            event: dict[str, str] = json.loads(line)
            if event.get("event") == "listening":
                return event
    return None
