"""A server whose roles have every kind of password, and Penstock before it."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database, superuser_connection
from tests.proxies import Proxy, running_proxy

PASSWORD = "correct horse"
ROLES = {"by_scram": "scram-sha-256", "by_md5": "md5", "other_scram": "scram-sha-256"}
"""Roles that have PASSWORD, stored so."""

HBA = """\
local all all trust
host all app 127.0.0.1/32 scram-sha-256
host all by_plain 127.0.0.1/32 password
host all all 127.0.0.1/32 md5
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The server, and a database on it."""

    stack: Stack
    database: Database

    def stored(self, role: str) -> str:
        """What the server has stored for a role's password."""
        with superuser_connection(self.stack.primary) as connection:
            row = connection.execute(
                "SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role]
            ).fetchone()
        assert row is not None
        return str(row[0])

    def run(self, statement: str, database: str | None = None) -> None:
        """Run SQL as the superuser, in the test's database unless another is named."""
        with superuser_connection(self.stack.primary, database or self.database.name) as connection:
            connection.execute(statement.encode())

    def give_password(self, role: str, password: str, encryption: str = "scram-sha-256") -> None:
        """Set a role's password, stored so; the role is made if need be."""
        with superuser_connection(self.stack.primary) as connection:
            known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            if not known.rowcount:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
            connection.execute(
                sql.SQL("SET password_encryption = {}").format(sql.Literal(encryption))
            )
            change = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(change.format(sql.Identifier(role), sql.Literal(password)))


@contextlib.contextmanager
def prepared_server(stack: Stack) -> Iterator[Server]:
    """Roles, rules and a database on a stack of the caller's own."""
    hba = stack.primary.data_dir / "pg_hba.conf"
    hba.write_text(HBA)
    stack.primary.psql("SELECT pg_reload_conf()")
    with fresh_database(stack, f"auth_{uuid.uuid4().hex[:8]}") as database:
        server = Server(stack, database)
        for role, encryption in ROLES.items():
            server.give_password(role, PASSWORD, encryption)
        server.give_password("by_plain", PASSWORD)
        yield server


@contextlib.contextmanager
def proxy_with(
    server: Server,
    directory: Path,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    extra: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Proxy]:
    """Penstock with these keys of [auth], these files beside its configuration, and variables."""
    for name, text in (files or {}).items():
        (directory / name).write_text(text)
    variables = {
        f"PENSTOCK_AUTH__{name.upper()}": value for name, value in (settings or {}).items()
    }
    variables.update(environment or {})
    with running_proxy(server.database, directory, environment=variables, extra=extra) as proxy:
        yield proxy


def dsn(proxy: Proxy, user: str, password: str | None = PASSWORD, **parameters: str) -> str:
    """A connection string of libpq's keywords."""
    given = {
        "host": proxy.host,
        "port": str(proxy.port),
        "dbname": proxy.database.name,
        "user": user,
        "sslmode": "disable",
        **({} if password is None else {"password": password}),
        **parameters,
    }
    return psycopg.conninfo.make_conninfo(**given)


def who(proxy: Proxy, user: str, password: str | None = PASSWORD, **parameters: str) -> str:
    """Log in and ask the server who that is. Raises psycopg.OperationalError if refused."""
    with psycopg.connect(dsn(proxy, user, password, **parameters)) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    assert row is not None
    return str(row[0])


def refusal(proxy: Proxy, user: str, password: str | None = PASSWORD, **parameters: str) -> str:
    """Log in, which must fail; what the client is told."""
    try:
        who(proxy, user, password, **parameters)
    except psycopg.OperationalError as error:
        text = str(error).replace("\n", " ")
        return text[max(text.find("FATAL"), 0) :]
    raise AssertionError(f"{user} was let in")
