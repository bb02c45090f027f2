"""Users that only the server knows."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.auth.userlist import write_entry
from proxy.local.postgres import SUPERUSER
from tests.databases import Database, fresh_database
from tests.integration.auth.servers import PASSWORD, Server, proxy_with, refusal, who
from tests.proxies import Proxy, running_proxy

LOOKUP = """
CREATE FUNCTION lookup(wanted text) RETURNS TABLE (name text, secret text)
LANGUAGE sql SECURITY DEFINER AS
$$ SELECT rolname, rolpassword FROM pg_authid WHERE rolname = wanted AND rolcanlogin $$;
REVOKE ALL ON FUNCTION lookup FROM public;
GRANT EXECUTE ON FUNCTION lookup TO looker;
CREATE FUNCTION odd(wanted text, OUT name text, OUT secret text) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF wanted = 'twice' THEN
        RETURN QUERY VALUES ('twice', 'x'), ('twice', 'y');
    ELSIF wanted = 'renamed' THEN
        RETURN QUERY VALUES ('by_scram', 'x');
    ELSIF wanted = 'fails' THEN
        RAISE EXCEPTION 'no such luck';
    ELSIF wanted = 'by_plain' THEN
        RETURN QUERY VALUES ('by_plain', 'correct horse');
    END IF;
END $$
"""


@pytest.fixture(scope="module")
def looker(server: Server) -> Server:
    """The server with auth_user, which has nothing but the right to look."""
    server.give_password("looker", "look", "md5")
    server.run(LOOKUP)
    return server


@pytest.fixture(scope="module")
def proxy(looker: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Penstock that knows auth_user by its hash, and looks all others up."""
    settings = {
        "auth_file": "userlist.txt",
        "auth_user": "looker",
        "auth_query": "SELECT name, secret FROM lookup($1)",
        "throttle_failures": "0",
    }
    files = {"userlist.txt": write_entry("looker", looker.stored("looker"))}
    with proxy_with(looker, tmp_path_factory.mktemp("proxy"), settings, files) as proxy:
        yield proxy


def test_scram_passes_through(proxy: Proxy) -> None:
    assert who(proxy, "by_scram", require_auth="scram-sha-256") == "by_scram"


def test_wrong_password_and_unknown_user(proxy: Proxy) -> None:
    told = [refusal(proxy, user, "wrong") for user in ("by_scram", "nobody", "looker")]
    for user, text in zip(("by_scram", "nobody", "looker"), told, strict=True):
        assert text.startswith(f'FATAL:  password authentication failed for user "{user}"')
    assert told[0].replace("by_scram", "nobody") == told[1]


def test_an_md5_hash_under_scram(proxy: Proxy) -> None:
    """Can't be checked; the client is told no more than of a wrong password, the log says why."""
    told = refusal(proxy, "by_md5")
    assert 'password authentication failed for user "by_md5"' in told
    reasons = [line.get("reason") for line in proxy.log() if "by_md5" in str(line.get("error"))]
    assert reasons == ["only an md5 hash is stored for the user, and the method is scram-sha-256"]


def test_a_password_that_changes(proxy: Proxy, looker: Server) -> None:
    looker.give_password("changing", "first")
    assert who(proxy, "changing", "first") == "changing"
    looker.give_password("changing", "second")
    assert "password authentication failed" in refusal(proxy, "changing", "first")
    assert who(proxy, "changing", "second") == "changing"
    # New server connections are made with the new keys.
    looker.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'changing'")
    assert who(proxy, "changing", "second") == "changing"


def test_users_who_may_no_longer_log_in(proxy: Proxy, looker: Server) -> None:
    looker.give_password("leaving", "secret")
    assert who(proxy, "leaving", "secret") == "leaving"
    looker.run("ALTER ROLE leaving NOLOGIN")
    assert "password authentication failed" in refusal(proxy, "leaving", "secret")
    looker.run("ALTER ROLE leaving LOGIN PASSWORD NULL")
    assert "password authentication failed" in refusal(proxy, "leaving", "secret")


def test_names_that_need_care(proxy: Proxy, looker: Server) -> None:
    name = 'it\'s "odd" $1; -- ä'
    looker.give_password(name, "secret")
    assert who(proxy, name, "secret") == name


def test_the_console_and_unknown_databases(proxy: Proxy) -> None:
    """Without auth_dbname there is nowhere to look: as if the user did not exist."""
    for database in ("penstock", "nowhere"):
        told = refusal(proxy, "by_scram", dbname=database)
        assert 'password authentication failed for user "by_scram"' in told


@pytest.mark.parametrize("elsewhere", [False, True])
def test_databases_on_demand(looker: Server, tmp_path: Path, elsewhere: bool) -> None:
    """Users are looked up in a database that no configuration names, too."""
    with fresh_database(looker.stack, f"{looker.database.name}_b") as another:
        looker.run(LOOKUP, another.name)
        settings = {
            "auth_file": "userlist.txt",
            "auth_user": "looker",
            "auth_query": "SELECT name, secret FROM lookup($1)",
            "throttle_failures": "0",
            **({"auth_dbname": another.name} if elsewhere else {}),
        }
        files = {"userlist.txt": write_entry("looker", looker.stored("looker"))}
        extra = f'[database."*".primary]\nport = {looker.stack.primary.port}\n'
        with proxy_with(looker, tmp_path, settings, files, extra) as proxy:
            for database in (another.name, looker.database.name):
                assert who(proxy, "by_scram", dbname=database) == "by_scram"
                told = refusal(proxy, "by_scram", "wrong", dbname=database)
                assert 'password authentication failed for user "by_scram"' in told
            told = refusal(proxy, "by_scram", dbname="penstock")
            # The console is no database, so that there is somewhere to look with auth_dbname only.
            expected = (
                "may not use the admin console" if elsewhere else "password authentication failed"
            )
            assert expected in told
            told = refusal(proxy, "by_scram", dbname="no_such_database")
            # Where the look-up is to be in that database, it is done in another of its server.
            assert '"no_such_database" does not exist' in told
            for user in ("by_scram", "malory"):
                told = refusal(proxy, user, "wrong", dbname="no_such_database")
                assert f'password authentication failed for user "{user}"' in told


@pytest.fixture(scope="module")
def odd(looker: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Penstock with a query that does all that it should not."""
    settings = {
        "method": "md5",
        "auth_user": "looker",
        "auth_query": "SELECT * FROM odd($1)",
        "users__1__name": "looker",
        "users__1__password": "look",
        "throttle_failures": "0",
    }
    with proxy_with(looker, tmp_path_factory.mktemp("proxy"), settings) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("twice", "auth_query gave 2 rows for one user: it must give one, or none"),
        ("renamed", "auth_query gave another user than the one asked for"),
        ("fails", "no such luck"),
    ],
)
def test_queries_that_go_wrong(odd: Proxy, user: str, reason: str) -> None:
    """The client learns nothing of it, the log says it, and the next one is served."""
    assert refusal(odd, user).startswith("FATAL:  users can't be looked up at this time")
    assert [line["error"] for line in odd.log() if line.get("user") == user] == [reason]
    assert who(odd, "by_plain", require_auth="md5") == "by_plain"


def test_a_plain_password_from_the_query_logs_in_to_the_server(odd: Proxy) -> None:
    assert who(odd, "by_plain") == "by_plain"


def test_unknown_users_are_asked_as_known_ones(odd: Proxy) -> None:
    assert "password authentication failed" in refusal(odd, "nobody", require_auth="md5")


def test_the_default_query(looker: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Needs the right to read pg_authid; and an expired password is none."""
    looker.give_password("expired", PASSWORD)
    looker.run("ALTER ROLE expired VALID UNTIL '2020-01-01'")
    looker.run("GRANT SELECT ON pg_catalog.pg_authid TO looker")
    settings = {
        "auth_user": "looker",
        "auth_dbname": looker.database.name,
        "users__1__name": "looker",
        "users__1__server_password": "look",
    }
    settings["admins"] = '["by_scram"]'
    with proxy_with(looker, tmp_path_factory.mktemp("proxy"), settings) as proxy:
        assert who(proxy, "by_scram") == "by_scram"
        assert "password authentication failed" in refusal(proxy, "expired")
        assert "password authentication failed" in refusal(proxy, "nobody")
        assert "may not use the admin console" in refusal(proxy, "by_plain", dbname="penstock")


def test_when_nobody_can_be_looked_up(
    looker: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Users of files go on, others are told so: auth_user may not log in, the primary is away."""
    settings = {"auth_user": "nobody_there", "throttle_failures": "0"}
    away = "[database.away.primary]\nport = 1\n"
    directory = tmp_path_factory.mktemp("proxy")
    with proxy_with(looker, directory, settings, extra=away) as proxy:
        for database in (proxy.database.name, "away"):
            told = refusal(proxy, "by_scram", dbname=database)
            assert told.startswith("FATAL:  users can't be looked up at this time")
        own = proxy.database
        assert who(proxy, own.user, own.password) == own.user


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_role_made_and_changed_through_penstock(
    database: Database, tmp_path: Path, mode: str
) -> None:
    """It may log in at once, by the password that it was given last."""
    name, stack = f"made_{uuid.uuid4().hex[:8]}", database.stack
    extra = (
        f'[[auth.users]]\nname = "{SUPERUSER}"\npassword = "{stack.superuser_password}"\n'
        f'[pool]\nmode = "{mode}"\n'
    )
    looks = {"PENSTOCK_AUTH__AUTH_USER": SUPERUSER}
    with (
        running_proxy(database, tmp_path, extra=extra, environment=looks) as proxy,
        psycopg.connect(
            proxy.dsn(), user=SUPERUSER, password=stack.superuser_password, autocommit=True
        ) as admin,
    ):
        admin.execute(f"CREATE ROLE {name} LOGIN")
        try:
            for password in (b"first", b"second"):
                admin.pgconn.change_password(name.encode(), password)
                assert who(proxy, name, password.decode()) == name
            admin.execute(f"ALTER USER {name} PASSWORD 'third'")
            assert who(proxy, name, "third") == name
            assert "password authentication failed" in refusal(proxy, name, "second")
        finally:
            admin.execute(f"DROP ROLE {name}")
