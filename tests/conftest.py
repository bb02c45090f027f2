"""Fixtures that every test may use.

`stack` is shared by all tests and workers of a run: its servers must be left running and
unchanged. A test that stops, kills or reconfigures servers takes `private_stack`.
"""

import os
import re
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database
from tests.proxies import Proxy, running_proxy
from tests.stacks import PrivateStack, begin_run, end_run, new_private_stack, shared_stack

# How long an example takes says more of the machine than of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

HERE = Path(__file__).parent
MARKED_FOLDERS = {"unit", "integration", "faults", "compat"}
# Clients whose absence is an error, separated by commas; elsewhere it skips their tests.
REQUIRED_CLIENTS = "PENSTOCK_REQUIRE_CLIENTS"


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The run's stack: a primary, two standbys, two shards and Redis."""
    return shared_stack()


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    """An empty database on the primary (its standbys have it too) and on every shard."""
    with fresh_database(stack, f"test_{uuid.uuid4().hex[:12]}") as database:
        yield database


@pytest.fixture(scope="module")
def module_database(stack: Stack) -> Iterator[Database]:
    """As `database`, for the tests of a module together."""
    with fresh_database(stack, f"test_{uuid.uuid4().hex[:12]}") as database:
        yield database


@pytest.fixture
def proxy(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    """Penstock in front of `database`, with its default settings and no cache rules."""
    with running_proxy(database, tmp_path) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def module_proxy(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """As `proxy`, for the tests of a module together."""
    with running_proxy(module_database, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
def private_stack() -> Iterator[PrivateStack]:
    """Starts stacks that the test may break; they are removed after it."""
    yield from _private_stacks()


@pytest.fixture(scope="module")
def module_private_stack() -> Iterator[PrivateStack]:
    """As `private_stack`, for the tests of a module together."""
    yield from _private_stacks()


def _private_stacks() -> Iterator[PrivateStack]:
    with ExitStack() as cleanup:

        def start(**options: Any) -> Stack:
            started = new_private_stack(**options)
            cleanup.callback(started.remove)
            return started

        yield start


def pytest_configure(config: pytest.Config) -> None:
    """The controlling process makes the run's directory before it starts workers."""
    if not _is_worker(config):
        begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The controlling process removes what the run started, also after Ctrl-C."""
    if not _is_worker(config):
        end_run()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            folder = item.path.relative_to(HERE).parts[0]
            if folder in MARKED_FOLDERS:
                item.add_marker(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip for want of a required client is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail_if_required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for whole modules that skip themselves."""
    report = yield
    if report.skipped:
        _fail_if_required(report)
    return report


def _fail_if_required(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    for client in filter(None, os.environ.get(REQUIRED_CLIENTS, "").split(",")):
        if re.search(rf"\b{re.escape(client)}\b", reason, re.IGNORECASE):
            report.outcome = "failed"
            report.longrepr = f"{REQUIRED_CLIENTS} names {client}, but: {reason}"


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
