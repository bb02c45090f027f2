"""Penstock before the local stack, out of this source tree or another."""

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.servers.place import Endpoint, Place
from benchmarks.servers.programs import BenchmarkError, most_clients, running
from proxy.local.configuration import render_config

Form = Literal["compiled", "interpreted"]

_MOST_CLIENTS = 11_500
_EXTRA = """
[log]
format = "json"

[pool]
size = {pool_size}
query_timeout = "10min"
"""
_CACHE_RULE = """
[[cache.rule]]
name = "what is read often"
tables = ["pgbench_accounts", "bench_zipf"]
ttl = "30min"
"""
_BY_KEY = """granularity = "key"
key = "k"
"""
_SHARDED = ({"name": "bench_sharded", "key": "id", "type": "bigint"},)


@dataclass(frozen=True, slots=True)
class Build:
    """A Penstock to run: the tree whose `proxy/` is imported, and the form that it must have."""

    tree: Path
    form: Form


@dataclass(frozen=True, slots=True)
class Features:
    """What is switched on beside what always is."""

    workers: int = 1
    routing: bool = False
    cache: bool = False
    by_key: bool = False
    """With `cache`: a write ends only what was read of its key."""
    shards: bool = False


def compiled_tree(sources: Path) -> Path:
    """The compiled copy of a source tree, as `make compiled` makes it.

    Raises BenchmarkError, with what to do, if there is none, it could not be compiled, or it was
    made from other sources.
    """
    copy = sources / "build" / "compiled"
    if not (copy / "proxy").is_dir():
        raise BenchmarkError("is not compiled: run `make compiled`")
    for file in (sources / "proxy").rglob("*.py"):
        twin = copy / file.relative_to(sources)
        if not twin.exists() or twin.read_bytes() != file.read_bytes():
            raise BenchmarkError(f"{twin} is not as {file}: run `make compiled`")
    if not list((copy / "proxy" / "session").glob("relay.*.so")):
        raise BenchmarkError("could not be compiled here: see build/compile.log")
    return copy


def form_of(tree: Path) -> Form:
    """Whether the data path of the Penstock in `tree` is compiled."""
    found = (tree / "proxy" / "session").glob("relay.*.so")
    return "compiled" if list(found) else "interpreted"


def _rule(features: Features) -> str:
    if not features.cache:
        return ""
    return _CACHE_RULE + (_BY_KEY if features.by_key else "")


@contextmanager
def running_penstock(
    build: Build, place: Place, pool_size: int, features: Features
) -> Iterator[Endpoint]:
    """`penstock serve` with the given features, the rest as it comes.

    Raises BenchmarkError if it runs in another form than it must.
    """
    folder = place.folder("penstock")
    stack = replace(
        place.stack,
        replicas=place.stack.replicas if features.routing else (),
        redis=place.stack.redis if features.cache else None,
    )
    config = render_config(
        stack,
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        sharded_tables=_SHARDED if features.shards else (),
        extra=_EXTRA.format(pool_size=pool_size) + _rule(features),
    )
    file = place.write(folder / "penstock.toml", config)
    log_file = folder / "log"
    with running(
        [sys.executable, "-m", "proxy.cli.main", "serve", "--config", file],
        log_file,
        lambda: bool(_events(log_file, "listening")),
        directory=build.tree,  # where Python looks for modules first
        environment={
            "PYTHONPATH": str(build.tree),
            "PENSTOCK_SERVER__WORKERS": str(features.workers),
            "PENSTOCK_SERVER__MAX_CLIENT_CONNECTIONS": str(most_clients(_MOST_CLIENTS)),
            "PENSTOCK_AUTH__USERS__0__PASSWORD": place.secret(),
            "PENSTOCK_AUTH__USERS__0__SERVER_PASSWORD": stack.app_password,
            # Each instance has entries of its own.
            "PENSTOCK_CACHE__PREFIX": folder.name,
        },
    ) as pid:
        (event,) = _events(log_file, "listening")
        _check_form(build, _events(log_file, "serving") or [event], features.workers)
        port, http_port = (int(str(event[key]).rpartition(":")[2]) for key in ("sql", "http"))
        yield Endpoint(port, pid, f"http://127.0.0.1:{http_port}/metrics")


def _events(log_file: Path, name: str) -> list[dict[str, object]]:
    lines = log_file.read_text(encoding="utf-8").splitlines()
    events: list[dict[str, object]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [event for event in events if event.get("event") == name]


def _check_form(build: Build, events: Sequence[dict[str, object]], workers: int) -> None:
    told = [event.get("hot_path") for event in events]
    if told != [build.form] * workers:
        raise BenchmarkError(
            f"the Penstock in {build.tree} should run {build.form} in {workers} process(es); "
            f"its log says hot_path = {told}"
        )


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


def fingerprint(tree: Path) -> str:
    """Of the sources: another tree with the same is the same Penstock."""
    digest = hashlib.sha256()
    for file in sorted((tree / "proxy").rglob("*")):
        if file.suffix in (".py", ".c", ".h"):
            digest.update(str(file.relative_to(tree)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
