"""What the tests of TLS start from."""

from collections.abc import Iterator

import pytest

from tests.certificates import Authority, new_authority
from tests.databases import Database
from tests.integration.tls.encrypted import encrypting_proxy
from tests.proxies import Proxy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whose certificates count."""
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whose certificates count for nothing."""
    return new_authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def secure(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Proxy]:
    """Penstock that takes encrypted connections only."""
    directory = tmp_path_factory.mktemp("secure")
    with encrypting_proxy(module_database, directory, "require", authority) as proxy:
        yield proxy
