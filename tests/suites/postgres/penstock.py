"""Penstock in front of the suite's server."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.suites.postgres.cluster import DATABASE, HOST, RESTORED, SUPERUSER, Cluster
from tests.suites.postgres.source import SuiteError

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0


def configuration(cluster: Cluster, mode: str, extra: str) -> str:
    """Room for the twenty files that the schedule runs at once; routing is off without `extra`."""
    databases = "".join(
        f'[database.{name}.primary]\nhost = "{HOST}"\nport = {cluster.port}\n'
        for name in (DATABASE, RESTORED)
    )
    routed = str(bool(extra)).lower()
    return (
        f'[server]\nlisten = "{HOST}:0"\nhttp_listen = ""\n[log]\nformat = "json"\n'
        f'[auth]\nmethod = "trust"\n[[auth.users]]\nname = "{SUPERUSER}"\n'
        f'[pool]\nmode = "{mode}"\nsize = 60\n[routing]\nenabled = {routed}\n{databases}{extra}'
    )


@contextmanager
def running_penstock(cluster: Cluster, mode: str, extra: str = "") -> Iterator[int]:
    """Start it, give its port, and stop it after the block; its log stays in the cluster's home."""
    config, log = cluster.home / f"{mode}.toml", cluster.home / f"{mode}.log"
    config.write_text(configuration(cluster, mode, extra))
    command = [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(config)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield _port(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "listening":
                return int(str(event["sql"]).rpartition(":")[2])
        time.sleep(0.05)
    raise SuiteError(f"penstock did not start:\n{log.read_text()[-2000:]}")
