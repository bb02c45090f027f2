"""What the service manager is told, and the sockets that it hands over."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.server import systemd
from proxy.server.systemd import ActivationError, activated, notify


def test_notify_by_path_and_by_abstract_name(tmp_path: Path) -> None:
    for address, told in (
        (str(tmp_path / "notify"), str(tmp_path / "notify")),
        (f"\0penstock-{os.getpid()}", f"@penstock-{os.getpid()}"),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.settimeout(5)
            assert notify("READY=1", "MAINPID=7", environ={"NOTIFY_SOCKET": told})
            assert manager.recv(1000) == b"READY=1\nMAINPID=7"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", environ={})
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": str(tmp_path / "nobody")})


def test_messages_of_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(systemd, "notify", lambda *assignments: told.extend(assignments))
    systemd.reloading()
    systemd.ready()
    assert told[0] == "RELOADING=1"
    assert told[1].removeprefix("MONOTONIC_USEC=").isdecimal()
    assert told[3:5] == ["READY=1", f"MAINPID={os.getpid()}"]


def test_sockets_for_another_process_are_left_alone() -> None:
    assert activated({"LISTEN_PID": "1", "LISTEN_FDS": "1"}).sql is None
    assert activated({}).sql is None


CHILD = """
import os, sys
from proxy.server.systemd import ActivationError, activated
environ = {**os.environ, "LISTEN_PID": str(os.getpid())}
try:
    found = activated(environ)
except ActivationError as error:
    sys.exit(str(error))
print(*(one.getsockname()[1] if one else "none" for one in (found.sql, found.http)))
"""


def hand_over(names: str, *sockets: socket.socket) -> subprocess.CompletedProcess[str]:
    """A child gets the sockets as descriptors 3 and following."""
    copies = [os.dup(one.fileno()) for one in sockets]
    moves = " ".join(f"{3 + n}<&{fd}" for n, fd in enumerate(copies))
    environ = {**os.environ, "LISTEN_FDS": str(len(copies)), "LISTEN_FDNAMES": names}
    try:
        return subprocess.run(
            ["bash", "-c", f'exec {moves}; exec "$0" -c "$1"', sys.executable, CHILD],
            pass_fds=copies,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        for fd in copies:
            os.close(fd)


def test_listening_sockets_are_taken_by_their_names() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as sql,
        socket.create_server(("127.0.0.1", 0)) as http,
    ):
        done = hand_over("http:penstock", http, sql)
        assert done.stdout.split() == [str(sql.getsockname()[1]), str(http.getsockname()[1])]


def test_what_is_no_listener_is_refused() -> None:
    with socket.socket() as idle:
        done = hand_over("penstock", idle)
        assert "descriptor 3 is no listening stream socket" in done.stderr


def test_two_of_a_kind_are_refused() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        done = hand_over("a:b", one, other)
        assert "two of them are for sql" in done.stderr


def test_a_count_that_is_none_is_refused() -> None:
    with pytest.raises(ActivationError, match="no number"):
        activated({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "two"})
