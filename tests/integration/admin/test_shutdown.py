"""The ends of a process, and a restart that no client notices."""

import contextlib
import re
import signal
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database
from tests.integration.admin.operating import PATIENCE, operator, rows, until
from tests.proxies import Proxy, running_proxy


def ended(proxy: Proxy) -> int | None:
    return proxy.process.poll()


def refuses(proxy: Proxy) -> bool:
    try:
        socket.create_connection((proxy.host, proxy.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_shutdown_wait_for_clients_serves_them_until_they_leave(proxy: Proxy) -> None:
    with operator(proxy) as console:
        with psycopg.connect(proxy.dsn(), autocommit=True) as one:
            console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
            until(lambda: refuses(proxy), "the end of listening")
            for _ in range(3):
                assert one.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="already"):
                console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
            assert ended(proxy) is None
        assert proxy.process.wait(PATIENCE) == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            console.execute("SHOW VERSION")


def test_a_cancel_request_is_no_client_to_wait_for(proxy: Proxy) -> None:
    with operator(proxy) as console:
        with psycopg.connect(proxy.dsn(), autocommit=True) as one:
            one.cancel()
            assert one.execute("SELECT 1").fetchone() == (1,)
        console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
        assert proxy.process.wait(PATIENCE) == 0


def test_a_connection_that_has_begun_is_waited_for(proxy: Proxy) -> None:
    with operator(proxy) as console, socket.create_connection((proxy.host, proxy.port)) as begun:
        begun.sendall(struct.pack(">II", 8, 80877103))  # SSLRequest
        assert begun.recv(1) == b"N"
        console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
        until(lambda: refuses(proxy), "the end of listening")
        assert ended(proxy) is None
        begun.close()
        assert proxy.process.wait(PATIENCE) == 0


def test_shutdown_wait_for_servers_lets_transactions_end(proxy: Proxy) -> None:
    with (
        operator(proxy) as console,
        psycopg.connect(proxy.dsn()) as busy,
        psycopg.connect(proxy.dsn(), autocommit=True) as late,
        ThreadPoolExecutor(1) as thread,
    ):
        busy.execute("SELECT txid_current()")
        console.execute("SHUTDOWN WAIT_FOR_SERVERS")
        answer = thread.submit(late.execute, "SELECT 1")
        with pytest.raises(psycopg.errors.AdminShutdown):  # it would wait for ever
            answer.result(PATIENCE)
        assert busy.execute("SELECT 1").fetchone() == (1,)
        assert ended(proxy) is None
        busy.commit()
        assert proxy.process.wait(PATIENCE) == 0


def test_shutdown_ends_at_once(proxy: Proxy) -> None:
    with operator(proxy) as console, psycopg.connect(proxy.dsn()) as busy:
        busy.execute("SELECT txid_current()")
        console.execute("SHUTDOWN")
        assert proxy.process.wait(PATIENCE) == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            busy.execute("SELECT 1")


def test_shutdown_at_once_overtakes_one_that_waits(proxy: Proxy) -> None:
    with operator(proxy) as console, psycopg.connect(proxy.dsn()) as busy:
        busy.execute("SELECT txid_current()")
        console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
        console.execute("SHUTDOWN")
        assert proxy.process.wait(PATIENCE) == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            busy.execute("SELECT 1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_transaction_end(proxy: Proxy, number: signal.Signals) -> None:
    with psycopg.connect(proxy.dsn()) as busy:
        busy.execute("SELECT txid_current()")
        proxy.process.send_signal(number)
        until(lambda: refuses(proxy), "the end of listening")
        assert busy.execute("SELECT 1").fetchone() == (1,)
        busy.commit()
        busy.close()
        assert proxy.process.wait(PATIENCE) == 0


def test_sigterm_waits_no_longer_than_it_may(database: Database, tmp_path: Path) -> None:
    environment = {
        "PENSTOCK_SERVER__DRAIN_TIMEOUT": "200ms",
        "PENSTOCK_SERVER__SHUTDOWN_TIMEOUT": "200ms",
    }
    with (
        running_proxy(database, tmp_path, environment=environment) as proxy,
        psycopg.connect(proxy.dsn()) as busy,
        psycopg.connect(proxy.dsn()) as idle,
    ):
        busy.execute("SELECT txid_current()")
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(PATIENCE) == 0
        for one in (busy, idle):
            with pytest.raises(psycopg.errors.AdminShutdown):
                one.execute("SELECT 1")


@pytest.mark.parametrize("numbers", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM]])
def test_signals_that_end_at_once(
    database: Database, tmp_path: Path, numbers: list[signal.Signals]
) -> None:
    environment = {
        "PENSTOCK_SERVER__DRAIN_TIMEOUT": "1h",
        "PENSTOCK_SERVER__SHUTDOWN_TIMEOUT": "1h",
    }
    with (
        running_proxy(database, tmp_path, environment=environment) as proxy,
        psycopg.connect(proxy.dsn()) as busy,
    ):
        busy.execute("SELECT txid_current()")
        proxy.process.send_signal(numbers[0])
        until(lambda: refuses(proxy), "the end of listening")
        for number in numbers[1:]:
            proxy.process.send_signal(number)
        assert proxy.process.wait(PATIENCE) == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            busy.execute("SELECT 1")


# A restart

LOAD = ("-T", "30", "-R", "200")
"""As long as a start takes on a busy machine, and not so much that it takes long for that."""


def pgbench(proxy: Proxy, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(proxy.database.stack.pgbench), "-n", *arguments],
        env=proxy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outcome(run: "subprocess.Popen[str]") -> int:
    """Transactions that came through; fails if one did not."""
    output, _ = run.communicate(timeout=90)
    assert run.returncode == 0, output
    done = re.search(r"actually processed: (\d+)", output)
    assert done, output
    assert "number of failed transactions: 0 " in output, output
    assert "aborted" not in output, output
    return int(done[1])


def queries(proxy: Proxy) -> int:
    with operator(proxy) as console:
        return sum(int(row["total_query_count"]) for row in rows(console, "SHOW STATS"))


def test_a_restart_on_the_same_port_drops_no_query(database: Database, tmp_path: Path) -> None:
    shared = {"PENSTOCK_SERVER__REUSE_PORT": "true"}
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(running_proxy(database, tmp_path, environment=shared))
        done = pgbench(old, "-i", "-q")
        assert done.wait(60) == 0
        console = stack.enter_context(operator(old))
        staying = pgbench(old, "-c", "4", *LOAD)
        coming = pgbench(old, "-c", "4", "-C", "-S", *LOAD)
        until(lambda: queries(old) > 100, "load")
        same = {**shared, "PENSTOCK_SERVER__LISTEN": f"{old.host}:{old.port}"}
        new = stack.enter_context(running_proxy(database, tmp_path, environment=same))
        assert new.port == old.port
        console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
        drained = queries(new)  # only the new one is left to connect to
        until(lambda: queries(new) > drained, "load on the new process")
        assert ended(old) is None  # clients that stay are served where they are
        assert outcome(staying) > 0
        assert outcome(coming) > 0
        assert old.process.wait(PATIENCE) == 0


def test_a_restart_by_socket_activation(database: Database, tmp_path: Path) -> None:
    """The manager keeps the socket: what comes while no process runs waits in its backlog."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as manager:
        number = manager.getsockname()[1]
        with running_proxy(database, tmp_path, sockets=[manager]) as old:
            assert old.port == number
            done = pgbench(old, "-i", "-q")
            assert done.wait(60) == 0
            # A thread each: one that waits to be connected must not keep others from leaving.
            coming = pgbench(old, "-c", "4", "-j", "4", "-C", "-S", *LOAD)
            until(lambda: queries(old) > 50, "load")
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(PATIENCE) == 0
        with running_proxy(database, tmp_path, sockets=[manager]) as new:
            until(lambda: queries(new) > 50, "load on the new process")
            assert outcome(coming) > 0


def test_the_service_manager_is_told(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(PATIENCE)
        with running_proxy(database, tmp_path, environment={"NOTIFY_SOCKET": str(path)}) as proxy:
            ready = manager.recv(1000).decode().splitlines()
            assert ready[:2] == ["READY=1", f"MAINPID={proxy.process.pid}"]
            before = time.monotonic_ns() // 1000
            proxy.process.send_signal(signal.SIGHUP)
            reloading = manager.recv(1000).decode().splitlines()
            assert reloading[0] == "RELOADING=1"
            assert int(reloading[1].removeprefix("MONOTONIC_USEC=")) >= before
            assert manager.recv(1000).startswith(b"READY=1")
        assert manager.recv(1000).startswith(b"STOPPING=1")
