"""Loading: what comes out of right files, and what is said of wrong ones."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.config.load import ConfigError, Problem, load
from proxy.config.settings import Settings
from proxy.config.types import HostPort

MINIMAL = """\
[[auth.users]]
name = "app"
password = "pw"
[database.app.primary]
host = "10.0.0.1"
"""


class Project:
    """A directory of configuration files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def load(self, environ: Mapping[str, str] | None = None) -> Settings:
        return load(self.directory / "config.toml", environ or {})

    def problems(self, environ: Mapping[str, str] | None = None) -> list[Problem]:
        with pytest.raises(ConfigError) as caught:
            self.load(environ)
        return list(caught.value.problems)

    def complaints(self, environ: Mapping[str, str] | None = None) -> list[str]:
        """The problems in words, file names shortened to what is below the directory."""
        return [str(p).replace(f"{self.directory}/", "") for p in self.problems(environ)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("config.toml", MINIMAL)
    return project


# Right files


def test_a_minimal_file_gets_the_defaults(project: Project) -> None:
    settings = project.load()
    assert settings.databases["app"].primary.host == "10.0.0.1"
    assert settings.server.listen == HostPort("127.0.0.1", 6432)
    assert settings.pool.wait_timeout == 30.0


def test_units_become_seconds_and_bytes(project: Project) -> None:
    project.write(
        "config.toml",
        MINIMAL + '[server]\nlogin_timeout = "1500ms"\nmax_message_size = "64kB"\n'
        '[pool]\nidle_timeout = "5min"\nmax_lifetime = 0\nconnect_timeout = "0.5s"\n',
    )
    settings = project.load()
    assert settings.server.login_timeout == 1.5
    assert settings.server.max_message_size == 65536
    assert settings.pool.idle_timeout == 300.0
    assert settings.pool.max_lifetime == 0.0
    assert settings.pool.connect_timeout == 0.5


def test_includes_append_table_arrays_in_the_order_of_names(project: Project) -> None:
    project.write("config.toml", 'include = ["rules/*.toml"]\n' + MINIMAL)
    project.write("rules/b.toml", '[[cache.rule]]\nname = "b"\ntables = ["b"]\n')
    project.write(
        "rules/a.toml",
        '[cache]\nredis = "redis://localhost"\n[[cache.rule]]\nname = "a"\ntables = ["a"]\n',
    )
    assert [rule.name for rule in project.load().cache.rules] == ["a", "b"]


def test_master_is_another_word_for_primary(project: Project) -> None:
    project.write("config.toml", MINIMAL.replace("primary", "master"))
    assert project.load().databases["app"].primary.host == "10.0.0.1"


@pytest.mark.parametrize("line", ["", 'database = "app"\n'])
def test_sharded_tables_may_stand_at_the_top_level(project: Project, line: str) -> None:
    project.write(
        "config.toml",
        MINIMAL
        + "[database.app.sharding]\nenabled = true\n"
        + 'shards = [{ host = "10.0.0.2" }]\n'
        + '[[database.app.sharding.table]]\nname = "first"\nkey = "id"\n'
        + f'[[sharding.table]]\n{line}name = "second"\nkey = "id"\n',
    )
    tables = project.load().databases["app"].sharding.tables
    assert [table.name for table in tables] == ["first", "second"]


@pytest.mark.parametrize(
    ("written", "environ"),
    [
        ("env:SECRET", {"SECRET": "s3cret"}),
        ("file:secret.txt", {}),
        ("s3cret", {}),
        ("command:/bin/cat secret.txt", {}),
        ("command:/bin/sh -c 'printf %s $SECRET'", {"SECRET": "s3cret"}),
    ],
)
def test_secrets_are_read_where_they_point(
    project: Project, written: str, environ: dict[str, str]
) -> None:
    project.write("secret.txt", "s3cret\n")
    project.write("config.toml", MINIMAL.replace('"pw"', f'"{written}"'))
    settings = project.load(environ)
    password = settings.auth.users[0].password
    assert password is not None
    assert password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_command_is_run_once_whatever_else_is_wrong(project: Project) -> None:
    project.write("config.toml", MINIMAL.replace("pw", "command:./next") + "[pool]\nsize = 0\n")
    project.write("next", "#!/bin/sh\necho x >> runs\necho s3cret\n")
    (project.directory / "next").chmod(0o755)
    assert len(project.problems()) == 1
    assert (project.directory / "runs").read_text() == "x\n"


def test_the_redis_url_may_come_from_a_secret_and_is_not_in_repr(project: Project) -> None:
    project.write("config.toml", MINIMAL + '[cache]\nredis = "env:REDIS"\n')
    settings = project.load({"REDIS": "redis://:s3cret@10.0.0.9/0"})
    assert settings.cache.redis == "redis://:s3cret@10.0.0.9/0"
    assert "s3cret" not in repr(settings)


def test_a_wrong_key_is_an_error_that_does_not_show_it(project: Project) -> None:
    project.write("config.toml", MINIMAL + '[cache]\nencryption_key = "file:key"\n')
    project.write("key", "s3cret")
    (problem,) = project.problems()
    assert (problem.key, "s3cret" in str(problem)) == ("cache.encryption_key", False)
    assert "openssl rand -base64 32" in problem.message
    project.write("key", "00" * 32 + "\n")
    key = project.load({}).cache.encryption_key
    assert key is not None
    assert key.get_secret_value() == "00" * 32


# The environment


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("SERVER__LISTEN", "[::1]:7000", "server.listen", HostPort("::1", 7000)),
        ("SERVER__HTTP_LISTEN", "", "server.http_listen", None),
        ("POOL__SIZE", "7", "pool.size", 7),
        ("POOL__WAIT_TIMEOUT", "3", "pool.wait_timeout", 3.0),
        ("ROUTING__ENABLED", "false", "routing.enabled", False),
        ("AUTH__ADMINS", '["app"]', "auth.admins", ("app",)),
        ("AUTH__USERS__0__NAME", "ann", "auth.users.0.name", "ann"),
        ("AUTH__USERS__1__NAME", "bob", "auth.users.1.name", "bob"),
        ("DATABASE__APP__PRIMARY__HOST", "h", "databases.app.primary.host", "h"),
        ("DATABASE__APP__MASTER__PORT", "5", "databases.app.primary.port", 5),
        (
            "DATABASE__APP__REPLICAS__HOSTS__0",
            "r:1",
            "databases.app.replicas.hosts",
            (HostPort("r", 1),),
        ),
    ],
)
def test_variables_override_files(
    project: Project, name: str, text: str, path: str, value: object
) -> None:
    found: object = project.load({f"PENSTOCK_{name}": text})
    for part in path.split("."):
        if isinstance(found, tuple):
            found = found[int(part)]
        else:
            found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


def test_names_in_variables_match_without_case_and_with_underscores(project: Project) -> None:
    project.write("config.toml", MINIMAL.replace("database.app", "database.My-App"))
    settings = project.load({"PENSTOCK_DATABASE__MY_APP__PRIMARY__HOST": "elsewhere"})
    assert settings.databases["My-App"].primary.host == "elsewhere"


def test_variables_without_a_double_underscore_are_not_settings(project: Project) -> None:
    project.load({"PENSTOCK_CONFIG": "x", "PENSTOCK_SERVICE_HOST": "y", "OTHER__X": "z"})


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        (
            {"PENSTOCK_LOG__LEVLE": "info"},
            "environment variable PENSTOCK_LOG__LEVLE: log.levle: unknown key; allowed: "
            "format, level; did you mean level?",
        ),
        (
            {"PENSTOCK_POOL__SIZE": "many"},
            'environment variable PENSTOCK_POOL__SIZE: pool.size = "many": must be a whole number; '
            "allowed: 1 or more",
        ),
        (
            {"PENSTOCK_AUTH__USERS__4__NAME": "x"},
            "environment variable PENSTOCK_AUTH__USERS__4__NAME: auth.users.4.name: "
            "4 is no element of this array: 0 to 0 exist, 1 adds one",
        ),
        (
            {"PENSTOCK_AUTH__USERS__0__NAME__X": "x"},
            "environment variable PENSTOCK_AUTH__USERS__0__NAME__X: auth.users.0.name.x: "
            "auth.users[0].name at config.toml:2 is no table, so it has no key X",
        ),
    ],
)
def test_variables_are_checked_alike(
    project: Project, environ: dict[str, str], complaint: str
) -> None:
    assert project.complaints(environ) == [complaint]


# Wrong files


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        (
            '[server]\nlisten = "127.0.0.1"\n',
            'config.toml:7: server.listen = "127.0.0.1": an address is "host:port", with a port '
            "from 0 to 65535",
        ),
        (
            '[pool]\n\nmode = "transation"\n',
            'config.toml:8: pool.mode = "transation": not a value that is allowed here; allowed: '
            '"transaction", "session", "statement"; did you mean "transaction"?',
        ),
        (
            "[pool]\nsize = 0\n",
            "config.toml:7: pool.size = 0: is too small; allowed: 1 or more",
        ),
        (
            '[pool]\nwait_timeout = "5 parsecs"\n',
            'config.toml:7: pool.wait_timeout = "5 parsecs": a duration is a number and a unit '
            '(us, ms, s, min, h, d): "250ms"',
        ),
        (
            "[log]\nlevl = 4\n",
            "config.toml:7: log.levl: unknown key; allowed: format, level; did you mean level?",
        ),
        (
            "[routing]\nenabled = 3\n",
            "config.toml:7: routing.enabled = 3: must be true or false",
        ),
        (
            '[[routing.rule]]\nname = "r"\ntables = ["t"]\n',
            "config.toml:6: routing.rule[0].node: is required and missing",
        ),
        (
            '[routing]\nrule = "all"\n',
            "config.toml:7: routing.rule: must be an array, written in square brackets",
        ),
        (
            'log = "json"\n',
            "config.toml:6: database.app.primary.log: unknown key; allowed: host, port",
        ),
        (
            '[database.app.replicas]\nhosts = ["a:1",\n "b"]\n',
            'config.toml:8: database.app.replicas.hosts[1] = "b": an address is "host:port", with '
            "a port from 0 to 65535",
        ),
        (
            "[sharding]\nenabled = true\n",
            "config.toml:7: sharding.enabled: unknown key: here only [[sharding.table]] is "
            "allowed, all else of sharding is set in [database.NAME.sharding]",
        ),
        (
            '[[sharding.table]]\ndatabase = "apo"\nname = "t"\nkey = "k"\n',
            'config.toml:7: sharding.table[0].database = "apo": there is no such database; '
            "allowed: app; did you mean app?",
        ),
        (
            '[database.""]\n',
            'config.toml:6: database."": can\'t be empty',
        ),
    ],
)
def test_names_file_line_key_value_and_what_is_allowed(
    project: Project, added: str, complaint: str
) -> None:
    project.write("config.toml", MINIMAL + added)
    assert project.complaints() == [complaint]


def test_reports_all_problems_of_all_files_at_once(project: Project) -> None:
    project.write(
        "config.toml",
        'include = ["rules/*.toml"]\n' + MINIMAL + '[log]\nlevel = "loud"\nformt = "json"\n'
        '[auth]\nadmins = ["nobody"]\n',
    )
    project.write(
        "rules/cache.toml",
        '[[cache.rule]]\nname = "x"\nttl = "soon"\n[[cache.rule]]\nname = "x"\ntables = ["t"]\n',
    )
    found = [(Path(p.file).name, p.line, p.key) for p in project.problems()]
    assert found == [
        ("config.toml", 8, "log.level"),
        ("config.toml", 9, "log.formt"),
        ("config.toml", 11, "auth.admins[0]"),
        ("cache.toml", 1, "cache.rule[0]"),
        ("cache.toml", 1, "cache.redis"),
        ("cache.toml", 3, "cache.rule[0].ttl"),
        ("cache.toml", 5, "cache.rule[1].name"),
    ]


def test_the_same_key_in_two_files_names_both_places(project: Project) -> None:
    project.write("config.toml", 'include = ["more.toml"]\n' + MINIMAL + "[pool]\nsize = 3\n")
    project.write("more.toml", "\n[pool]\nsize = 4\nmode = 'session'\n")
    [complaint] = project.complaints()
    assert complaint.endswith("config.toml:8: keep one of the two")
    assert complaint.startswith("more.toml:3: pool.size: is set already at ")


def test_an_include_that_matches_nothing_is_an_error(project: Project) -> None:
    project.write("config.toml", 'include = [\n "config.toml",\n "rules/*.toml"]\n' + MINIMAL)
    [complaint] = project.complaints()
    assert complaint.startswith('config.toml:3: include[1] = "rules/*.toml": no file matches')


def test_included_files_include_no_others(project: Project) -> None:
    project.write("config.toml", 'include = ["more.toml"]\n' + MINIMAL)
    project.write("more.toml", 'include = ["config.toml"]\n')
    assert project.complaints() == ["more.toml:1: include: only the main file includes others"]


def test_syntax_errors_name_line_and_column(project: Project) -> None:
    project.write("config.toml", "a = 1\nb = = 2\n")
    assert project.complaints() == ["config.toml:2: not valid TOML at column 5: Invalid value"]
    project.write("config.toml", 'a = 1\nb = """\n')
    [complaint] = project.complaints()
    assert complaint.startswith("config.toml:3: not valid TOML at the end of the file: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project.complaints() == ["config.toml: can't be read: No such file or directory"]
    (tmp_path / "config.toml").write_bytes(b"a = '\xff'\n")
    assert project.complaints() == ["config.toml: is not UTF-8 text (byte 5)"]


def test_with_two_databases_a_top_level_sharded_table_must_say_which(project: Project) -> None:
    project.write(
        "config.toml",
        MINIMAL + '[database.b.primary]\nport = 1\n[[sharding.table]]\nname = "t"\nkey = "k"\n',
    )
    assert project.complaints() == [
        'config.toml:8: sharding.table[0]: there are 2 databases, so say which: database = "…"; '
        "allowed: app, b"
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("env:SECRET", "the environment variable SECRET is not set"),
        ("env:EMPTY", "the environment variable EMPTY is empty"),
        ("file:nothing.txt", "nothing.txt can't be read: No such file or directory"),
        ("file:empty.txt", "empty.txt is empty"),
        ("command:", "there is no command after command:"),
        ("command:/bin/cat 'x", "can't be split into words: No closing quotation"),
        ("command:/no/such x", "the command /no/such can't be run: No such file or directory"),
        ("command:/bin/cat x", "the command /bin/cat failed with status 1: run it to see why"),
        ("command:/bin/cat empty.txt", "the command /bin/cat printed nothing"),
    ],
)
def test_a_missing_secret_is_named(project: Project, written: str, message: str) -> None:
    project.write("empty.txt", "\n")
    project.write("config.toml", MINIMAL.replace('"pw"', f'"{written}"'))
    [problem] = project.problems({"EMPTY": ""})
    assert problem.key == "auth.users[0].password"
    assert problem.line == 3
    assert problem.message.endswith(message)


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL.replace('password = "pw"', 'passwrod = "s3cret"'),
        MINIMAL.replace('password = "pw"', "password = ['s3cret']"),
        MINIMAL.replace('password = "pw"', "password = { plain = 's3cret' }"),
        '[auth]\nusers = "app:s3cret"\n[database.app]\n',
        '[auth]\nusers = ["app:s3cret"]\n[database.app]\n',
        MINIMAL + '[cache]\nredis = "http://app:s3cret@cache"\n',
        MINIMAL + '[cache]\nredis = "redis://app:s3cret@cache:port"\n',
        MINIMAL + '[auth.extra]\nkey = "s3cret"\n',
    ],
)
def test_no_complaint_shows_a_secret(project: Project, text: str) -> None:
    project.write("config.toml", text)
    problems = project.problems()
    assert problems
    assert "s3cret" not in str(ConfigError(problems))
