"""What a crash leaves behind, the next start repairs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from proxy.local.errors import LocalStackError
from proxy.local.postgres import PostgresServer
from proxy.local.processes import started_at
from proxy.local.stack import Stack, StackOptions
from proxy.local.start import start_stack
from proxy.local.state import read_state
from proxy.local.watcher import start_watcher
from tests.databases import superuser_connection
from tests.stacks import PrivateStack

STARTS_AND_DIES = """
import os, sys
from pathlib import Path
from proxy.local.stack import StackOptions
from proxy.local.start import start_stack
start_stack(StackOptions(Path(sys.argv[1]), replicas=0, shards=0, durable=False))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def own(private_stack: PrivateStack) -> Stack:
    """A primary with one standby and Redis."""
    return private_stack(replicas=1, redis=True)


def restart(stack: Stack) -> Stack:
    """What a user does after a crash: starts the stack again."""
    options = StackOptions(stack.data_dir, replicas=len(stack.replicas), shards=0, durable=False)
    return start_stack(options)


def pids(stack: Stack) -> dict[str, int | None]:
    return {server.name: server.pid for server in stack.servers()}


def answers(stack: Stack, sql: str) -> list[tuple[object, ...]]:
    with superuser_connection(stack.replicas[0]) as standby:
        return standby.execute(sql).fetchall()


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_starting_twice_changes_nothing(own: Stack) -> None:
    before = pids(own)
    assert pids(restart(own)) == before
    assert None not in before.values()


def test_a_killed_primary_comes_back_with_its_data_and_its_standby(own: Stack) -> None:
    with superuser_connection(own.primary) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    own.primary.kill()
    assert not own.primary.running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(own.dsn())
    own.primary.start()
    with superuser_connection(own.primary) as connection:
        connection.execute("INSERT INTO kept VALUES (43)")
    wait_for(lambda: answers(own, "SELECT n FROM kept ORDER BY n") == [(42,), (43,)])


def test_everything_killed_starts_again_on_the_same_ports(own: Stack) -> None:
    before = {server.name: server.port for server in own.servers()}
    for server in own.servers():
        server.kill()
    again = restart(own)
    assert {server.name: server.port for server in again.servers()} == before
    assert answers(again, "SELECT pg_is_in_recovery()") == [(True,)]


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(own: Stack) -> None:
    own.primary.stop()
    pid_file = own.primary.data_dir / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{own.primary.data_dir}\n")
    assert own.primary.pid is None
    own.primary.stop()
    own.primary.start()
    assert own.primary.pid not in (None, os.getpid())


def test_servers_without_a_pid_file_are_found(own: Stack) -> None:
    lost = own.primary.pid
    (own.primary.data_dir / "postmaster.pid").unlink()
    again = restart(own)
    assert again.primary.pid not in (None, lost)
    assert lost is not None
    assert started_at(lost) is None


def test_a_half_made_standby_is_made_again(own: Stack) -> None:
    standby = own.replicas[0]
    standby.kill()
    shutil.rmtree(standby.data_dir)
    (standby.data_dir.with_suffix(".new") / "base").mkdir(parents=True)
    again = restart(own)
    assert answers(again, "SELECT pg_is_in_recovery()") == [(True,)]
    assert not standby.data_dir.with_suffix(".new").exists()


def test_a_promoted_standby_is_made_again(own: Stack) -> None:
    with superuser_connection(own.replicas[0]) as connection:
        assert connection.execute("SELECT pg_promote()").fetchone() == (True,)
        connection.execute("CREATE TABLE diverged (id int)")
    again = restart(own)
    assert answers(again, "SELECT pg_is_in_recovery(), to_regclass('diverged')") == [(True, None)]


def test_a_standby_whose_primary_moved_follows_it(own: Stack) -> None:
    own.stop()
    moved = start_stack(StackOptions(own.data_dir, replicas=1, shards=0, port=14_321))
    assert [server.port for server in moved.servers()] == [14_321, 14_322, 14_323]
    assert answers(moved, "SELECT pg_is_in_recovery()") == [(True,)]


def test_surplus_standbys_go_with_their_slots(own: Stack) -> None:
    smaller = start_stack(StackOptions(own.data_dir, replicas=0, shards=0, redis=False))
    assert not own.replicas[0].running
    assert own.redis is not None
    assert not own.redis.running
    assert list(smaller.servers()) == [smaller.primary]
    with superuser_connection(smaller.primary) as connection:
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)


def test_what_a_killed_process_left_running_is_taken_over(own: Stack) -> None:
    data_dir = own.data_dir.with_name("orphaned")
    died = subprocess.run([sys.executable, "-c", STARTS_AND_DIES, data_dir], check=False)
    assert died.returncode == -signal.SIGKILL
    options = StackOptions(data_dir, replicas=0, shards=0, durable=False)
    with start_stack(options) as taken_over:
        assert not taken_over.attached
        primary = taken_over.primary
        assert primary.running
    assert not primary.running
    taken_over.remove()


def test_a_stack_of_a_living_process_is_left_alone(own: Stack) -> None:
    code = STARTS_AND_DIES.replace("os.kill(os.getpid(), 9)", "")
    done = subprocess.run(
        [sys.executable, "-c", code, own.data_dir], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"belongs to process {os.getpid()}" in done.stderr
    assert own.replicas[0].running


def test_a_detached_stack_stays_up_for_its_next_users(private_stack: PrivateStack) -> None:
    own = private_stack(replicas=0)
    own.stop()
    options = StackOptions(own.data_dir, replicas=0, shards=0, redis=False, detach=True)
    first = start_stack(options)
    assert not first.attached
    with start_stack(StackOptions(own.data_dir, replicas=0, shards=0, redis=False)) as second:
        assert second.attached
    assert first.primary.running


def test_a_taken_port_is_named(own: Stack) -> None:
    own.stop()
    squatter = subprocess.Popen(
        [sys.executable, "-m", "http.server", "14400", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: _connects(14_400))
        with pytest.raises(LocalStackError, match=r"primary did not start on 127\.0\.0\.1:14400"):
            start_stack(StackOptions(own.data_dir, replicas=1, shards=0, port=14_400))
    finally:
        squatter.kill()
        squatter.wait()
    assert not any(server.running for server in own.servers())


def test_the_end_of_a_process_ends_its_stacks(own: Stack) -> None:
    root = own.data_dir.with_name("watched-root")
    root.mkdir(mode=0o711)
    stack = start_stack(
        StackOptions(root / "stack", replicas=0, shards=0, durable=False, detach=True)
    )
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    start_watcher(root, owner.pid)
    time.sleep(1.0)
    assert stack.primary.running
    owner.kill()
    owner.wait()
    wait_for(lambda: not root.exists())
    assert not stack.primary.running
    assert stack.redis is not None
    assert not stack.redis.running


def test_no_permission_above_the_stack_is_changed(own: Stack) -> None:
    def modes(path: Path) -> list[int]:
        return [part.stat().st_mode for part in path.parents]

    before = modes(own.data_dir)
    restart(own).stop()
    assert modes(own.data_dir) == before


def test_the_state_file_is_for_its_owner_alone(own: Stack) -> None:
    state_file = own.layout.state_file
    assert state_file.stat().st_mode & 0o077 == 0
    state = read_state(state_file)
    assert state is not None
    assert state.superuser_password == own.superuser_password


def test_a_stack_whose_state_is_lost_is_made_anew(own: Stack) -> None:
    own.layout.state_file.unlink()
    again = restart(own)
    assert own.primary.superuser_password != again.superuser_password
    with psycopg.connect(again.primary.dsn("postgres")) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)


def test_a_stack_whose_state_is_broken_can_be_removed(own: Stack) -> None:
    own.layout.state_file.write_text("{")
    with pytest.raises(LocalStackError, match="local reset"):
        restart(own)
    own.remove()
    assert not own.data_dir.exists()
    assert not any(server.running for server in own.servers())


def test_data_of_shards_no_longer_in_use_go_with_the_stack(private_stack: PrivateStack) -> None:
    own = private_stack(replicas=0, shards=1)
    fewer = start_stack(StackOptions(own.data_dir, replicas=0, shards=0, redis=False))
    assert own.shards[0].data_dir.exists()
    fewer.remove()
    assert not own.data_dir.exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm here")
@pytest.mark.parametrize("fault", ["removed while up", "killed first"])
def test_no_shared_memory_outlives_the_stack(own: Stack, fault: str) -> None:
    ours = [memory_of(server) for server in own.postgres]
    if fault == "killed first":
        for server in own.postgres:
            server.kill()
    assert all(exists(memory) for memory in ours)
    own.remove()
    assert not any(exists(memory) for memory in ours)


def memory_of(server: PostgresServer) -> tuple[int, list[Path]]:
    """The id of the server's System V segment, and its files of POSIX shared memory."""
    line = (server.data_dir / "postmaster.pid").read_text().splitlines()[6]
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    files = sorted(set(re.findall(r"/dev/shm/PostgreSQL\.\d+", maps)))
    return int(line.split()[1]), [Path(file) for file in files]


def exists(memory: tuple[int, list[Path]]) -> bool:
    segment, files = memory
    table = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    known = segment in {int(line.split()[1]) for line in table}
    return known or any(file.exists() for file in files)


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
