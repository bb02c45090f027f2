"""Which pool settings and limits hold for whom."""

import tomllib

import pytest

from proxy.config.checks import find
from proxy.config.pooling import (
    Caps,
    database_caps,
    database_settings,
    pool_settings,
    times_out,
    user_caps,
)
from proxy.config.settings import Settings

TEXT = """
[pool]
mode = "statement"
size = 7
query_timeout = "9s"

[limits]
database_connections = 50
user_clients = 5

[[auth.users]]
name = "ann"
max_connections = 3
max_client_connections = 0
[auth.users.pool]
mode = "session"

[[auth.users]]
name = "bob"

[database.app]
max_connections = 0
[database.app.pool]
mode = "transaction"
size = 8

[database."*".primary]
host = "elsewhere"
"""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.model_validate(tomllib.loads(TEXT))


@pytest.mark.parametrize(
    ("database", "user", "mode", "size"),
    [
        ("app", "ann", "session", 8),
        ("app", "bob", "transaction", 8),
        ("app", "nobody", "transaction", 8),
        ("other", "ann", "session", 7),
        ("other", "bob", "statement", 7),
    ],
)
def test_the_users_own_comes_before_the_databases(
    settings: Settings, database: str, user: str, mode: str, size: int
) -> None:
    found = pool_settings(settings, database, user)
    assert (found.mode, found.size, found.query_timeout) == (mode, size, 9.0)


def test_limits(settings: Settings) -> None:
    """Zero is no limit, also where others have one."""
    assert database_caps(settings, "app") == Caps(0, 0)
    assert database_caps(settings, "other") == Caps(50, 0)
    assert user_caps(settings, "ann") == Caps(3, 0)
    assert user_caps(settings, "bob") == Caps(0, 5)
    assert user_caps(settings, "nobody") == Caps(0, 5)


def test_the_wildcard_serves_what_has_no_settings_of_its_own(settings: Settings) -> None:
    assert database_settings(settings, "app") is settings.databases["app"]
    assert database_settings(settings, "any") is settings.databases["*"]
    assert database_settings(Settings(), "any") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("[pool]\nwait_timeout = 5\nmax_lifetime = 9", False),
        ("[pool]\nclient_idle_timeout = 5", True),
        ("[database.app.pool]\ntransaction_timeout = 5", True),
        ('[[auth.users]]\nname = "a"\n[auth.users.pool]\nidle_in_transaction_timeout = 5', True),
    ],
)
def test_whether_sessions_have_to_be_looked_at(text: str, expected: bool) -> None:
    assert times_out(Settings.model_validate(tomllib.loads(text))) is expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[pool]\nmin_size = 21", ("pool", "min_size")),
        ("[pool]\nmin_size = 5\n[database.a.pool]\nsize = 4", ("database", "a", "pool", "size")),
        (
            '[[auth.users]]\nname = "a"\n[auth.users.pool]\nmin_size = 30',
            ("auth", "users", 0, "pool", "min_size"),
        ),
    ],
)
def test_more_than_may_be_can_not_be_kept(text: str, path: tuple[str | int, ...]) -> None:
    settings = Settings.model_validate(tomllib.loads(text))
    assert [one.path for one in find(settings) if "min_size is" in one.message] == [path]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[limits]\nnode_connections = 3", ("limits", "node_connections")),
        ("[database.app]\nmax_connections = 3", ("database", "app", "max_connections")),
        (
            "[[auth.users]]\nname = 'ann'\nmax_client_connections = 3",
            ("auth", "users", 0, "max_client_connections"),
        ),
    ],
)
def test_limits_must_suffice_for_all_workers(text: str, path: tuple[str | int, ...]) -> None:
    settings = Settings.model_validate(tomllib.loads(f"[server]\nworkers = 4\n{text}"))
    assert [one.path for one in find(settings) if "divided" in one.message] == [path]


def test_a_pool_may_be_smaller_than_there_are_workers() -> None:
    text = "[server]\nworkers = 32\n[pool]\nsize = 1\n[database.app.pool]\nsize = 3"
    settings = Settings.model_validate(tomllib.loads(text))
    assert not [one for one in find(settings) if "divided" in one.message]
