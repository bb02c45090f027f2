"""Clients of others' making log in by each method."""

import os
import subprocess
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from proxy.auth.userlist import write_entry
from tests.integration.auth.servers import PASSWORD, Server, dsn, proxy_with, refusal, who
from tests.proxies import Proxy

METHODS = ("scram-sha-256", "md5", "password", "trust")


@pytest.fixture(scope="module", params=METHODS)
def by_method(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Proxy]]:
    """The method's name, and Penstock that asks all clients by it."""
    directory = tmp_path_factory.mktemp("proxy")
    users = {"by_scram": PASSWORD, "by_md5": PASSWORD, "by_plain": PASSWORD}
    userlist = "\n".join(write_entry(user, secret) for user, secret in users.items())
    settings = {"method": request.param, "auth_file": "userlist.txt"}
    with proxy_with(server, directory, settings, {"userlist.txt": userlist}) as proxy:
        yield request.param, proxy


@pytest.mark.parametrize("user", ["by_scram", "by_md5", "by_plain"])
def test_psycopg(by_method: tuple[str, Proxy], user: str) -> None:
    """And Penstock logs in to the server by what that asks for: SCRAM, MD5, the password."""
    _, proxy = by_method
    assert who(proxy, user) == user


async def test_asyncpg(by_method: tuple[str, Proxy]) -> None:
    method, proxy = by_method
    connection = await asyncpg.connect(
        host=proxy.host,
        port=proxy.port,
        user="by_scram",
        password=PASSWORD,
        database=proxy.database.name,
        ssl=False,
    )
    assert await connection.fetchval("SELECT current_user") == "by_scram"
    await connection.close()
    if method != "trust":
        with pytest.raises(asyncpg.InvalidPasswordError, match="password authentication failed"):
            await asyncpg.connect(
                host=proxy.host,
                port=proxy.port,
                user="by_scram",
                password="wrong",
                database=proxy.database.name,
                ssl=False,
            )


def test_psql(by_method: tuple[str, Proxy], server: Server) -> None:
    method, proxy = by_method
    psql = [str(server.stack.programs.psql), "-XAtw", "-c", "SELECT current_user"]

    def run(password: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PGPASSWORD": password}
        target = dsn(proxy, "by_md5", None)
        return subprocess.run(
            [*psql, target], env=environment, capture_output=True, text=True, check=False
        )

    assert run(PASSWORD).stdout == "by_md5\n"
    if method != "trust":
        refused = run("wrong")
        assert refused.returncode == 2
        assert 'password authentication failed for user "by_md5"' in refused.stderr


@pytest.mark.parametrize("by_method", METHODS[:3], indirect=True)
@pytest.mark.parametrize("user", ["by_scram", "nobody", "app"])
@pytest.mark.parametrize("password", ["wrong", "", None])
def test_wrong_passwords(by_method: tuple[str, Proxy], user: str, password: str | None) -> None:
    _, proxy = by_method
    told = refusal(proxy, user, password)
    if password:
        assert f'FATAL:  password authentication failed for user "{user}"' in told
    else:
        assert "password" in told  # libpq itself has none to give


def test_a_method_that_the_client_requires(by_method: tuple[str, Proxy]) -> None:
    """What is asked for is what the configuration says, as libpq sees it."""
    method, proxy = by_method
    name = {"trust": "none"}.get(method, method)
    assert who(proxy, "by_scram", require_auth=name) == "by_scram"
    others = {"scram-sha-256", "md5", "password", "none"} - {name}
    told = refusal(proxy, "by_scram", require_auth=",".join(sorted(others)))
    assert "authentication method requirement" in told


def test_no_log_shows_a_password(by_method: tuple[str, Proxy]) -> None:
    _, proxy = by_method
    assert proxy.log()
    assert PASSWORD not in proxy.log_file.read_text()


def test_no_console_shows_a_password(by_method: tuple[str, Proxy]) -> None:
    _, proxy = by_method
    own = proxy.database
    target = dsn(proxy, own.user, own.password, dbname="penstock")
    with psycopg.connect(target, autocommit=True) as console:
        shown = "".join(
            str(console.execute(f"SHOW {what}".encode()).fetchall())
            for what in ("CONFIG", "USERS", "CLIENTS", "SERVERS", "DATABASES")
        )
    assert "userlist.txt" in shown
    assert PASSWORD not in shown
