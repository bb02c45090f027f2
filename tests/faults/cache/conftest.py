"""A stack of its own for each module, and a database with the workload's schema."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database
from tests.faults.cache.workload import PRECISE, SWEEPING
from tests.integration.cache.groups import cluster as cluster
from tests.integration.cache.groups import start_redis as start_redis
from tests.integration.cache.groups import watched as watched
from tests.stacks import PrivateStack


@pytest.fixture(scope="module")
def servers(module_private_stack: PrivateStack) -> Stack:
    """A test that breaks a server mends it."""
    return module_private_stack(replicas=2, redis=True)


@pytest.fixture
def schema(servers: Stack) -> Iterator[Database]:
    """The tables are there before any proxy starts."""
    with fresh_database(servers, f"coherent_{uuid.uuid4().hex[:8]}") as database:
        with psycopg.connect(database.dsn(), autocommit=True) as connection:
            for way in (*PRECISE, *SWEEPING):
                connection.execute(way.schema.format(name=way.name).encode())
        yield database
