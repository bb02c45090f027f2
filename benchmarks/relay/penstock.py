"""Penstock before the local stack, out of this source tree or another."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.relay.place import Endpoint, Place
from benchmarks.relay.programs import BenchmarkError, running
from proxy.local.configuration import render_config

_CACHE_RULE = """
[[cache.rule]]
name = "accounts"
tables = ["pgbench_accounts"]
ttl = "10min"
"""


def chosen_tree(sources: Path) -> Path:
    """The compiled copy of a source tree where `make compiled` has made one, or else the sources.

    Raises BenchmarkError if the copy was made from other sources.
    """
    copy = sources / "build" / "compiled"
    if not (copy / "proxy").is_dir():
        return sources
    for file in (sources / "proxy").rglob("*.py"):
        twin = copy / file.relative_to(sources)
        if not twin.exists() or twin.read_bytes() != file.read_bytes():
            raise BenchmarkError(f"{twin} is not as {file}: run `make compiled`, or remove {copy}")
    return copy


def is_compiled(tree: Path) -> bool:
    """Whether the data path of the Penstock in `tree` is compiled."""
    code = "import proxy.session.relay as m; print(m.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True
    )
    return not told.stdout.strip().endswith(".py")


@contextmanager
def running_penstock(
    tree: Path, place: Place, name: str, *, replicas: bool, cache: bool
) -> Iterator[Endpoint]:
    """`penstock serve` with the given features, the rest as it comes."""
    folder = place.folder(name)
    stack = replace(
        place.stack,
        replicas=place.stack.replicas if replicas else (),
        redis=place.stack.redis if cache else None,
    )
    config = render_config(
        stack,
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        extra=f'[log]\nformat = "json"\n[pool]\nsize = {place.pool_size}\n'
        + (_CACHE_RULE if cache else ""),
    )
    file = place.write(folder / "penstock.toml", config)
    log_file = place.directory / f"{name}.log"
    with running(
        [sys.executable, "-m", "proxy.cli.main", "serve", "--config", file],
        log_file,
        lambda: _listening(log_file) is not None,
        directory=tree,  # where Python looks for modules first
    ) as pid:
        event = _listening(log_file)
        assert event is not None
        port, http_port = (int(str(event[key]).rpartition(":")[2]) for key in ("sql", "http"))
        yield Endpoint(port, pid, f"http://127.0.0.1:{http_port}/metrics")


def _listening(log_file: Path) -> dict[str, object] | None:
    for line in log_file.read_text(encoding="utf-8").splitlines():
        event: dict[str, object] = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "listening":
            return event
    return None


def queries_by_route(metrics_url: str) -> dict[str, float]:
    """How many a running Penstock has answered so far, as its metrics tell."""
    with urllib.request.urlopen(metrics_url, timeout=10) as response:
        text = response.read().decode()
    found: dict[str, float] = {}
    for match in re.finditer(r'^penstock_queries_total\{.*route="(\w+)".*\} (\S+)$', text, re.M):
        found[match[1]] = found.get(match[1], 0.0) + float(match[2])
    return found


def commit_of(tree: Path) -> str:
    """What to say of a tree: its commit, as far as git knows it."""
    told = subprocess.run(
        ["git", "-C", str(tree), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    )
    return told.stdout.strip() or "?"
