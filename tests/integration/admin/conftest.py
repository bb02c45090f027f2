"""A Penstock whose console has something to show."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.databases import Database
from tests.integration.admin.consoles import SETTINGS
from tests.proxies import Proxy, running_proxy


@pytest.fixture(scope="module")
def console_proxy(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with psycopg.connect(module_database.dsn(), autocommit=True) as connection:
        for table in ("orders", "customers"):
            connection.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, note text)")
            connection.execute(f"INSERT INTO {table} SELECT n, 'n' FROM generate_series(1, 9) n")
    directory = tmp_path_factory.mktemp("proxy")
    sharded = [{"name": "events", "key": "tenant", "type": "bigint"}]
    with running_proxy(module_database, directory, extra=SETTINGS, sharded_tables=sharded) as one:
        yield one
