"""What the change feed does where something fails, step by step."""

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.local.stack import Stack
from tests.databases import Database, fresh_database, superuser_connection
from tests.integration.cache.feed.feeds import (
    FEED,
    RULE,
    SCHEMA,
    Reader,
    consumed,
    eventually,
    fed_proxy,
    feed_command,
    metric,
    prepare,
    samples,
    trusted,
)
from tests.proxies import Proxy
from tests.stacks import PrivateStack

SQL = "SELECT version FROM c_plain WHERE id = 1"
SLOTS = "SELECT count(*) FROM pg_replication_slots WHERE database = %s"


@pytest.fixture(scope="module")
def own(module_private_stack: PrivateStack) -> Stack:
    """One replica, which the last test promotes."""
    return module_private_stack(replicas=1, redis=True)


@pytest.fixture
def fed(own: Stack, tmp_path: Path) -> Iterator[Database]:
    """A database that is set up for a feed, with `user` as the superuser."""
    with fresh_database(own, f"fed_{uuid.uuid4().hex[:8]}") as database:
        prepare(database, SCHEMA)
        done = feed_command(database, tmp_path, "setup", user="postgres", extra=FEED + RULE)
        assert done.returncode == 0, done.stdout + done.stderr
        yield database


def slots(database: Database) -> int:
    with superuser_connection(database.stack.primary) as primary:
        found = primary.execute(SLOTS, [database.name]).fetchone()
    assert found is not None
    return int(found[0])


def write(database: Database, version: int) -> None:
    """Past the proxy."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("UPDATE c_plain SET version = %s WHERE id = 1", [version])


def test_a_commit_that_waits_for_a_standby(fed: Database, own: Stack, tmp_path: Path) -> None:
    """It comes over the feed before anybody can see it: what is read and kept meanwhile must not
    outlive it."""

    def wait_for_nobody() -> None:
        with psycopg.connect(fed.dsn()) as connection:
            connection.execute("SET synchronous_commit = on")
            connection.execute("UPDATE c_plain SET version = 1 WHERE id = 1")
            connection.commit()

    with (
        fed_proxy(fed, tmp_path) as proxy,
        Reader(proxy) as reader,
        superuser_connection(own.primary) as admin,
    ):
        assert reader.keep(SQL) == [(0,)]
        before = metric(proxy, "penstock_cache_feed_transactions_total")
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            eventually(
                lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == ("nobody",),
                "the server waits for a standby",
            )
            writer = threading.Thread(target=wait_for_nobody)
            writer.start()
            eventually(
                lambda: metric(proxy, "penstock_cache_feed_transactions_total") > before,
                "the commit has come over the feed",
            )
            assert reader.keep(SQL) == [(0,)]
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
        writer.join(20)
        reader.sees(SQL, [(1,)])


def test_a_slot_that_grows_too_large(fed: Database, own: Stack, tmp_path: Path) -> None:
    """While Redis is away nothing can be invalidated, so nothing is confirmed."""
    assert own.redis is not None
    feed = FEED + 'max_slot_size = "8MB"\n'
    with fed_proxy(fed, tmp_path, feed=feed) as proxy, Reader(proxy) as reader:
        assert reader.keep(SQL) == [(0,)]
        assert slots(fed) == 1
        own.redis.kill()
        try:
            with psycopg.connect(fed.dsn(), autocommit=True) as connection:
                connection.execute("CREATE TABLE s_ballast (id serial PRIMARY KEY, filling text)")
                for _ in range(20):
                    connection.execute(
                        "INSERT INTO s_ballast (filling) SELECT repeat(md5(n::text), 31) "
                        "FROM generate_series(1, 1000) AS n"
                    )
            eventually(lambda: slots(fed) == 0, "the slot is dropped")
            write(fed, 5)
            assert reader.read(SQL) == [(5,)]
        finally:
            own.redis.start()
        eventually(lambda: metric(proxy, "penstock_cache_up") == 1, "Redis is back")
        eventually(lambda: _told(proxy, "max_slot_size"), "the reason is shown")
        write(fed, 6)
        assert reader.read(SQL) == [(6,)]
        assert not trusted(proxy)
        assert slots(fed) == 0
        status = feed_command(fed, tmp_path, "status", extra=feed + RULE)
        assert status.returncode == 1
        assert "the feed was turned off: its slot" in status.stdout

        again = feed_command(fed, tmp_path, "setup", user="postgres", extra=feed + RULE)
        assert "may be read again" in again.stdout, again.stdout + again.stderr
        eventually(lambda: trusted(proxy), "the feed is trusted again")
        reader.sees(SQL, [(6,)])
        write(fed, 7)
        reader.sees(SQL, [(7,)])


def _told(proxy: Proxy, words: str) -> bool:
    """Whether SHOW CACHE says so of the feed."""
    with psycopg.connect(proxy.dsn("penstock"), autocommit=True) as console:
        rows = console.execute("SHOW CACHE", prepare=False).fetchall()
    return any(row[0] == "feed" and words in str(row) for row in rows)


def test_a_proxy_that_was_away(fed: Database, tmp_path: Path) -> None:
    """What was written meanwhile is in the slot; entries of before are still in Redis."""
    with fed_proxy(fed, tmp_path) as proxy, Reader(proxy) as reader:
        assert reader.keep(SQL) == [(0,)]
    assert slots(fed) == 1
    write(fed, 3)
    with fed_proxy(fed, tmp_path) as proxy, Reader(proxy) as reader:
        assert reader.read(SQL) == [(3,)]
        assert metric(proxy, "penstock_cache_feed_restarts_total") == 0
        assert metric(proxy, "penstock_cache_feed_transactions_total") >= 1


def test_without_a_publication_the_cache_is_passed_by(fed: Database, tmp_path: Path) -> None:
    dropped = feed_command(fed, tmp_path, "drop", user="postgres", extra=FEED + RULE)
    assert dropped.returncode == 0, dropped.stdout + dropped.stderr
    with pytest.raises(AssertionError, match="no publication"), fed_proxy(fed, tmp_path):
        pass


def test_a_feed_that_stands_still_is_not_trusted(fed: Database, own: Stack, tmp_path: Path) -> None:
    """The walsender is stopped: nothing tells that it lags but the primary's position."""
    feed = FEED + 'max_lag = "300ms"\n'
    with (
        fed_proxy(fed, tmp_path, feed=feed) as proxy,
        Reader(proxy) as reader,
        superuser_connection(own.primary) as admin,
    ):
        assert reader.keep(SQL) == [(0,)]
        found = admin.execute(
            "SELECT active_pid FROM pg_replication_slots WHERE database = %s", [fed.name]
        ).fetchone()
        assert found is not None
        _signal(found[0], signal.SIGSTOP)
        try:
            write(fed, 4)
            eventually(lambda: not trusted(proxy), "the lag is noticed")
            assert reader.read(SQL) == [(4,)]
            assert any("lags" in labels for labels in _bypasses(proxy))
        finally:
            _signal(found[0], signal.SIGCONT)
        eventually(lambda: trusted(proxy), "trusted again")
        reader.sees(SQL, [(4,)])


def _signal(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)


def _bypasses(proxy: Proxy) -> list[str]:
    return [
        labels for labels, value in samples(proxy, "penstock_cache_bypasses_total").items() if value
    ]


def test_a_promoted_primary(fed: Database, own: Stack, tmp_path: Path) -> None:
    """Its slot is made, and as nobody knows what happened before, everything is invalidated."""
    (replica,) = own.replicas
    with fed_proxy(fed, tmp_path) as proxy, Reader(proxy) as reader:
        assert reader.keep(SQL) == [(0,)]
        with superuser_connection(own.primary) as primary:
            target = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
        with superuser_connection(replica) as standby:
            eventually(
                lambda: (
                    standby.execute("SELECT pg_last_wal_replay_lsn() >= %s", target).fetchone()
                    == (True,)
                ),
                "the standby has everything",
            )
            standby.execute("SELECT pg_promote()")
        with psycopg.connect(fed.dsn(replica), autocommit=True) as connection:
            connection.execute("UPDATE c_plain SET version = 8 WHERE id = 1")
        text = proxy.config_file.read_text()
        changed = "\n".join(
            line.replace(f"port = {own.primary.port}", f"port = {replica.port}")
            for line in text.splitlines()
            if not line.startswith(("hosts =", f'[database."{fed.name}".replicas]'))
        )
        assert changed != text
        proxy.config_file.write_text(changed)
        proxy.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: (
                metric(proxy, "penstock_cache_feed_takeovers_total") >= 1
                and metric(proxy, "penstock_cache_feed_lag_bytes") >= 0
                and consumed(proxy)
                and _read_on(replica.port, fed)
            ),
            "the new primary's slot is read",
        )
        eventually(lambda: trusted(proxy), "trusted")
        reader.sees(SQL, [(8,)])
        reader.keep(SQL)
        with psycopg.connect(fed.dsn(replica), autocommit=True) as connection:
            connection.execute("UPDATE c_plain SET version = 9 WHERE id = 1")
        reader.sees(SQL, [(9,)])
        with superuser_connection(replica) as promoted:  # or the database could not be dropped
            promoted.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
            )


def _read_on(port: int, database: Database) -> bool:
    (replica,) = database.stack.replicas
    assert replica.port == port
    with superuser_connection(replica) as promoted:
        found = promoted.execute(
            "SELECT active FROM pg_replication_slots WHERE database = %s", [database.name]
        ).fetchone()
    return found == (True,)
