"""Session pooling: a client keeps its server connection until it leaves."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database, superuser_connection
from tests.proxies import Proxy, running_proxy

SESSION_POOLING = '[pool]\nmode = "session"\nsize = 2\n'


@pytest.fixture
def pooled(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    """Two server connections, each for one client at a time."""
    with running_proxy(database, tmp_path, extra=SESSION_POOLING) as proxy:
        yield proxy


def connect(proxy: Proxy) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(proxy.dsn(), autocommit=True)


def test_reads_and_writes_share_one_connection_to_the_primary(pooled: Proxy) -> None:
    with connect(pooled) as client:
        first = client.execute("SELECT pg_backend_pid(), pg_is_in_recovery()").fetchone()
        client.execute("CREATE TABLE written (id int)")
        client.execute("INSERT INTO written VALUES (1)")
        assert client.execute("SELECT count(*) FROM written").fetchone() == (1,)
        assert client.execute("SELECT pg_backend_pid(), false").fetchone() == first


def test_state_lasts_as_long_as_the_client_and_no_longer(pooled: Proxy) -> None:
    with connect(pooled) as client:
        client.execute("SET work_mem = '5MB'")
        client.execute("SET my.tenant = '7'")
        client.execute("CREATE TEMP TABLE mine (id int)")
        client.execute("PREPARE three AS SELECT 3")
        client.execute("SELECT pg_advisory_lock(4711)")
        assert client.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert client.execute("SELECT current_setting('my.tenant')").fetchone() == ("7",)
        assert client.execute("EXECUTE three").fetchone() == (3,)
        assert client.execute("SELECT count(*) FROM mine").fetchone() == (0,)
    for _ in range(3):
        with connect(pooled) as other:
            assert other.execute("SHOW work_mem").fetchone() != ("5MB",)
            tenant = other.execute("SELECT current_setting('my.tenant', true)").fetchone()
            assert tenant in ((None,), ("",))
            assert other.execute("SELECT to_regclass('pg_temp.mine')").fetchone() == (None,)
            other.execute(
                "SET statement_timeout = '20s'"
            )  # a server ends a session in its own time
            other.execute("SELECT pg_advisory_lock(4711)")


def wait_until_cleaned(proxy: Proxy, connections: int) -> None:
    """Until so many of the pool's connections are as those whom they were lent to found them."""
    cleaned = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = %s "
        "AND query = 'DISCARD ALL' AND state = 'idle'"
    )
    own = (proxy.database.name, proxy.database.user)
    with superuser_connection(proxy.database.stack.primary) as connection:
        deadline = time.monotonic() + 10
        while connection.execute(cleaned, own).fetchone() != (connections,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_client_that_connects_anew_gets_another_server_process(pooled: Proxy) -> None:
    with connect(pooled) as one, connect(pooled) as two:
        processes = {one.info.backend_pid, two.info.backend_pid}
    before = 0
    for _ in range(4):
        wait_until_cleaned(pooled, len(processes))
        with connect(pooled) as client:
            assert client.info.backend_pid in processes - {before}
            before = client.info.backend_pid


def test_a_client_waits_until_another_leaves(pooled: Proxy) -> None:
    one, two = connect(pooled), connect(pooled)
    for client in (one, two):
        client.execute("SELECT 1")
    answers: list[object] = []

    def third() -> None:
        with connect(pooled) as client:
            answers.append(client.execute("SELECT 3").fetchone())

    waiting = threading.Thread(target=third)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    assert not answers
    one.close()
    waiting.join(20)
    assert answers == [(3,)]
    two.close()


@pytest.mark.parametrize("statement", ["SET timezone = 'UTC'", "BEGIN; RESET ALL; COMMIT"])
def test_no_notification_is_lost_in_between(pooled: Proxy, statement: str) -> None:
    """Also not while Penstock asks the server for the session's settings."""
    sent = 300
    with (
        psycopg.connect(pooled.dsn(), options="-c datestyle=German", autocommit=True) as listener,
        psycopg.connect(pooled.dsn(), autocommit=True) as other,
    ):
        listener.execute("LISTEN news")
        heard: list[str] = []
        listener.add_notify_handler(lambda notice: heard.append(notice.payload))

        def notifies() -> None:
            for number in range(sent):
                other.execute("SELECT pg_notify('news', %s)", [str(number)])

        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(notifies)
            while not sending.done():
                listener.execute(statement)
            sending.result()
        deadline = time.monotonic() + 20
        while len(heard) < sent and time.monotonic() < deadline:
            listener.execute("SELECT 1")
        assert heard == [str(number) for number in range(sent)]
