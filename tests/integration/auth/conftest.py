"""The server of these tests is their own: its roles and rules are changed."""

from collections.abc import Iterator

import pytest

from tests.integration.auth.servers import Server, prepared_server
from tests.stacks import PrivateStack


@pytest.fixture(scope="module")
def server(module_private_stack: PrivateStack) -> Iterator[Server]:
    """A server with roles of every kind, and a database."""
    with prepared_server(module_private_stack(replicas=0)) as server:
        yield server
