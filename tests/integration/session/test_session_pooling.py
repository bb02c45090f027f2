"""Session pooling: a client keeps its server connection until it leaves."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database
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


def test_a_client_that_connects_anew_gets_another_server_process(pooled: Proxy) -> None:
    with connect(pooled) as one, connect(pooled) as two:
        processes = {one.info.backend_pid, two.info.backend_pid}
    before = 0
    for _ in range(4):
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
