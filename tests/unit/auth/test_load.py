"""From the configuration and the files that it names to what decides on logins."""

from pathlib import Path

import pytest

from proxy.auth.authentication import Authentication
from proxy.auth.hba import Attempt
from proxy.auth.load import load_auth
from proxy.auth.problems import AuthError
from proxy.auth.state import AuthState
from proxy.auth.verifier import write_verifier
from proxy.config.load import load
from proxy.wire.client_login import Md5Exchange, PlainExchange, ScramExchange
from proxy.wire.errors import PgError
from proxy.wire.passwords import PlainPassword, md5_hash
from proxy.wire.scram import ScramKeys, make_verifier

VERIFIER = make_verifier("secret", b"0123456789abcdef", 10)
HASH = md5_hash("hashed", "secret")
USERLIST = f"""\
"plain" "open sesame"
"hashed" "{HASH.text}"
"scram" "{write_verifier(VERIFIER)}"
"none" ""
"""
DATABASE = "[database.app.primary]\nport = 5432\n"


def authentication(directory: Path, auth: str = "", rest: str = "", **files: str) -> Authentication:
    """Loaded from a file with these tables and these files beside it."""
    for name, text in {"userlist": USERLIST, **files}.items():
        (directory / name).write_text(text)
    path = directory / "config.toml"
    path.write_text(f"[auth]\n{auth}\n{DATABASE}{rest}")
    return load_auth(load(path, {}))


FILE = 'auth_file = "userlist"\n'


def problems(directory: Path, auth: str, rest: str = "", **files: str) -> list[str]:
    with pytest.raises(AuthError) as refused:
        authentication(directory, auth, rest, **files)
    return str(refused.value).replace(f"{directory}/", "").splitlines()


def test_secrets_of_the_file_and_of_the_settings(tmp_path: Path) -> None:
    users = '[[auth.users]]\nname = "app"\npassword = "pw"\nserver_password = "other"\n'
    users += '[[auth.users]]\nname = "scram"\nserver_password = "for servers"\n'
    loaded = authentication(tmp_path, FILE, users)
    assert loaded.stored == {
        "plain": PlainPassword("open sesame"),
        "hashed": HASH,
        "scram": VERIFIER,
        "none": None,
        "app": PlainPassword("pw"),
    }
    assert loaded.server_secrets == {
        "plain": PlainPassword("open sesame"),
        "hashed": HASH,
        "app": PlainPassword("other"),
        "scram": PlainPassword("for servers"),
    }
    assert loaded.first_user == "app"
    assert "sesame" not in repr(loaded)
    assert HASH.text not in repr(loaded)


def test_whose_login_serves_penstock_itself(tmp_path: Path) -> None:
    assert authentication(tmp_path, FILE).first_user == "plain"
    assert authentication(tmp_path, FILE + 'auth_user = "hashed"').first_user == "plain"
    assert authentication(tmp_path, 'auth_user = "ops"').first_user == "ops"


def test_rules_and_maps(tmp_path: Path) -> None:
    loaded = authentication(
        tmp_path,
        FILE + 'method = "hba"\nauth_hba_file = "hba"\nauth_ident_file = "ident"',
        hba="local all all peer map=m\nhost all bad all reject\nhost app all all md5\n",
        ident="m root app\n",
    )
    assert loaded.rule_for(Attempt("app", "app", None)).map == "m"
    assert set(loaded.maps) == {"m"}
    with pytest.raises(PgError, match=r'no pg_hba.conf entry for host "\[local\]", user "x"'):
        Authentication(loaded.rules[1:]).rule_for(Attempt("x", "app", None))


def test_a_rule_that_rejects(tmp_path: Path) -> None:
    loaded = authentication(
        tmp_path,
        FILE + 'method = "hba"\nauth_hba_file = "hba"',
        hba="local all bad reject\nlocal all all trust",
    )
    with pytest.raises(PgError, match=r"pg_hba.conf rejects connection for host") as refused:
        loaded.rule_for(Attempt("bad", "app", None))
    assert refused.value.sqlstate == "28000"


def test_every_problem_is_named_with_its_place(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        FILE
        + 'method = "hba"\nauth_hba_file = "hba"\nauth_ident_file = "ident"\nauth_user="scram"',
        '[[auth.users]]\nname = "plain"\npassword = "pw"\n',
        hba="local all all peer map=nowhere\nhost all all all gss\n",
        ident="m root\n",
        userlist=USERLIST + '"broken\n',
    )
    assert found == [
        "ident:1: a line has three fields: map name, system user name, database user name",
        'hba:2: the method "gss" is not supported; allowed: trust, reject, md5, scram-sha-256, '
        "password, cert, peer",
        'hba:1: the map "nowhere" is not in ident',
        "userlist:5: the quote that begins the user name is not closed on its line",
        'auth.users: "plain" has a password here and in userlist: give it only one',
        'auth.auth_user: only a SCRAM verifier is known of "scram", which does not log in to a '
        "server: give it a server_password in auth.users",
    ]


@pytest.mark.parametrize(
    ("user", "rest", "problem"),
    [
        (
            "scram",
            "",
            'database.app.monitor_user: the password of "scram" must be known as it is, not as a '
            "hash",
        ),
        (
            "hashed",
            "",
            'database.app.monitor_user: the password of "hashed" must be known as it is, not as a '
            "hash",
        ),
        (
            "plain",
            f'[[auth.users]]\nname = "x"\nserver_password = "{write_verifier(VERIFIER)}"\n',
            'auth.users: server_password of "x" is a SCRAM verifier, which logs in nowhere',
        ),
    ],
)
def test_logins_of_penstocks_own(tmp_path: Path, user: str, rest: str, problem: str) -> None:
    database = f'[database.app]\nmonitor_user = "{user}"\n'
    assert problems(tmp_path, FILE, database + rest) == [problem]


def test_which_query_looks_a_user_up(tmp_path: Path) -> None:
    loaded = authentication(
        tmp_path,
        FILE + 'auth_user = "plain"\nauth_query = "SELECT 1, $1"\nauth_dbname = "app"',
        '[database.other]\nauth_user = "hashed"\nauth_dbname = "other"\n',
    )
    queries = [loaded.query_for(name) for name in ("app", "other", "penstock")]
    assert [(one.sql, one.user, one.database) for one in queries if one] == [
        ("SELECT 1, $1", "plain", "app"),
        ("SELECT 1, $1", "hashed", "other"),
        ("SELECT 1, $1", "plain", "app"),
    ]
    assert authentication(tmp_path, FILE).query_for("app") is None


@pytest.mark.parametrize(
    ("method", "user", "exchange"),
    [
        ("scram-sha-256", "plain", ScramExchange),
        ("scram-sha-256", "hashed", ScramExchange),
        ("scram-sha-256", "nobody", ScramExchange),
        ("md5", "plain", Md5Exchange),
        ("md5", "hashed", Md5Exchange),
        ("md5", "scram", ScramExchange),
        ("md5", "nobody", Md5Exchange),
        ("md5", "none", Md5Exchange),
        ("password", "scram", PlainExchange),
        ("password", "nobody", PlainExchange),
    ],
)
def test_what_clients_are_asked(tmp_path: Path, method: str, user: str, exchange: type) -> None:
    state = AuthState(authentication(tmp_path, FILE + f'method = "{method}"'))
    (rule,) = state.current.rules
    made = state.exchange(rule.method, user, state.current.stored.get(user), None)
    assert type(made) is exchange


def test_unknown_users_are_asked_by_scram_where_all_others_are(tmp_path: Path) -> None:
    list_ = f'"a" "{write_verifier(VERIFIER)}"\n'
    state = AuthState(authentication(tmp_path, FILE + 'method = "md5"', userlist=list_))
    assert isinstance(state.exchange("md5", "nobody", None, None), ScramExchange)


def test_what_a_login_teaches(tmp_path: Path) -> None:
    state = AuthState(authentication(tmp_path, FILE))
    keys = ScramKeys(b"salt", 10, b"client", b"server")
    state.logged_in("app", "scram", VERIFIER, keys)
    assert state.server_secret("app", "scram") is keys
    state.logged_in("app", "looked up", HASH, HASH)
    assert state.server_secret("app", "looked up") == HASH
    state.logged_in("app", "looked up", PlainPassword("x"), keys)
    assert state.server_secret("app", "looked up") == PlainPassword("x")
    state.logged_in("app", "plain", PlainPassword("open sesame"), keys)
    assert state.server_secret("app", "plain") == PlainPassword("open sesame")
    assert state.server_secret("app", "nobody") is None


def test_what_a_login_teaches_is_of_its_database(tmp_path: Path) -> None:
    """Another database's servers may hold another verifier for a user of the same name."""
    state = AuthState(authentication(tmp_path, FILE))
    one, other = ScramKeys(b"1", 10, b"", b""), ScramKeys(b"2", 10, b"", b"")
    state.logged_in("one", "app", VERIFIER, one)
    state.logged_in("other", "app", VERIFIER, other)
    assert state.server_secret("one", "app") is one
    assert state.server_secret("other", "app") is other


def test_the_password_of_a_hash_is_worth_more_than_the_hash(tmp_path: Path) -> None:
    state = AuthState(authentication(tmp_path, FILE))
    assert state.server_secret("app", "hashed") == HASH
    state.logged_in("app", "hashed", HASH, PlainPassword("of another hash"))
    assert state.server_secret("app", "hashed") == HASH
    state.logged_in("app", "hashed", HASH, PlainPassword("secret"))
    assert state.server_secret("app", "hashed") == PlainPassword("secret")


def test_a_reload_replaces_all_at_once(tmp_path: Path) -> None:
    state = AuthState(authentication(tmp_path, FILE))
    before = state.exchange("scram-sha-256", "nobody", None, None)
    state.replace(authentication(tmp_path, FILE + "throttle_failures = 9", userlist='"new" "x"'))
    assert list(state.current.stored) == ["new"]
    assert state.throttle.limits.failures == 9
    assert before is not state.exchange("scram-sha-256", "nobody", None, None)


def test_the_salts_survive_a_reload(tmp_path: Path) -> None:
    first, second = authentication(tmp_path, FILE), authentication(tmp_path, FILE)
    assert first.mock_key == second.mock_key
    named = authentication(tmp_path, FILE + 'mock_authentication_nonce = "x"')
    assert named.mock_key == b"x"
