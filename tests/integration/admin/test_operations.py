"""PAUSE, RESUME, RECONNECT, KILL and the like, on a running Penstock."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.integration.admin.operating import operator, rows, state, until, waiting
from tests.proxies import Proxy

Console = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def console(module_proxy: Proxy) -> Iterator[Console]:
    with operator(module_proxy) as one:
        yield one
        with contextlib.suppress(psycopg.Error):
            one.execute("RESUME")
        one.execute(f'ENABLE "{module_proxy.database.name}"')


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def client(proxy: Proxy, **parameters: str) -> psycopg.Connection[Any]:
    return psycopg.connect(proxy.dsn(**parameters), autocommit=True)


def asks(thread: ThreadPoolExecutor, one: psycopg.Connection[Any]) -> "Future[Any]":
    return thread.submit(lambda: one.execute("SELECT pg_backend_pid()").fetchone())


def servers(console: Console) -> list[dict[str, Any]]:
    return rows(console, "SHOW SERVERS")


def test_pause_waits_for_transactions_and_resume_goes_on(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    with client(module_proxy) as busy, client(module_proxy) as other:
        busy.execute("BEGIN")
        busy.execute("SELECT txid_current()")
        paused = thread.submit(console.execute, "PAUSE")
        with operator(module_proxy) as second:
            until(lambda: state(second)["paused"] == "yes", "the pause")
            answer = asks(thread, other)
            until(lambda: waiting(second) == 1, "a client that waits")
            assert not paused.done()
            busy.execute("SELECT 1")  # the transaction is not disturbed
            busy.execute("COMMIT")
            paused.result(20)
            assert servers(second) == []
            assert not answer.done()
            [pool] = rows(second, "SHOW DATABASES")
            assert pool["paused"] == 1
            second.execute("RESUME")
            assert answer.result(20)
            assert state(second) == {"active": "yes", "paused": "no", "suspended": "no"}


def test_pause_of_one_database(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    name = module_proxy.database.name
    with client(module_proxy) as one:
        one.execute("SELECT 1")
        console.execute(f'PAUSE "{name}"')
        assert state(console)["paused"] == "no"
        assert servers(console) == []
        answer = asks(thread, one)
        until(lambda: waiting(console) == 1, "a client that waits")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="paused already"):
            console.execute(f'PAUSE "{name}"')
        console.execute(f'RESUME "{name}"')
        assert answer.result(20)


def test_a_new_client_of_a_paused_database_waits(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    console.execute("PAUSE")
    late = thread.submit(client, module_proxy, application_name="unseen")
    until(lambda: waiting(console) == 1, "a login that waits")
    console.execute("RESUME")
    with late.result(20) as one:
        assert one.execute("SELECT 1").fetchone() == (1,)


def test_a_canceled_pause_is_undone(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    with client(module_proxy) as busy, operator(module_proxy) as second:
        busy.execute("BEGIN")
        busy.execute("SELECT txid_current()")
        paused = thread.submit(console.execute, "PAUSE")
        until(lambda: state(second)["paused"] == "yes", "the pause")
        console.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            paused.result(20)
        assert state(second)["paused"] == "no"
        busy.execute("COMMIT")
        assert busy.execute("SELECT 1").fetchone() == (1,)


def test_a_client_may_cancel_what_waits_for_resume(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    with client(module_proxy) as one:
        one.execute("SELECT 1")
        console.execute("PAUSE")
        answer = asks(thread, one)
        until(lambda: waiting(console) == 1, "a client that waits")
        one.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            answer.result(20)


def test_a_pause_that_lasts_too_long_is_the_reason_given(
    module_proxy: Proxy, console: Console
) -> None:
    with client(module_proxy) as one:
        one.execute("SELECT 1")
        console.execute("SET pool.wait_timeout = '100ms'")
        console.execute("PAUSE")
        with pytest.raises(psycopg.errors.CannotConnectNow, match=r"was paused for longer than"):
            one.execute("SELECT 1")
        console.execute("RESUME")
        console.execute("RELOAD")
        assert one.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("command", "sqlstate", "said"),
    [
        ("RESUME", "55000", "neither paused nor suspended"),
        ("PAUSE nowhere", "3D000", '"nowhere" does not exist'),
        ("RESUME nowhere", "3D000", '"nowhere" does not exist'),
        ("KILL nowhere", "3D000", '"nowhere" does not exist'),
        ("DISABLE nowhere", "3D000", '"nowhere" does not exist'),
        ("RECONNECT nowhere", "3D000", '"nowhere" does not exist'),
        ("KILL_CLIENT 1", "42704", "no client with the id 1"),
        ("SHUTDOWN LATER", "42601", "no such way"),
        ("SHOW FDS", "0A000", "SHOW SOCKETS"),
    ],
)
def test_what_cannot_be_done_says_why(
    console: Console, command: str, sqlstate: str, said: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        console.execute(command)
    assert caught.value.sqlstate == sqlstate
    assert said in str(caught.value)


def test_reconnect_replaces_servers_as_they_are_released(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    with client(module_proxy) as one:
        one.execute("BEGIN")
        held = one.execute("SELECT pg_backend_pid(), txid_current()").fetchone()
        assert held is not None
        console.execute("RECONNECT")
        [server] = [row for row in servers(console) if row["close_needed"]]
        assert server["remote_pid"] == held[0]
        waited = thread.submit(console.execute, "WAIT_CLOSE")
        assert one.execute("SELECT pg_backend_pid()").fetchone() == held[:1]
        assert not waited.done()
        one.execute("COMMIT")
        waited.result(20)
        one.execute("BEGIN")
        fresh = one.execute("SELECT pg_backend_pid(), txid_current()").fetchone()
        assert fresh is not None
        assert fresh[0] != held[0]
        one.execute("COMMIT")


def test_disable_refuses_new_clients_and_keeps_those_that_are_there(
    module_proxy: Proxy, console: Console
) -> None:
    name = module_proxy.database.name
    with client(module_proxy) as one:
        console.execute(f'DISABLE "{name}"')
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            client(module_proxy)
        assert one.execute("SELECT 1").fetchone() == (1,)
        assert rows(console, "SHOW DATABASES")[0]["disabled"] == 1
        console.execute(f'ENABLE "{name}"')
        with client(module_proxy) as another:
            assert another.execute("SELECT 1").fetchone() == (1,)


def test_kill_drops_clients_and_servers_and_new_clients_wait(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    name = module_proxy.database.name
    with client(module_proxy) as idle, client(module_proxy) as busy:
        idle.execute("SELECT 1")
        busy.execute("BEGIN")
        busy.execute("SELECT txid_current()")
        running = thread.submit(client(module_proxy).execute, "SELECT pg_sleep(60)")
        until(
            lambda: sum(row["state"] == "active" for row in servers(console)) >= 2, "a long query"
        )
        console.execute(f'KILL "{name}"')
        with pytest.raises(psycopg.errors.AdminShutdown, match="due to administrator command"):
            running.result(20)
        for one in (idle, busy):
            with pytest.raises(psycopg.OperationalError):
                one.execute("SELECT 1")
        assert servers(console) == []
        assert [row["database"] for row in rows(console, "SHOW CLIENTS")] == ["penstock"]
    late = thread.submit(client, module_proxy)
    with late.result(20) as one:  # logs in from memory, and waits with its first query
        answer = asks(thread, one)
        until(lambda: waiting(console) == 1, "a client that waits")
        console.execute(f'RESUME "{name}"')
        assert answer.result(20)


def test_kill_client_drops_that_one(module_proxy: Proxy, console: Console) -> None:
    with (
        client(module_proxy, application_name="victim") as victim,
        client(module_proxy, application_name="bystander") as bystander,
    ):
        [row] = [r for r in rows(console, "SHOW CLIENTS") if r["application_name"] == "victim"]
        console.execute(f"KILL_CLIENT {row['id']}")
        with pytest.raises(psycopg.errors.AdminShutdown):
            victim.execute("SELECT 1")
        assert bystander.execute("SELECT 1").fetchone() == (1,)


def test_suspend_keeps_servers_and_holds_every_query(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    with client(module_proxy) as free, client(module_proxy) as inside:
        free.execute("SELECT 1")
        inside.execute("BEGIN")
        inside.execute("SELECT txid_current()")
        before = {row["remote_pid"] for row in servers(console)}
        console.execute("SUSPEND")
        assert state(console)["suspended"] == "yes"
        answers = [asks(thread, free), asks(thread, inside)]
        assert {row["remote_pid"] for row in servers(console)} == before
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="suspended already"):
            console.execute("PAUSE")
        assert not any(answer.done() for answer in answers)
        console.execute("RESUME")
        for answer in answers:
            assert answer.result(20)
        inside.execute("COMMIT")


def test_statistics_know_transactions_waits_and_assignments(
    module_proxy: Proxy, console: Console, thread: ThreadPoolExecutor
) -> None:
    client(module_proxy).close()  # what this user is told at login is known from now on
    [before] = rows(console, "SHOW STATS")
    with client(module_proxy) as one:
        one.execute("BEGIN")
        one.execute("SELECT txid_current()")
        one.execute("SELECT pg_sleep(0.05)")
        one.execute("COMMIT")
        console.execute("PAUSE")
        answer = asks(thread, one)
        until(lambda: waiting(console) == 1, "a client that waits")
        console.execute("RESUME")
        answer.result(20)
    [after] = rows(console, "SHOW STATS")

    def grown(name: str) -> int:
        return int(after[name] - before[name])

    assert grown("total_xact_count") == 2
    assert grown("total_query_count") == 5
    assert grown("total_server_assignment_count") == 2
    assert grown("total_xact_time") >= grown("total_query_time") >= 50_000
    assert grown("total_wait_time") > 0
    totals = {row["name"]: row["value"] for row in rows(console, "SHOW TOTALS")}
    assert totals["total_xact_count"] == after["total_xact_count"]
