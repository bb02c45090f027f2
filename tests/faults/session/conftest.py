"""A stack of its own for each module, and proxies with small pools in front of it."""

import uuid
from collections.abc import Iterator

import pytest

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database
from tests.proxies import Proxy, running_proxy
from tests.stacks import PrivateStack

SMALL = """
[pool]
size = 2
wait_timeout = "5s"
connect_timeout = "2s"
"""


@pytest.fixture(scope="module")
def servers(module_private_stack: PrivateStack) -> Stack:
    """A test that breaks a server mends it."""
    return module_private_stack(replicas=1, redis=True)


@pytest.fixture(scope="module")
def own(servers: Stack) -> Iterator[Database]:
    """An empty database on those servers."""
    with fresh_database(servers, f"faults_{uuid.uuid4().hex[:8]}") as database:
        yield database


@pytest.fixture(scope="module")
def small(own: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that has two connections to each server."""
    with running_proxy(own, tmp_path_factory.mktemp("proxy"), extra=SMALL) as proxy:
        yield proxy
