"""One real PostgreSQL server of the stack: made, started, stopped, killed."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psutil

from proxy.local import processes
from proxy.local.account import Account, give
from proxy.local.errors import LocalStackError, PortTakenError, log_tail
from proxy.local.layout import Layout
from proxy.local.ports import HOST
from proxy.local.postgres_config import HBA, repointed, server_config, standby_conninfo
from proxy.local.programs import PostgresPrograms

SUPERUSER = "postgres"
Role = Literal["primary", "replica", "shard"]
StopMode = Literal["smart", "fast", "immediate"]
_STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class PostgresServer:
    """A PostgreSQL server on 127.0.0.1, known by its data directory.

    Everything here blocks; call it through `asyncio.to_thread` where an event loop must go on.
    The object holds no process: any program that knows the directory may stop what another
    started.
    """

    host = HOST

    def __init__(
        self,
        *,
        name: str,
        role: Role,
        port: int,
        layout: Layout,
        programs: PostgresPrograms,
        superuser_password: str,
        durable: bool,
    ) -> None:
        self.name = name
        self.role: Role = role
        self.port = port
        self.data_dir: Path = layout.server_dir(name)
        self.log_file: Path = layout.log_file(name)
        self.socket_dir: Path = layout.socket_dir
        self.superuser_password = superuser_password
        self._account: Account | None = layout.account
        self._programs = programs
        self._durable = durable

    def __repr__(self) -> str:
        return f"<PostgresServer {self.name} {self.host}:{self.port}>"

    @property
    def pid(self) -> int | None:
        """The process id of the running server, None when it doesn't run."""
        process = self._process()
        return process.pid if process else None

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self.pid is not None

    @property
    def made(self) -> bool:
        """Whether the data directory is complete: it gets its name only at the end."""
        return (self.data_dir / "PG_VERSION").exists()

    @property
    def is_standby(self) -> bool:
        """Whether the server would start as a standby; a promoted one would not."""
        return (self.data_dir / "standby.signal").exists()

    def dsn(self, database: str, user: str = SUPERUSER, password: str | None = None) -> str:
        """A connection string over TCP. Without `password`, the superuser's."""
        secret = quote(self.superuser_password if password is None else password, safe="")
        where = f"{self.host}:{self.port}/{quote(database, safe='')}"
        return f"postgresql://{quote(user, safe='')}:{secret}@{where}"

    # -- making ----------------------------------------------------------------------------

    def initialise(self) -> None:
        """Make an empty cluster with a superuser and real password logins."""
        password_file = self.data_dir.with_suffix(".password")
        with self._under_construction() as fresh:
            password_file.unlink(missing_ok=True)
            _write(password_file, self.superuser_password, self._account)
            try:
                self._run(
                    [
                        self._programs.bin_dir / "initdb",
                        *("-D", fresh, "-U", SUPERUSER, f"--pwfile={password_file}"),
                        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                        *self._locale_options(),
                        "--no-instructions",
                        *([] if self._durable else ["--no-sync"]),
                    ],
                    "initialise",
                )
            finally:
                password_file.unlink(missing_ok=True)
            _write(fresh / "pg_hba.conf", HBA, self._account)
            with (fresh / "postgresql.conf").open("a", encoding="utf-8") as conf:
                conf.write("include 'penstock.conf'\n")

    def copy_from(self, primary: "PostgresServer") -> None:
        """Make a standby of `primary`, which must run, with a replication slot of its own."""
        slot = self.name
        # The slot comes first: WAL that the copy needs could be gone before pg_basebackup's own
        # (-C) held it, when another copy runs beside this one.
        primary.psql(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
            f"WHERE slot_name = '{slot}' AND NOT active;\n"
            f"SELECT pg_create_physical_replication_slot('{slot}', true)"
        )
        conninfo = standby_conninfo(
            name=self.name, socket_dir=primary.socket_dir, port=primary.port
        )
        with self._under_construction() as fresh:
            self._run(
                [
                    self._programs.bin_dir / "pg_basebackup",
                    *("-D", fresh, "-d", conninfo, "-R", "-S", slot),
                    *("-X", "stream", "--checkpoint=fast"),
                    *([] if self._durable else ["--no-sync"]),
                ],
                f"copy {primary.name}",
            )

    def point_at(self, primary: "PostgresServer") -> bool:
        """Tell a standby where its primary listens now; whether that is news.

        A server that runs has to be started again to take notice.
        """
        auto_conf = self.data_dir / "postgresql.auto.conf"
        conninfo = standby_conninfo(
            name=self.name, socket_dir=primary.socket_dir, port=primary.port
        )
        text = auto_conf.read_text(encoding="utf-8")
        if (wanted := repointed(text, conninfo)) == text:
            return False
        _write(auto_conf, wanted, self._account)
        return True

    def remove(self) -> None:
        """Stop the server if it runs, without saving anything, and remove all its files."""
        self.stop("immediate", timeout=5.0)
        crashed = (self.data_dir / "postmaster.pid").exists()
        self.clear_leftovers()
        if crashed:
            self._free_shared_memory()
        for path in (self.data_dir, self._construction_site()):
            shutil.rmtree(path, ignore_errors=True)
        self.log_file.unlink(missing_ok=True)

    # -- running ---------------------------------------------------------------------------

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and wait until it is up. Does nothing if it runs.

        Raises PortTakenError when another program listens on the port, LocalStackError with
        the end of the server's log for everything else.
        """
        if self.running:
            return
        self.clear_leftovers()
        config = server_config(
            name=self.name, port=self.port, socket_dir=self.socket_dir, durable=self._durable
        )
        _write(self.data_dir / "penstock.conf", config, self._account)
        _write(self.log_file, "", self._account)
        command: list[str | Path] = [
            self._programs.bin_dir / "pg_ctl",
            *("start", "-D", self.data_dir, "-l", self.log_file),
            *("-w", "-s", "-t", str(int(timeout))),
        ]
        try:
            self._run(command, "start", timeout=timeout + 10)
        except LocalStackError as error:
            tail = log_tail(self.log_file)
            kind = PortTakenError if "Address already in use" in tail else LocalStackError
            raise kind(
                f"{self.name} did not start on {self.host}:{self.port}; the end of "
                f"{self.log_file}:\n{tail}"
            ) from error

    def stop(self, mode: StopMode = "fast", timeout: float = 30.0) -> None:
        """Stop the server; after `timeout` seconds, kill it. Does nothing if it doesn't run."""
        if (process := self._process()) is not None:
            processes.send(processes.family(process), signal.SIGCONT)
            processes.end(process, _STOP_SIGNALS[mode], timeout)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as a crash would end them."""
        if (process := self._process()) is not None:
            processes.kill(process)

    def clear_leftovers(self) -> int:
        """End what a crash left of the server, and the pid file with it; how many processes.

        PostgreSQL would refuse to start when the number in a stale file is now somebody else's,
        or that of a process which nobody has reaped.
        """
        ended = processes.kill_strays([self.data_dir, self._construction_site()])
        socket = self.socket_dir / f".s.PGSQL.{self.port}"
        for stale in (self.data_dir / "postmaster.pid", socket, Path(f"{socket}.lock")):
            stale.unlink(missing_ok=True)
        return ended

    def freeze(self) -> None:
        """Stop all its processes in their tracks (SIGSTOP): a server that hangs."""
        if (process := self._process()) is not None:
            processes.send(processes.family(process), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if (process := self._process()) is not None:
            processes.send(processes.family(process), signal.SIGCONT)

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser through the Unix socket; rows as tab-separated text."""
        command: list[str | Path] = [
            self._programs.psql,
            *("-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", str(self.socket_dir)),
            *("-p", str(self.port), "-U", SUPERUSER, "-d", database, "-f", "-"),
        ]
        doing = f"{self.name}: SQL in database {database}"
        return processes.run(command, account=self._account, doing=doing, input_text=sql).strip()

    def wait_until(self, condition: str, timeout: float, what: str) -> None:
        """Wait until the SQL expression `condition` is true.

        Raises LocalStackError, naming `what`, after `timeout` seconds.
        """
        if not self._becomes(lambda: self.psql(f"SELECT {condition}") == "t", timeout):
            raise LocalStackError(
                f"{self.name}: {what} did not happen within {timeout:g} s; the end of "
                f"{self.log_file}:\n{log_tail(self.log_file)}"
            )

    def accepts(self, timeout: float) -> bool:
        """Whether the server answers a query within `timeout` seconds."""

        def answers() -> bool:
            try:
                return self.psql("SELECT 1") == "1"
            except LocalStackError:
                return False

        return self._becomes(answers, timeout)

    # -- inside ----------------------------------------------------------------------------

    def _becomes(self, check: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not check():
            if time.monotonic() > deadline or not self.running:
                return False
            time.sleep(0.02)
        return True

    def _process(self) -> psutil.Process | None:
        try:
            first = (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0]
            return processes.find(int(first), self.data_dir)
        except (OSError, ValueError):
            return None

    def _run(self, command: list[str | Path], what: str, timeout: float = 120.0) -> None:
        processes.run(command, account=self._account, doing=f"{self.name}: {what}", timeout=timeout)

    def _free_shared_memory(self) -> None:
        """Free what a killed server left in memory; that outlives its files.

        PostgreSQL does so itself whenever it begins to start in the same directory. Whether the
        start succeeds after that makes no difference: a standby's can't, in this mode.
        """
        postgres = self._programs.bin_dir / "postgres"
        with contextlib.suppress(LocalStackError):
            self._run([postgres, "--single", "-D", self.data_dir, "postgres"], "free memory")

    def _construction_site(self) -> Path:
        return self.data_dir.with_suffix(".new")

    @contextlib.contextmanager
    def _under_construction(self) -> Iterator[Path]:
        """A directory to fill, which becomes the data directory only when all went well."""
        fresh = self._construction_site()
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        give(self._account, [fresh])
        yield fresh
        shutil.rmtree(self.data_dir, ignore_errors=True)
        fresh.rename(self.data_dir)

    def _locale_options(self) -> list[str]:
        """The same order and classes of characters on every machine."""
        if self._programs.version[0] >= 17:
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return []


def _write(path: Path, text: str, account: Account | None) -> None:
    """A file that only the servers' account can read, replaced in one step."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    give(account, [fresh])
    fresh.replace(path)
