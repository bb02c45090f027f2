"""A fresh database per test, on the primary and on every shard."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from proxy.local.postgres import SUPERUSER, PostgresServer
from proxy.local.stack import Stack

REPLICATION_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Database:
    """A database that only one test uses, owned by the application's role."""

    name: str
    stack: Stack

    @property
    def user(self) -> str:
        """The application's role."""
        return self.stack.app_user

    @property
    def password(self) -> str:
        """The application's password."""
        return self.stack.app_password

    def dsn(self, server: PostgresServer | None = None) -> str:
        """A connection string for the application's role; default: on the primary."""
        return self.stack.dsn(server, self.name)

    def superuser_dsn(self, server: PostgresServer | None = None) -> str:
        """A connection string for the superuser; default: on the primary."""
        return (server or self.stack.primary).dsn(self.name)


@contextmanager
def fresh_database(stack: Stack, name: str) -> Iterator[Database]:
    """Create the database everywhere, and drop it whatever the test left open in it."""
    owners = (stack.primary, *stack.shards)
    with ThreadPoolExecutor(max_workers=len(owners)) as pool:
        for created in [pool.submit(_create, server, name, stack.app_user) for server in owners]:
            created.result()
        for replica in stack.replicas:
            _wait_for(replica, name)
        yield Database(name, stack)
        for dropped in [pool.submit(_drop, server, name) for server in owners]:
            dropped.result()


def superuser_connection(
    server: PostgresServer, database: str = "postgres"
) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit mode, through the server's Unix socket."""
    return psycopg.connect(
        host=str(server.socket_dir),
        port=server.port,
        user=SUPERUSER,
        dbname=database,
        autocommit=True,
    )


def _create(server: PostgresServer, name: str, owner: str) -> None:
    with superuser_connection(server) as connection:
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(owner)))


def _wait_for(replica: PostgresServer, name: str) -> None:
    deadline = time.monotonic() + REPLICATION_TIMEOUT
    with superuser_connection(replica) as connection:
        query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)"
        while connection.execute(query, [name]).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{replica.name} does not replay; see {replica.log_file}")
            time.sleep(0.005)


def _drop(server: PostgresServer, name: str) -> None:
    """Drop with FORCE. Prepared transactions and replication slots resist that; end them first."""
    with superuser_connection(server) as connection:
        leftovers = connection.execute(
            "SELECT count(*) FROM pg_prepared_xacts WHERE database = %s", [name]
        ).fetchone()
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "
            "WHERE database = %s AND active",
            [name],
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
            "WHERE database = %s",
            [name],
        )
        if leftovers != (0,):
            _roll_back_prepared(server, name)
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(statement.format(sql.Identifier(name)))


def _roll_back_prepared(server: PostgresServer, name: str) -> None:
    with superuser_connection(server, name) as connection:
        prepared = connection.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]
        ).fetchall()
        for (gid,) in prepared:
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
