"""Where a foreign client connects to: a Penstock, or the primary itself.

The same tests can be run against the primary with `PENSTOCK_COMPAT_DIRECT=1`: what they expect
must be what PostgreSQL does.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.databases import Database, superuser_connection
from tests.proxies import running_proxy

DIRECT = "PENSTOCK_COMPAT_DIRECT"
REPLAY_SECONDS = 20.0
PROGRAM_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """What a client needs to know to connect, and the database behind it."""

    host: str
    port: int
    database: Database

    @property
    def user(self) -> str:
        """The application's role."""
        return self.database.user

    @property
    def password(self) -> str:
        """The application's password."""
        return self.database.password

    def dsn(self, scheme: str = "postgresql", **parameters: str) -> str:
        """A connection URL."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return (
            f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}"
            f"/{self.database.name}{'?' + query if query else ''}"
        )

    def environment(self) -> dict[str, str]:
        """libpq's variables for a client program, and nobody's own settings."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database.name,
            "PGCONNECT_TIMEOUT": "10",
            "PSQLRC": os.devnull,
            "PSQL_HISTORY": os.devnull,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }

    def run(
        self,
        program: Path | str,
        *arguments: str,
        stdin: str = "",
        cwd: Path | None = None,
        timeout: float = PROGRAM_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a client program to its end, whatever that is."""
        return subprocess.run(
            [program, *arguments],
            input=stdin,
            env=self.environment(),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def prepare(self, *statements: str) -> None:
        """Run statements on the primary as the application, and let every standby replay them.

        For what a module's tests find there: by default only the session that writes is
        promised to read it at once.
        """
        with psycopg.connect(self.database.dsn(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
        self.settle()

    def settle(self) -> None:
        """Wait until every standby has replayed what the primary has written so far."""
        stack = self.database.stack
        with superuser_connection(stack.primary) as connection:
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        deadline = time.monotonic() + REPLAY_SECONDS
        for replica in stack.replicas:
            with superuser_connection(replica) as connection:
                query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
                while connection.execute(query, row).fetchone() != (True,):
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{replica.name} does not replay")
                    time.sleep(0.005)


def direct(database: Database) -> Target:
    """The primary itself."""
    return Target(database.stack.primary.host, database.stack.primary.port, database)


@contextmanager
def new_target(database: Database, directory: Path, extra: str = "") -> Iterator[Target]:
    """A Penstock of its own in front of `database`, with `extra` in its configuration."""
    if os.environ.get(DIRECT):
        yield direct(database)
        return
    with running_proxy(database, directory, extra=extra) as proxy:
        yield Target(proxy.host, proxy.port, database)


def lines(text: str) -> Sequence[str]:
    """Without trailing blanks and empty lines."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]
