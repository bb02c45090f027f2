"""Brings a stack up: makes what is missing, repairs what a crash left, starts what is down."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from proxy.local import processes
from proxy.local.account import server_account
from proxy.local.errors import LocalStackError, PortTakenError
from proxy.local.layout import Layout, default_data_dir, make_directories, plan_layout
from proxy.local.ports import free_port, is_free
from proxy.local.postgres import PostgresServer
from proxy.local.redis import RedisServer
from proxy.local.stack import (
    APP_DATABASE,
    APP_PASSWORD,
    APP_USER,
    Stack,
    StackOptions,
    assemble,
    remove_servers,
    stop_servers,
)
from proxy.local.state import Owner, StackState, locked, new_state, read_state, write_state

Progress = Callable[[str, str], None]
"""Told a server's name and what just happened to it; called from several threads."""

_PORT_ATTEMPTS = 5
_STREAMING_TIMEOUT = 15.0

_APPLICATION = f"""\
SELECT 'CREATE ROLE {APP_USER} LOGIN CREATEDB REPLICATION PASSWORD ''{APP_PASSWORD}'''
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_USER}') \\gexec
SELECT 'CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{APP_DATABASE}') \\gexec
"""


def start_stack(options: StackOptions | None = None, progress: Progress | None = None) -> Stack:
    """Start a stack and wait until every server answers and every standby streams.

    Servers that run already stay as they are, so that starting twice does nothing. When the
    start fails or is interrupted, the servers that it started are stopped again.

    Raises LocalStackError, which says what went wrong where and what to do.
    """
    options = options or StackOptions()
    _check(options)
    layout = plan_layout(options.data_dir or default_data_dir(), server_account())
    with locked(layout.lock_file):
        return _start(options, layout, progress or (lambda name, what: None))


def _start(options: StackOptions, layout: Layout, progress: Progress) -> Stack:
    before = read_state(layout.state_file)
    if before is None:
        # Servers without a state have a password that nobody knows any more.
        remove_servers(layout)
    else:
        _refuse_if_owned(before, layout)
        _drop_what_is_not_wanted(assemble(layout, before), before, options, progress)
    state = _plan(options, before or new_state(), layout)
    write_state(layout.state_file, state)
    make_directories(layout)
    stack = assemble(layout, state)
    running = [server for server in stack.servers() if server.running]
    stack.attached = state.owner is None and not options.detach
    try:
        _bring_up(stack, fixed_ports=options.port is not None, progress=progress)
    except BaseException:
        if not running:
            stop_servers(stack)
        raise
    ports = {server.name: server.port for server in stack.servers()}
    write_state(layout.state_file, replace(state, ports=ports, complete=True))
    return stack


def _check(options: StackOptions) -> None:
    for name, value in (("replicas", options.replicas), ("shards", options.shards)):
        if not 0 <= value <= 16:
            raise LocalStackError(f"{name} = {value} is not possible: choose from 0 to 16")
    if options.port is not None and not 1024 <= options.port <= 65_000:
        raise LocalStackError(f"port = {options.port} is not possible: choose from 1024 to 65000")


def _refuse_if_owned(state: StackState, layout: Layout) -> None:
    owner = state.owner
    if owner is None or owner.pid == os.getpid():
        return
    if processes.started_at(owner.pid) == owner.started:
        raise LocalStackError(
            f"the stack in {layout.data_dir} belongs to process {owner.pid}, which still runs; "
            "end that process, or name another directory with --data"
        )


def _drop_what_is_not_wanted(
    old: Stack, state: StackState, options: StackOptions, progress: Progress
) -> None:
    """Undo an interrupted start or a crash, stop all for other ports, drop surplus servers."""
    wanted = options.names()
    moved = options.port is not None and _fixed_ports(options) != state.ports
    if moved or not state.complete:
        stop_servers(old)
    for server in old.servers():
        if not server.running and (strays := server.clear_leftovers()):
            progress(server.name, f"ended {strays} left-over processes")
    for replica in old.replicas:
        if replica.name not in wanted:
            replica.remove()
            progress(replica.name, "removed")
    for server in old.shards + ((old.redis,) if old.redis else ()):
        if server.name not in wanted and server.running:
            server.stop()
            progress(server.name, "stopped; its data are kept")


def _plan(options: StackOptions, before: StackState, layout: Layout) -> StackState:
    """What is to run, where.

    Ports are kept from last time where they are still free. Servers that run keep their
    settings, and a whole stack that was started to outlive its starter stays so.
    """
    running = set()
    if before.ports:
        running = {s.name for s in assemble(layout, before).servers() if s.running}
    ports = _fixed_ports(options)
    if options.port is None:
        for name in options.names():
            last = before.ports.get(name)
            taken = {*ports.values(), *before.ports.values()}
            keep = last is not None and (name in running or is_free(last))
            ports[name] = last if keep and last is not None else free_port(taken)
    detached = options.detach or (before.owner is None and running >= set(ports))
    return replace(
        before,
        ports=ports,
        durable=before.durable if running else options.durable,
        system=before.system if running else options.system,
        owner=None if detached else _ourselves(),
        complete=False,
    )


def _ourselves() -> Owner:
    return Owner(os.getpid(), processes.started_at(os.getpid()) or 0.0)


def _fixed_ports(options: StackOptions) -> dict[str, int]:
    if options.port is None:
        return {}
    return {name: options.port + offset for offset, name in enumerate(options.names())}


def _bring_up(stack: Stack, *, fixed_ports: bool, progress: Progress) -> None:
    """All servers at once, save that standbys wait for their primary."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        primary = pool.submit(_bring_up_alone, stack.primary, fixed_ports, progress)
        work: list[Future[None] | Future[bool]] = [primary]
        if stack.redis is not None:
            work.append(pool.submit(_start_server, stack.redis, fixed_ports, progress))
        for shard in stack.shards:
            work.append(pool.submit(_bring_up_alone, shard, fixed_ports, progress))
        primary.result()
        _drop_surplus_slots(stack)
        for replica in stack.replicas:
            work.append(
                pool.submit(_bring_up_replica, replica, stack.primary, fixed_ports, progress)
            )
        for done in work:
            done.result()


def _drop_surplus_slots(stack: Stack) -> None:
    """Forget standbys that are no more: their slots would hold WAL back for ever."""
    names = ", ".join(f"'{replica.name}'" for replica in stack.replicas) or "''"
    surplus = (
        "FROM pg_replication_slots WHERE slot_type = 'physical' "
        f"AND slot_name ~ '^replica[0-9]+$' AND slot_name NOT IN ({names})"
    )
    stack.primary.psql(
        f"SELECT pg_terminate_backend(active_pid, 5000) {surplus} AND active;\n"
        f"SELECT pg_drop_replication_slot(slot_name) {surplus}"
    )


def _bring_up_alone(server: PostgresServer, fixed_ports: bool, progress: Progress) -> None:
    if not server.made:
        server.clear_leftovers()
        begun = time.monotonic()
        server.initialise()
        progress(server.name, f"initialised in {time.monotonic() - begun:.1f} s")
    if _start_server(server, fixed_ports, progress):
        server.psql(_APPLICATION)


def _bring_up_replica(
    replica: PostgresServer, primary: PostgresServer, fixed_ports: bool, progress: Progress
) -> None:
    if replica.made and replica.is_standby:
        if replica.point_at(primary):
            replica.stop()
        _start_server(replica, fixed_ports, progress)
        if _streams(replica, primary):
            return
        progress(replica.name, f"does not follow {primary.name}; it is made again")
    replica.remove()
    begun = time.monotonic()
    replica.copy_from(primary)
    replica.point_at(primary)
    progress(replica.name, f"copied from {primary.name} in {time.monotonic() - begun:.1f} s")
    _start_server(replica, fixed_ports, progress)
    if not _streams(replica, primary):
        raise LocalStackError(
            f"{replica.name} does not stream from {primary.name}; see {replica.log_file} "
            f"and {primary.log_file}"
        )


def _streams(replica: PostgresServer, primary: PostgresServer) -> bool:
    """Whether the standby answers reads and is fed by the primary, now or soon."""
    fed = (
        "EXISTS (SELECT FROM pg_stat_replication "
        f"WHERE application_name = '{replica.name}' AND state IN ('catchup', 'streaming'))"
    )
    try:
        primary.wait_until(fed, _STREAMING_TIMEOUT, f"{replica.name}'s connection")
    except LocalStackError:
        return False
    return replica.accepts(_STREAMING_TIMEOUT)


def _start_server(
    server: PostgresServer | RedisServer, fixed_port: bool, progress: Progress
) -> bool:
    """Start it, on another port when the chosen one was taken meanwhile; whether it was down."""
    if server.running:
        return False
    begun = time.monotonic()
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        try:
            server.start()
            break
        except PortTakenError:
            if fixed_port or attempt == _PORT_ATTEMPTS:
                raise
            server.port = free_port(avoid={server.port})
    seconds = time.monotonic() - begun
    progress(server.name, f"up on {server.host}:{server.port} in {seconds:.1f} s")
    return True
