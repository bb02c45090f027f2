"""The checks across settings."""

from pathlib import Path

import pytest

from proxy.config.load import ConfigError, load

BASE = {
    "auth": '[[auth.users]]\nname = "app"\npassword = "pw"\n',
    "primary": "[database.app.primary]\nport = 5432\n",
}
SHARDED = "[database.app.sharding]\nenabled = true\nshards = [{ port = 1 }, { port = 2 }]\n"
TABLE = '[[sharding.table]]\nname = "t"\nkey = "k"\n'
REDIS = '[cache]\nredis = "redis://localhost"\n'
INVALIDATION = '[[cache.invalidation]]\nname = "i"\nwrites = ["t"]\n'
RULE = REDIS + '[[cache.rule]]\nname = "r"\ntables = ["t"]\n'


def messages(directory: Path, **parts: str) -> list[tuple[str, str]]:
    """(key, message) of every problem with the base configuration, parts added or replaced."""
    path = directory / "config.toml"
    path.write_text("".join({**BASE, **parts}.values()))
    try:
        load(path, {})
    except ConfigError as error:
        return [(problem.key, problem.message) for problem in error.problems]
    return []


def test_the_base_is_right(tmp_path: Path) -> None:
    assert messages(tmp_path) == []
    assert messages(tmp_path, sharding=SHARDED + TABLE, cache=REDIS) == []
    assert messages(tmp_path, auth='[auth]\nauth_file = "list"\nadmins = ["x"]\n') == []
    assert messages(tmp_path, auth='[auth]\nauth_user = "ops"\nadmins = ["x"]\n') == []


@pytest.mark.parametrize(
    ("parts", "key", "message"),
    [
        (
            {"auth": BASE["auth"] * 2},
            "auth.users[1].name",
            'the name "app" is taken by an earlier entry: names must differ',
        ),
        (
            {"auth": ""},
            "auth.users",
            "there is none, so nobody can log in: add [[auth.users]] with name and password",
        ),
        (
            {"auth": '[[auth.users]]\nname = "app"\n'},
            "auth.method",
            "scram-sha-256 needs passwords and no user has one: nobody can log in",
        ),
        (
            {"auth": '[auth]\nmethod = "hba"\n' + BASE["auth"]},
            "auth.method",
            "needs the file of the rules, and it is not named",
        ),
        (
            {
                "cache": REDIS
                + '[[cache.rule]]\nname = "r"\ntables = ["t"]\nrefresh_within = "1s"\n'
            },
            "cache.rule[0].refresh_within",
            "is not used",
        ),
        (
            {
                "cache": REDIS
                + "[cache.feed]\nenabled = true\n"
                + '[[cache.rule]]\nname = "r"\ntables = ["t"]\nstrategy = "write-through"\n'
            },
            "cache.rule[0].strategy",
            'gains nothing in the database "app": its change feed tells of each write once more, '
            "and what was refreshed is gone again",
        ),
        (
            {
                "cache": REDIS
                + '[[cache.rule]]\nname = "r"\nstatement = "*"\nstrategy = "write-back"\n'
            },
            "cache.rule[0].statement",
            'can\'t limit strategy = "write-back": it holds for tables as a whole',
        ),
        (
            {
                "cache": REDIS
                + '[[cache.rule]]\nname = "r"\ntables = ["t"]\nstrategy = "write-back"\n'
                + 'users = ["app"]\n'
            },
            "cache.rule[0].users",
            'can\'t limit strategy = "write-back": it holds for tables as a whole',
        ),
        (
            {"cache": REDIS + "[cache.write_back]\ndisk = false\n"},
            "cache.write_back.disk",
            "nothing would keep acknowledged writes but Redis's memory",
        ),
        (
            {"auth": '[auth]\nauth_hba_file = "hba"\n' + BASE["auth"]},
            "auth.auth_hba_file",
            'is not used: auth.method is scram-sha-256, so set method = "hba"',
        ),
        (
            {"auth": '[auth]\nauth_dbname = "ap"\n' + BASE["auth"]},
            "auth.auth_dbname",
            "no [database.NAME] has this name",
        ),
        (
            {"admins": '[auth]\nadmins = ["ap"]\n'},
            "auth.admins[0]",
            "no [[auth.users]] has this name",
        ),
        (
            {"monitor": '[database.app]\nmonitor_user = "x"\n'},
            "database.app.monitor_user",
            "no [[auth.users]] has this name",
        ),
        ({"primary": ""}, "database", "there is none: add a [database.NAME.primary]"),
        (
            {"more": "[database.penstock]\n"},
            "database.penstock",
            "this name is taken by the admin console: choose another, and say the servers' with "
            'server_database = "…"',
        ),
        (
            {"server": '[server]\nlisten = "h:1"\nhttp_listen = "h:1"\n'},
            "server.http_listen",
            "overlaps server.listen (h:1): two listeners can't share a port",
        ),
        (
            {"server": '[server]\nlisten = "h:1"\nhttp_listen = "0.0.0.0:1"\n'},
            "server.http_listen",
            "overlaps server.listen (h:1): two listeners can't share a port",
        ),
        (
            {"server": '[server]\nlisten = "127.0.0.1:5432"\n'},
            "database.app.primary",
            "is where Penstock itself listens (server.listen): it would call itself",
        ),
        (
            {"replicas": '[database.app.replicas]\nhosts = ["127.0.0.1:5432"]\n'},
            "database.app.replicas.hosts[0]",
            "is the primary of this database",
        ),
        (
            {"replicas": '[database.app.replicas]\nhosts = ["h:1", "h:1"]\n'},
            "database.app.replicas.hosts[1]",
            "is listed twice",
        ),
        (
            {"replicas": '[database.app.replicas]\nread_preference = "replica"\n'},
            "database.app.replicas.read_preference",
            "needs replicas and replicas.hosts is empty",
        ),
        (
            {"sharding": "[database.app.sharding]\nenabled = true\n" + TABLE},
            "database.app.sharding.enabled",
            "needs shards and there are none",
        ),
        (
            {"sharding": SHARDED},
            "database.app.sharding.enabled",
            "needs sharded tables and there are none: add [[sharding.table]]",
        ),
        (
            {"sharding": SHARDED + TABLE + TABLE},
            "sharding.table[1].name",
            'the name "t" is taken by an earlier entry: names must differ',
        ),
        (
            {"sharding": SHARDED.replace("port = 2", "port = 1") + TABLE},
            "database.app.sharding.shards[1]",
            "is the same server and database as shard 0",
        ),
        (
            {
                "sharding": "[database.app.sharding]\nenabled = true\nshards = ["
                + ",".join(f"{{ port = {port} }}" for port in range(10000, 11025))
                + "]\n"
                + TABLE
            },
            "database.app.sharding.shards",
            "1025 are too many",
        ),
        (
            {"cache": REDIS + '[[cache.rule]]\nname = "r"\n'},
            "cache.rule[0]",
            'the rule "r" matches nothing: give it tables or a statement',
        ),
        (
            {"cache": REDIS + '[[cache.rule]]\nname = "r"\ntables = ["t"]\n' * 2},
            "cache.rule[1].name",
            'the name "r" is taken by an earlier entry: names must differ',
        ),
        (
            {"cache": RULE + 'ttl = "5s"\njitter = "5s"\n'},
            "cache.rule[0].jitter",
            "leaves nothing of the ttl of 5 s",
        ),
        (
            {"cache": RULE + 'ttl = "5s"\nempty_ttl = "6s"\n'},
            "cache.rule[0].empty_ttl",
            "is longer than the ttl of 5 s, which is the longest life",
        ),
        (
            {"cache": RULE + 'databases = ["app", "aps*"]\n'},
            "cache.rule[0].databases[1]",
            "matches no [database.NAME]",
        ),
        (
            {"cache": RULE + 'users = ["nobody"]\n'},
            "cache.rule[0].users[0]",
            "matches no [[auth.users]]",
        ),
        (
            {"cache": REDIS + INVALIDATION},
            "cache.invalidation[0]",
            'the rule "i" invalidates nothing: give it tables or keys',
        ),
        (
            {"cache": REDIS + INVALIDATION + 'keys = ["k:*"]\nat_once = false\n'},
            "cache.invalidation[0].at_once",
            "false needs a delay",
        ),
        (
            {"cache": INVALIDATION + 'keys = ["k:*"]\n'},
            "cache.invalidation[0]",
            "has nothing to invalidate: no Redis is named",
        ),
        (
            {"cache": '[[cache.rule]]\nname = "r"\ntables = ["t"]\n'},
            "cache.redis",
            "is not set and there are [[cache.rule]]s: nowhere to keep results",
        ),
        (
            {"rule": '[[routing.rule]]\nname = "r"\nnode = "primary"\n'},
            "routing.rule[0]",
            'the rule "r" matches nothing: give it tables or a statement',
        ),
    ],
)
def test_finds(tmp_path: Path, parts: dict[str, str], key: str, message: str) -> None:
    assert messages(tmp_path, **parts) == [(key, message)]


@pytest.mark.parametrize(
    "parts",
    [
        {"auth": '[auth]\nmethod = "trust"\n[[auth.users]]\nname = "app"\n'},
        {"server": '[server]\nlisten = "h:0"\nhttp_listen = "h:0"\n'},
        {"server": '[server]\nlisten = "a:1"\nhttp_listen = "b:1"\n'},
        {"cache": '[[cache.rule]]\nname = "r"\ntables = ["t"]\nenabled = false\n'},
        {"cache": REDIS + INVALIDATION + 'tables = ["u"]\ndelay = "1s"\nat_once = false\n'},
        {"cache": RULE + 'databases = ["a*"]\njitter = "1s"\nempty_ttl = "0s"\n'},
        {
            "rules": REDIS
            + '[[cache.rule]]\nname = "r"\ntables = ["t"]\n'
            + '[[routing.rule]]\nname = "r"\ntables = ["t"]\nnode = "primary"\n'
        },
    ],
)
def test_accepts(tmp_path: Path, parts: dict[str, str]) -> None:
    assert messages(tmp_path, **parts) == []


def test_a_wrong_value_is_not_reported_again_by_the_checks_that_read_it(tmp_path: Path) -> None:
    replicas = '[database.app.replicas]\nhosts = "h:1"\nread_preference = "replica"\n'
    assert [key for key, _ in messages(tmp_path, replicas=replicas)] == [
        "database.app.replicas.hosts"
    ]


def test_a_misspelt_key_is_not_reported_again_as_missing(tmp_path: Path) -> None:
    rule = REDIS + '[[cache.rule]]\nname = "r"\ntabels = ["t"]\n'
    assert [key for key, _ in messages(tmp_path, cache=rule)] == ["cache.rule[0].tabels"]
