"""The difference between two configurations, and one setting changed by hand."""

import pytest

from proxy.config.assign import SettingError, assign
from proxy.config.changes import changes, matches, put
from proxy.config.settings import Settings

BASE = {
    "server": {"listen": "127.0.0.1:6432"},
    "auth": {"users": [{"name": "ann", "password": "hush"}], "admins": ["ann"]},
    "database": {"app": {"primary": {"host": "10.0.0.1"}}},
}


def settings(**sections: object) -> Settings:
    return Settings.model_validate({**BASE, **sections})


def keys(before: Settings, after: Settings) -> list[str]:
    return [str(change) for change in changes(before, after)]


def test_nothing_differs() -> None:
    assert keys(settings(), settings()) == []


def test_differences_by_dotted_key() -> None:
    after = settings(
        pool={"size": 5, "wait_timeout": "1s"},
        auth={"users": [{"name": "ann", "password": "changed"}], "admins": ["ann"]},
        cache={"rule": [{"name": "r", "tables": ["t"]}]},
        database={
            "app": {"primary": {"host": "10.0.0.2"}, "replicas": {"hosts": ["10.0.0.3:5432"]}},
            "new": {},
        },
    )
    assert keys(settings(), after) == [
        "pool.size",
        "pool.wait_timeout",
        "auth.users",
        "cache.rule",
        "database.app.primary.host",
        "database.app.replicas.hosts",
        "database.new",
    ]


def test_a_table_that_comes_or_goes_is_one_change() -> None:
    own = settings(database={"app": {"primary": {"host": "10.0.0.1"}, "pool": {"size": 3}}})
    [came] = changes(settings(), own)
    assert (came.key, came.before) == (("database", "app", "pool"), None)
    [went] = changes(own, settings())
    assert (went.key, went.after) == (("database", "app", "pool"), None)


@pytest.mark.parametrize(
    ("key", "pattern", "covered"),
    [
        ("auth.users", "auth", True),
        ("auth", "auth.users", False),
        ("database.app.sharding.shards", "database.*.sharding", True),
        ("database.app", "database.*.sharding", False),
        ("database.app.replicas.hosts", "database.*.sharding", False),
        ("pool.size", "server", False),
    ],
)
def test_patterns(key: str, pattern: str, covered: bool) -> None:
    assert matches(tuple(key.split(".")), pattern) is covered


def test_put_takes_a_change_back() -> None:
    before = settings()
    after = settings(server={"listen": "127.0.0.1:7000", "max_client_connections": 5})
    kept = put(after, ("server", "listen"), before.server.listen)
    assert str(kept.server.listen) == "127.0.0.1:6432"
    assert kept.server.max_client_connections == 5
    replaced = put(after, ("database", "app", "primary", "host"), "10.9.9.9")
    assert replaced.databases["app"].primary.host == "10.9.9.9"


@pytest.mark.parametrize(
    ("key", "text", "path", "value"),
    [
        ("pool.size", "30", "pool.size", 30),
        ("default_pool_size", "7", "pool.size", 7),
        ("query_wait_timeout", "2", "pool.wait_timeout", 2.0),
        ("pool.wait_timeout", "250ms", "pool.wait_timeout", 0.25),
        ("routing.enabled", "false", "routing.enabled", False),
        ("log.level", "debug", "log.level", "debug"),
        ("database.app.primary.port", "5433", "database.app.primary.port", 5433),
    ],
)
def test_assign(key: str, text: str, path: str, value: object) -> None:
    before = settings()
    found, after = assign(before, key, text)
    assert ".".join(found) == path
    [change] = changes(before, after)
    assert (str(change), change.after) == (path, value)


def test_assign_takes_arrays_and_keeps_secrets() -> None:
    _, after = assign(settings(), "database.app.replicas.hosts", '["10.0.0.7:5432"]')
    assert [str(one) for one in after.databases["app"].replicas.hosts] == ["10.0.0.7:5432"]
    password = after.auth.users[0].password
    assert password is not None
    assert password.get_secret_value() == "hush"


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("pool.sise", "3", "did you mean pool.size?"),
        ("pool", "3", "there is no setting pool"),
        ("pool.size", "none", "must be a whole number"),
        ("pool.size", "0", "is too small"),
        ("log.level", "loud", '"debug", "info"'),
        ("database.shop.primary.port", "1", "there is no setting database.shop.primary.port"),
        ("database.app.pool.size", "3", "there is no table database.app.pool"),
        ("auth.admins", '["bob"]', "no [[auth.users]] has this name"),
        ("cache.redis", "http://hidden", "cache.redis = ********"),
    ],
)
def test_assign_refuses(key: str, text: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        assign(settings(), key, text)
    complaint = f"{caught.value.message} {caught.value.hint}"
    assert said in complaint
    assert "hidden" not in complaint
