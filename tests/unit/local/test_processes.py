"""Only processes that show themselves to be ours are touched."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from proxy.local import processes
from proxy.local.errors import LocalStackError


def test_a_stranger_is_not_taken_for_a_server(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()", tmp_path], stdin=subprocess.PIPE)
    try:
        assert processes.find(stranger.pid, tmp_path) is None
        assert processes.find_strays([tmp_path]) == []
        assert processes.kill_strays([tmp_path]) == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


def test_a_server_is_known_by_its_directory(tmp_path: Path) -> None:
    # Any program can be called postgres; this one waits for input.
    program = tmp_path / "postgres"
    program.symlink_to("/bin/sh")
    data_dir = tmp_path / "data"
    server = subprocess.Popen([program, "-s", "--", "-D", data_dir], stdin=subprocess.PIPE, cwd="/")
    try:
        deadline = time.monotonic() + 10  # its name is its own only when it has been loaded
        while (found := processes.find(server.pid, data_dir)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert found.pid == server.pid
        assert processes.find(server.pid, tmp_path / "other") is None
        assert processes.find(server.pid, tmp_path / "dat") is None
        assert [stray.pid for stray in processes.find_strays([data_dir])] == [server.pid]
        assert processes.kill_strays([data_dir]) == 1
        assert processes.started_at(server.pid) is None
    finally:
        server.kill()
        server.communicate()


def test_a_process_that_nobody_reaped_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.wait_gone([process], timeout=2)
    assert processes.started_at(child.pid) is None
    child.wait()


def test_one_that_ignores_the_signal_is_killed() -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(flush=True); signal.pause()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    processes.end(psutil.Process(child.pid), signal.SIGTERM, timeout=0.2)
    assert processes.started_at(child.pid) is None
    child.communicate()


def test_a_failing_program_is_quoted() -> None:
    with pytest.raises(LocalStackError, match=r"(?s)primary: start: sh failed:.*broken"):
        processes.run(["sh", "-c", "echo broken >&2; exit 3"], account=None, doing="primary: start")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(LocalStackError, match="/no/such/program could not be run"):
        processes.run(["/no/such/program"], account=None, doing="primary: start")


def test_libpqs_environment_is_kept_from_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "production.example")
    said = processes.run(["env"], account=None, doing="env")
    assert "production.example" not in said
