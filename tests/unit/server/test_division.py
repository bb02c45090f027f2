"""What each of several workers gets of the limits of the whole."""

import tomllib

import pytest

from proxy.config.pooling import database_caps, pool_settings, user_caps
from proxy.config.settings import Settings
from proxy.server.fleet.division import rounded_up, worker_settings

TEXT = """
[server]
workers = 3
max_client_connections = 100

[pool]
size = 10
min_size = 4
reserve_size = 2

[limits]
node_connections = 20
database_clients = 31
user_connections = 0
admin_clients = 2
on_demand_databases = 50

[[auth.users]]
name = "ann"
max_connections = 7
[auth.users.pool]
size = 5

[[auth.users]]
name = "bob"

[database.app]
max_connections = 8
[database.app.pool]
mode = "session"

[database.free]
max_client_connections = 0
"""
WHOLE = Settings.model_validate(tomllib.loads(TEXT))
PARTS = [worker_settings(WHOLE, index, 3) for index in range(3)]


def test_clients_and_pools_are_divided() -> None:
    assert [one.server.max_client_connections for one in PARTS] == [34, 33, 33]
    assert [one.pool.size for one in PARTS] == [4, 3, 3]
    assert [one.pool.min_size for one in PARTS] == [2, 1, 1]
    assert [one.pool.reserve_size for one in PARTS] == [1, 1, 0]


def test_limits_are_divided_and_none_stays_none() -> None:
    assert [one.limits.node_connections for one in PARTS] == [7, 7, 6]
    assert [one.limits.database_clients for one in PARTS] == [11, 10, 10]
    assert [one.limits.user_connections for one in PARTS] == [0, 0, 0]
    assert [one.limits.on_demand_databases for one in PARTS] == [50, 50, 50]


def test_each_worker_has_a_place_for_an_admin() -> None:
    assert [one.limits.admin_clients for one in PARTS] == [1, 1, 1]


def test_limits_of_single_databases_and_users_are_divided() -> None:
    assert [database_caps(one, "app").connections for one in PARTS] == [3, 3, 2]
    assert [database_caps(one, "free").clients for one in PARTS] == [0, 0, 0]
    assert [user_caps(one, "ann").connections for one in PARTS] == [3, 2, 2]
    assert [one.auth.users[1].max_connections for one in PARTS] == [None, None, None]


@pytest.mark.parametrize(
    ("database", "user", "sizes"),
    [("app", "bob", [4, 3, 3]), ("app", "ann", [2, 2, 1]), ("free", "bob", [4, 3, 3])],
)
def test_an_override_divides_only_what_it_gives(database: str, user: str, sizes: list[int]) -> None:
    pools = [pool_settings(one, database, user) for one in PARTS]
    assert [one.size for one in pools] == sizes
    assert {one.mode for one in pools} == {"session" if database == "app" else "transaction"}


@pytest.mark.parametrize(
    ("total", "workers", "shares"), [(10, 3, [4, 3, 3]), (4, 4, [1] * 4), (1, 3, [1, 1, 1])]
)
def test_opening_connections(total: int, workers: int, shares: list[int]) -> None:
    """Each may have one at least: a connection begins as one."""
    settings = Settings.model_validate({"server": {"max_opening_connections": total}})
    each = [worker_settings(settings, index, workers) for index in range(workers)]
    assert [one.server.max_opening_connections for one in each] == shares


def test_a_pool_has_one_connection_in_each_worker_at_least() -> None:
    small = Settings.model_validate(tomllib.loads(TEXT.replace("size = 5", "size = 1")))
    parts = [worker_settings(small, index, 3) for index in range(3)]
    assert [pool_settings(one, "app", "ann").size for one in parts] == [1, 1, 1]
    assert [pool_settings(one, "app", "bob").size for one in parts] == [4, 3, 3]
    assert rounded_up(small) == ["auth.users.ann.pool"]
    assert rounded_up(WHOLE) == []
