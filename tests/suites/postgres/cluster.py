"""A PostgreSQL server for one run of the suite, with the configuration that the suite expects."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.local import processes
from proxy.local.account import Account, give
from tests.suites.postgres.source import Suite

HOST = "127.0.0.1"
SUPERUSER = "postgres"
DATABASE = "regression"
RESTORED = "restored"
"""What dumps are restored into."""

# As pg_regress configures a server of its own; and nothing is kept over a crash of the machine.
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
max_connections = 200
max_prepared_transactions = 2
fsync = off
full_page_writes = off
"""
_MESSAGES = ("lc_messages", "lc_monetary", "lc_numeric", "lc_time")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server; `inputs` and `outputs` are what the tests know as their directories."""

    port: int
    home: Path
    suite: Suite
    account: Account | None

    @property
    def inputs(self) -> Path:
        """A copy of src/test/regress that the server's account can read."""
        return self.home / "regress"

    @property
    def libraries(self) -> Path:
        """A copy of the C code that the server's account can read."""
        return self.home / "lib"

    def outputs(self, name: str) -> Path:
        """The directory of the run `name`, in which the server may write too."""
        made = self.home / name
        for path in (made, made / "results"):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        return made

    def run(self, program: str, *arguments: str, text: str | None = None) -> str:
        """Run one of PostgreSQL's programs as the server's account; what it printed."""
        command: list[str | Path] = [self.suite.programs.bin_dir / program, *arguments]
        doing = f"the suite's server: {program}"
        return processes.run(command, account=self.account, doing=doing, input_text=text)

    def make_database(self, name: str) -> None:
        """An empty database with the settings that pg_regress gives its own."""
        settings = [(each, "C") for each in _MESSAGES]
        settings += [("bytea_output", "hex"), ("timezone_abbreviations", "Default")]
        lines = [f"ALTER DATABASE {name} SET {each} TO '{value}';" for each, value in settings]
        self._psql("\n".join([f"CREATE DATABASE {name} TEMPLATE template0;", *lines]))

    def drop_database(self, name: str) -> None:
        """Remove a database whoever uses it."""
        self._psql(f"DROP DATABASE {name} WITH (FORCE)")

    def _psql(self, sql: str) -> None:
        where = ("-h", HOST, "-p", str(self.port), "-U", SUPERUSER, "-d", "postgres")
        self.run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", *where, "-f", "-", text=sql)


@contextmanager
def running_cluster(
    suite: Suite, account: Account | None, home: Path, configuration: str = ""
) -> Iterator[Cluster]:
    """Make a cluster in `home`, which must be empty, and stop it after the block."""
    home.chmod(0o711)
    shutil.copytree(suite.regress, home / "regress")
    shutil.copytree(suite.libraries, home / "lib")
    data = home / "data"
    data.mkdir(mode=0o700)
    give(account, [data])
    cluster = Cluster(free_port(), home, suite, account)
    options = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync")
    cluster.run("initdb", "-D", str(data), "-U", SUPERUSER, *options)
    own = f"port = {cluster.port}\nunix_socket_directories = '{data}'\n"
    with (data / "postgresql.conf").open("a") as file:
        file.write(_CONFIGURATION + own + configuration)
    cluster.run("pg_ctl", "start", "-w", "-s", "-D", str(data), "-l", str(data / "log"))
    try:
        cluster.make_database(DATABASE)
        yield cluster
    finally:
        cluster.run("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", str(data))


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
