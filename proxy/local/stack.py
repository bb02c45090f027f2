"""The local stack: a primary, its standbys, the shards and Redis, as one thing.

`start_stack` makes or finds one; see `StackOptions`. Everything here blocks: from an event loop,
call it through `asyncio.to_thread`.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from proxy.local.account import server_account
from proxy.local.errors import LocalStackError
from proxy.local.layout import Layout, default_data_dir, plan_layout
from proxy.local.postgres import SUPERUSER, PostgresServer, Role
from proxy.local.programs import PostgresPrograms, find_postgres, find_redis
from proxy.local.redis import RedisServer
from proxy.local.staging import stage_postgres, stage_redis
from proxy.local.state import StackState, locked, new_state, read_state, write_state

APP_USER = "app"
APP_PASSWORD = "app"
APP_DATABASE = "app"
_SERVER = re.compile(r"(primary|replica\d+|shard\d+|redis)(\.|$)")


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What a stack consists of.

    Attributes:
        data_dir: where its state lives; None: the user's data home.
        replicas: streaming standbys of the primary.
        shards: further PostgreSQL servers, without standbys.
        redis: whether there is a Redis.
        durable: whether data survives a crash of the machine; false is faster, for tests.
        system: use only servers installed on the system, not those from Python wheels.
        port: the primary's port, the others get those that follow; None: free ones.
        detach: whether the servers are meant to outlive this process. If not, the next start
            takes over what a crash of this process left running.
    """

    data_dir: Path | None = None
    replicas: int = 2
    shards: int = 2
    redis: bool = True
    durable: bool = True
    system: bool = False
    port: int | None = None
    detach: bool = False

    def names(self) -> list[str]:
        """The servers' names, in the order of their ports."""
        return [
            "primary",
            *(f"replica{number}" for number in range(1, self.replicas + 1)),
            *(f"shard{number}" for number in range(1, self.shards + 1)),
            *(["redis"] if self.redis else []),
        ]


@dataclass(slots=True)
class Stack:
    """Servers that belong together. As a context manager, it stops them unless `attached`.

    Attributes:
        attached: the servers ran already and are not ours to stop.
    """

    layout: Layout
    programs: PostgresPrograms
    primary: PostgresServer
    replicas: tuple[PostgresServer, ...]
    shards: tuple[PostgresServer, ...]
    redis: RedisServer | None
    attached: bool = False
    superuser: str = SUPERUSER
    app_user: str = APP_USER
    app_password: str = APP_PASSWORD
    database: str = APP_DATABASE

    @property
    def data_dir(self) -> Path:
        """The directory that the user named."""
        return self.layout.data_dir

    @property
    def superuser_password(self) -> str:
        """Random, made with the stack."""
        return self.primary.superuser_password

    @property
    def postgres(self) -> tuple[PostgresServer, ...]:
        """Every PostgreSQL server, the primary first."""
        return (self.primary, *self.replicas, *self.shards)

    @property
    def psql(self) -> Path:
        """PostgreSQL's terminal client."""
        return self.programs.psql

    @property
    def pgbench(self) -> Path:
        """PostgreSQL's benchmark client."""
        return self.programs.pgbench

    @property
    def pg_dump(self) -> Path:
        """PostgreSQL's dump client."""
        return self.programs.pg_dump

    def servers(self) -> Iterator[PostgresServer | RedisServer]:
        """Every server, the primary first."""
        yield from self.postgres
        if self.redis is not None:
            yield self.redis

    def dsn(self, server: PostgresServer | None = None, database: str | None = None) -> str:
        """A connection string for the application's role; default: the primary, its database."""
        chosen = server or self.primary
        return chosen.dsn(database or self.database, self.app_user, self.app_password)

    def stop(self) -> None:
        """Stop all servers and keep their data. Does nothing to servers that don't run."""
        if not self.data_dir.exists():
            return
        with locked(self.layout.lock_file):
            stop_servers(self)
            if (state := read_state(self.layout.state_file)) is not None:
                write_state(self.layout.state_file, replace(state, owner=None, complete=False))

    def remove(self) -> None:
        """Stop all servers and remove the stack's data, logs and state, if there still are any."""
        if self.data_dir.exists():
            remove_stack(self.layout)

    def __enter__(self) -> "Stack":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.attached:
            self.stop()


def find_stack(data_dir: Path | None = None) -> Layout | None:
    """Where the stack in `data_dir` keeps its files; None when there is none."""
    data_dir = (data_dir or default_data_dir()).expanduser()
    if not data_dir.is_dir():
        return None
    layout = plan_layout(data_dir, server_account())
    return layout if layout.state_file.exists() or _names_on_disk(layout) else None


def open_stack(data_dir: Path | None = None) -> Stack | None:
    """The stack in `data_dir` as it was last started, whether it runs or not; None: no stack.

    Raises LocalStackError when its state can't be read.
    """
    layout = find_stack(data_dir)
    state = layout and read_state(layout.state_file)
    return assemble(layout, state) if layout and state and state.ports else None


def remove_stack(layout: Layout) -> None:
    """Stop all servers of a stack and remove its files, even if its state can't be read."""
    with locked(layout.lock_file):
        remove_servers(layout)
        _remove_records(layout)


def remove_servers(layout: Layout) -> None:
    """Stop and remove every server that has files there, whatever the state says of it."""
    names = _names_on_disk(layout)
    if not names:
        return
    try:
        state = read_state(layout.state_file) or new_state()
    except LocalStackError:
        state = new_state()
    unknown = dict.fromkeys(["primary", *names], 0)
    everything = assemble(layout, replace(state, ports={**unknown, **state.ports}))
    servers = list(everything.servers())
    with ThreadPoolExecutor(max_workers=len(servers)) as pool:
        for done in [pool.submit(server.remove) for server in servers]:
            done.result()


def assemble(layout: Layout, state: StackState) -> Stack:
    """The servers that `state` names, none of them started."""
    programs = stage_postgres(
        find_postgres(system=state.system, major=_major_of_data(layout)), layout.account
    )

    def make(role: Role) -> tuple[PostgresServer, ...]:
        return tuple(
            PostgresServer(
                name=name,
                role=role,
                port=port,
                layout=layout,
                programs=programs,
                superuser_password=state.superuser_password,
                durable=state.durable,
            )
            for name, port in state.ports.items()
            if name.startswith(role)
        )

    redis = None
    if "redis" in state.ports:
        program = stage_redis(find_redis(system=state.system), layout.account)
        redis = RedisServer(port=state.ports["redis"], layout=layout, program=program)
    (primary,) = make("primary")
    return Stack(layout, programs, primary, make("replica"), make("shard"), redis)


def stop_servers(stack: Stack) -> None:
    """Stop everything; the primary last, for it waits until standbys have all that it sent."""
    others = [server for server in stack.servers() if server is not stack.primary]
    with ThreadPoolExecutor(max_workers=len(others) + 1) as pool:
        for done in [pool.submit(server.stop) for server in others]:
            done.result()
    stack.primary.stop()


def _names_on_disk(layout: Layout) -> list[str]:
    if not layout.servers_dir.is_dir():
        return []
    return sorted({path.stem for path in layout.servers_dir.iterdir() if _SERVER.match(path.name)})


def _major_of_data(layout: Layout) -> int | None:
    try:
        return int((layout.server_dir("primary") / "PG_VERSION").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _remove_records(layout: Layout) -> None:
    for directory in (layout.socket_dir, layout.servers_dir):
        if directory != layout.data_dir.resolve() and directory.is_dir():
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()
    layout.state_file.unlink(missing_ok=True)
    layout.lock_file.unlink(missing_ok=True)
    if not any(layout.data_dir.iterdir()):
        layout.data_dir.rmdir()
