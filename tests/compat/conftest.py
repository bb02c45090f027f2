"""What every foreign client's tests start from."""

from collections.abc import Iterator

import pytest

from tests.compat.targets import Target, new_target
from tests.databases import Database


@pytest.fixture(scope="module")
def target(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Penstock at its defaults: transaction pooling, reads on standbys."""
    with new_target(module_database, tmp_path_factory.mktemp("target")) as target:
        yield target


@pytest.fixture(scope="module")
def crowded(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """The same with two server connections per node, for ten clients and more."""
    extra = "[pool]\nsize = 2\n"
    with new_target(module_database, tmp_path_factory.mktemp("crowded"), extra) as target:
        yield target
