"""Servers of their own for each run, and Penstock in front of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from proxy.local.configuration import render_config
from proxy.local.postgres import SUPERUSER
from proxy.local.stack import Stack, StackOptions
from proxy.local.start import start_stack
from tests.databases import superuser_connection
from tests.nursery import TREE
from tests.suites.definition import DIRECT, Setting, Suite

Place = Mapping[str, str]
"""host, port, user, password and database: where a run connects to."""

START_SECONDS = 60.0
_POOL_SIZE = 100
_MIN_SIZE = 10
"""Who connects anew in session mode is to find a server process that isn't the one it had."""
_CACHE_ALL = '\n[[cache.rule]]\nname = "everything"\ntables = ["*"]\nttl = "60s"\n'


@contextmanager
def place_for(suite: Suite, setting: Setting, directory: Path) -> Iterator[Place]:
    """Start a primary, with what else the setting needs, and Penstock unless it is direct."""
    options = StackOptions(
        data_dir=directory / "stack",
        replicas=2 if setting.routed else 0,
        shards=0,
        redis=setting.routed,
        durable=False,
    )
    with ExitStack() as cleanup:
        stack = cleanup.enter_context(start_stack(options))
        if suite.database != "postgres":
            with superuser_connection(stack.primary) as connection:
                connection.execute(f'CREATE DATABASE "{suite.database}"'.encode())
        if suite.setup:
            with superuser_connection(stack.primary, suite.database) as connection:
                for statement in suite.setup:
                    connection.execute(statement.encode())
        host, port = stack.primary.host, stack.primary.port
        if setting.name != DIRECT:
            port = cleanup.enter_context(_penstock(stack, suite, setting, directory))
        yield {
            "host": host,
            "port": str(port),
            "user": SUPERUSER,
            "password": stack.superuser_password,
            "database": suite.database,
        }


@contextmanager
def _penstock(stack: Stack, suite: Suite, setting: Setting, directory: Path) -> Iterator[int]:
    config, log = directory / "penstock.toml", directory / "penstock.log"
    config.write_text(_config(stack, suite, setting), encoding="utf-8")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(config)],
            stdout=output,
            stderr=output,
            cwd=os.environ.get(TREE),
        )
    try:
        yield _port(process, log)
    finally:
        process.terminate()
        process.wait(30)


def _config(stack: Stack, suite: Suite, setting: Setting) -> str:
    user = f'[[auth.users]]\nname = "{SUPERUSER}"\npassword = "{stack.superuser_password}"\n'
    pool = f'[pool]\nmode = "{setting.mode}"\nsize = {_POOL_SIZE}\nmin_size = {_MIN_SIZE}\n'
    names = (*suite.further_databases, *(["*"] if suite.any_database else []))
    others = "".join(_database(stack, name) for name in names)
    text = render_config(
        stack,
        database=suite.database,
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        extra='[log]\nformat = "json"\n'
        + pool
        + user
        + others
        + (_CACHE_ALL if setting.routed else ""),
    )
    # Tests make roles and log in as them.
    return text.replace("[auth]\n", f'[auth]\nauth_user = "{SUPERUSER}"\n', 1)


def _database(stack: Stack, name: str) -> str:
    table, primary = f'[database."{name}"', stack.primary
    hosts = [f"{replica.host}:{replica.port}" for replica in stack.replicas]
    replicas = f"{table}.replicas]\nhosts = {json.dumps(hosts)}\n" if hosts else ""
    return f'{table}.primary]\nhost = "{primary.host}"\nport = {primary.port}\n{replicas}'


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "listening":
                return int(str(event["sql"]).rpartition(":")[2])
        time.sleep(0.05)
    raise RuntimeError(f"penstock did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
