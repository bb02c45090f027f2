"""Nothing that write-back has acknowledged is lost or done twice, whatever is killed when.

Writers insert numbered rows into a table without any key, raise their own row's version step by
step, and add to a counter that all share; they note what they were told. Readers at another proxy
must see at least what had been acknowledged when they asked.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from proxy.cache.cluster import slot_of
from proxy.local.stack import Stack
from tests.databases import Database, fresh_database, superuser_connection
from tests.integration.cache.backs import (
    DURABLE,
    RULE,
    direct,
    of_redis,
    prepare,
    ready,
    set_up,
    written,
)
from tests.integration.cache.feed.feeds import eventually, metric
from tests.integration.cache.groups import MASTER, OwnCluster, Watched
from tests.integration.cache.servers import OwnRedis
from tests.proxies import Proxy, running_proxy

WRITERS = 4
SECONDS = 12.0
SCHEMA = """
CREATE TABLE w_log (writer int NOT NULL, number int NOT NULL);
CREATE TABLE w_own (writer int PRIMARY KEY, version int NOT NULL);
CREATE TABLE w_sum (id int PRIMARY KEY, n bigint NOT NULL);
INSERT INTO w_own SELECT n, 0 FROM generate_series(0, 9) n;
INSERT INTO w_sum VALUES (1, 0);
"""
UNTOLD = (psycopg.OperationalError, psycopg.InterfaceError)
"""Of a write that ended so it is not known what became of it."""


@dataclass
class Ledger:
    """What one writer has been told."""

    rows: set[int] = field(default_factory=set)
    """Numbers of rows whose INSERT was acknowledged."""
    tried: set[int] = field(default_factory=set)
    version: int = 0
    """Of its row, as last acknowledged."""
    tried_version: int = 0
    added: int = 0
    maybe_added: int = 0


class Place:
    """A proxy that may be killed and started anew."""

    def __init__(self, start: Callable[[], AbstractContextManager[Proxy]]) -> None:
        self._start = start
        self._context = start()
        self.proxy = self._context.__enter__()

    def kill(self) -> None:
        """SIGKILL, and another in its place."""
        self.proxy.process.kill()
        with suppress(AssertionError):
            self._context.__exit__(None, None, None)
        self._context = self._start()
        self.proxy = self._context.__enter__()

    def end(self) -> None:
        """As an operator would."""
        self._context.__exit__(None, None, None)


class Run:
    """Writers and readers, until `stop`."""

    def __init__(self, place: Place, other: Place) -> None:
        self.ledgers = [Ledger() for _ in range(WRITERS)]
        self.problems: list[str] = []
        self.reads = 0
        self._places = place, other
        self._stopping = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._write, args=(one,)) for one in range(WRITERS)),
            *(threading.Thread(target=self._read, args=(one,)) for one in range(2)),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for all."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    @contextmanager
    def _connection(self, place: Place) -> Iterator[psycopg.Connection]:
        with psycopg.connect(place.proxy.dsn(), autocommit=True, connect_timeout=5) as connection:
            yield connection

    def _write(self, writer: int) -> None:
        mine, number = self.ledgers[writer], 0
        while not self._stopping.is_set():
            with suppress(*UNTOLD), self._connection(self._places[0]) as connection:
                while not self._stopping.is_set():
                    number += 1
                    mine.tried.add(number)
                    connection.execute("INSERT INTO w_log VALUES (%s, %s)", (writer, number))
                    mine.rows.add(number)
                    mine.tried_version = number
                    connection.execute(
                        "UPDATE w_own SET version = %s WHERE writer = %s", (number, writer)
                    )
                    mine.version = number
                    mine.maybe_added += 1
                    connection.execute("UPDATE w_sum SET n = n + 1 WHERE id = 1")
                    mine.added += 1
            time.sleep(0.02)

    def _read(self, reader: int) -> None:
        chance = random.Random(reader)
        while not self._stopping.is_set():
            with suppress(*UNTOLD), self._connection(self._places[1]) as connection:
                while not self._stopping.is_set():
                    self._look(connection, chance.randrange(WRITERS), chance.random() < 0.5)

    def _look(self, connection: psycopg.Connection, writer: int, whole: bool) -> None:
        ledger = self.ledgers[writer]
        if whole:
            told = len(ledger.rows)
            query = f"SELECT count(DISTINCT number) FROM w_log WHERE writer = {writer}"
        else:
            told = ledger.version
            query = f"SELECT version FROM w_own WHERE writer = {writer}"
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        self.reads += 1
        if row[0] < told:
            self.problems.append(f"{query}: {row[0]}, and {told} had been acknowledged")


def check(run: Run, database: Database, least: int = 20) -> None:
    """All that was acknowledged is there, once, in order. `least`: sums that were acknowledged."""
    assert run.problems == []
    counted = Counter(direct(database, "SELECT writer, number FROM w_log"))
    assert [row for row, count in counted.items() if count > 1] == []
    for writer, ledger in enumerate(run.ledgers):
        there = {number for one, number in counted if one == writer}
        assert ledger.rows <= there <= ledger.tried
        ((version,),) = direct(database, f"SELECT version FROM w_own WHERE writer = {writer}")
        assert ledger.version <= version <= ledger.tried_version
    ((total,),) = direct(database, "SELECT n FROM w_sum")
    added = sum(ledger.added for ledger in run.ledgers)
    assert added <= total <= sum(ledger.maybe_added for ledger in run.ledgers)
    assert direct(database, "SELECT count(*) FROM penstock_write_back.rejected") == [(0,)]
    assert added >= least
    assert run.reads > 20


@pytest.fixture
def waiting(servers: Stack, tmp_path: Path) -> Iterator[Database]:
    with fresh_database(servers, f"back_{random.randrange(1 << 30):x}") as database:
        prepare(database, SCHEMA)
        done = set_up(database, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        yield database


@contextmanager
def places(
    database: Database, directory: Path, redis: OwnRedis | dict[str, str], extra: str = ""
) -> Iterator[tuple[Place, Place]]:
    """Two proxies on one Redis; ended in good order, so that nothing is left in Redis."""

    where = redis if isinstance(redis, dict) else of_redis(redis)

    def start() -> AbstractContextManager[Proxy]:
        return running_proxy(database, directory, extra=extra + RULE, environment=where)

    with ExitStack() as cleanup:
        both = Place(start), Place(start)
        for one in both:
            cleanup.callback(one.end)
            eventually(lambda one=one: ready(one.proxy), "writes are taken")  # type: ignore[misc]
        yield both


def test_proxies_are_killed(
    waiting: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    server, back = start_redis(*DURABLE), 0.0
    with places(waiting, tmp_path, server) as (place, other):
        run = Run(place, other)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(random.uniform(0.5, 2.0))
            back += written(place.proxy)
            place.kill()
        run.stop()
    check(run, waiting)
    assert back > 20  # acknowledged by Redis, not by the server


def test_redis_is_killed_and_has_its_log(
    waiting: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    server = start_redis(*DURABLE)
    with places(waiting, tmp_path, server) as (place, other):
        run = Run(place, other)
        for _ in range(4):
            time.sleep(random.uniform(2.0, 3.5))
            server.kill()
            time.sleep(random.uniform(0.0, 0.5))
            server.start()
        eventually(lambda: ready(place.proxy), "writes are taken again")
        time.sleep(1.0)
        run.stop()
        assert written(place.proxy) > 20
    check(run, waiting)


def test_the_connections_that_apply_are_cut(
    waiting: Database, servers: Stack, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    cut = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'penstock write-back'"
    )
    with places(waiting, tmp_path, start_redis(*DURABLE)) as (place, other):
        run = Run(place, other)
        deadline = time.monotonic() + SECONDS
        with superuser_connection(servers.primary) as connection:
            while time.monotonic() < deadline:
                connection.execute(cut)
                time.sleep(random.uniform(0.0, 0.2))
        run.stop()
        assert written(place.proxy) > 20
    check(run, waiting)


def test_sentinels_promote_another(waiting: Database, tmp_path: Path, watched: Watched) -> None:
    behind_sentinels = {
        "PENSTOCK_CACHE__SENTINELS": json.dumps(watched.addresses),
        "PENSTOCK_CACHE__SENTINEL_MASTER": MASTER,
    }
    lose_the_primary(waiting, tmp_path, behind_sentinels, lambda: watched.primary().kill())


def test_a_cluster_promotes_another(waiting: Database, tmp_path: Path, cluster: OwnCluster) -> None:
    nodes = {"PENSTOCK_CACHE__CLUSTER": json.dumps(cluster.addresses)}
    lose_the_primary(waiting, tmp_path, nodes, lambda: cluster.owner(slot_of(b"penstock")).kill())


def lose_the_primary(
    database: Database, directory: Path, where: dict[str, str], kill: Callable[[], None]
) -> None:
    """What was acknowledged is on a replica, and the one that has most is promoted."""
    where |= {"PENSTOCK_CACHE__REDIS": "", "PENSTOCK_CACHE__TIMEOUT": "1s"}
    safe = '[cache.write_back]\ndisk = false\nreplicas = 1\npatience = "60s"\n'
    with places(database, directory, where, safe) as (place, other):
        run = Run(place, other)
        eventually(lambda: written(place.proxy) > 20, "writes are written back")
        kill()
        eventually(lambda: not ready(place.proxy), "it is noticed", 30.0)
        before = written(place.proxy)
        eventually(lambda: ready(place.proxy), "another is found", 60.0)
        eventually(lambda: written(place.proxy) > before, "writes are acknowledged", 60.0)
        time.sleep(2.0)
        run.stop()
    check(run, database, least=7)


def test_who_has_applied_dies_before_he_says_so(
    waiting: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    """What PostgreSQL has is in Redis still: it is found applied, and not applied again."""
    server = start_redis(*DURABLE)
    with places(waiting, tmp_path, server, '[cache.write_back]\ninterval = "600s"\n') as (place, _):
        (stream,) = (key for key in kept(server) if key.endswith(b":b:stream"))
        with psycopg.connect(place.proxy.dsn(), autocommit=True) as connection:
            for number in range(5):
                connection.execute("INSERT INTO w_log VALUES (0, %s)", [number])
            entries = server.client().dump(stream)
            assert connection.execute("SELECT count(*) FROM w_log").fetchone() == (5,)
            server.client().restore(stream, 0, entries, replace=True)
            connection.execute("INSERT INTO w_log VALUES (0, 5)")
            assert connection.execute("SELECT count(*) FROM w_log").fetchone() == (6,)
    assert rows_of_log(waiting) == (6, 6)


def kept(server: OwnRedis) -> list[bytes]:
    """All keys; the stream is there once something has been written."""
    keys: list[bytes] = []

    def found() -> bool:
        keys[:] = server.client().keys("*")
        return any(key.endswith(b":b:state") for key in keys)

    eventually(found, "a generation has begun")
    state = next(key for key in keys if key.endswith(b":b:state"))
    return [*keys, state.removesuffix(b"state") + b"stream"]


def test_who_waits_is_refused_while_what_applies_stands_still(
    waiting: Database, servers: Stack, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    patience = '[cache.write_back]\ninterval = "600s"\npatience = "2s"\n'
    pids = "SELECT pid FROM pg_stat_activity WHERE application_name = 'penstock write-back'"
    with (
        places(waiting, tmp_path, start_redis(*DURABLE), patience) as (place, _),
        psycopg.connect(place.proxy.dsn(), autocommit=True) as connection,
    ):
        before = written(place.proxy)
        connection.execute("UPDATE w_own SET version = 5 WHERE writer = 1")
        assert written(place.proxy) == before + 1
        with superuser_connection(servers.primary) as superuser:
            stopped = [row[0] for row in superuser.execute(pids).fetchall()]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(psycopg.errors.CannotConnectNow):
                connection.execute("SELECT version FROM w_own WHERE writer = 1")
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        look = "SELECT version FROM w_own WHERE writer = 1"
        assert connection.execute(look).fetchone() == (5,)


def test_redis_is_started_empty(
    waiting: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    """What it had is lost with its disk; what comes later is not taken for something old."""
    server = start_redis(*DURABLE)
    with (
        places(waiting, tmp_path, server) as (place, _),
        psycopg.connect(place.proxy.dsn(), autocommit=True) as connection,
    ):
        for number in range(20):
            connection.execute("INSERT INTO w_log VALUES (0, %s)", [number])
        assert connection.execute("SELECT count(*) FROM w_log").fetchone() == (20,)
        server.client().flushall()
        before = written(place.proxy)
        for number in range(20, 60):
            connection.execute("INSERT INTO w_log VALUES (0, %s)", [number])
            time.sleep(0.05)
        assert written(place.proxy) > before
        assert connection.execute("SELECT count(*) FROM w_log").fetchone() == (60,)
    assert rows_of_log(waiting) == (60, 60)


def rows_of_log(database: Database) -> tuple[int, int]:
    """(rows, different ones)."""
    ((rows, different),) = direct(database, "SELECT count(*), count(DISTINCT number) FROM w_log")
    return rows, different


def test_while_redis_is_away_nothing_old_is_read(
    waiting: Database, tmp_path: Path, start_redis: Callable[..., OwnRedis]
) -> None:
    server = start_redis(*DURABLE)
    patience = '[cache.write_back]\ninterval = "600s"\npatience = "2s"\n'
    with places(waiting, tmp_path, server, patience) as (place, other):
        with psycopg.connect(place.proxy.dsn(), autocommit=True) as connection:
            before = written(place.proxy)
            connection.execute("UPDATE w_own SET version = 5 WHERE writer = 1")
            assert written(place.proxy) == before + 1
        server.kill()
        look = "SELECT version FROM w_own WHERE writer = 1"
        with psycopg.connect(other.proxy.dsn(), autocommit=True) as connection:
            with pytest.raises(psycopg.errors.CannotConnectNow, match="acknowledged writes"):
                connection.execute(look)
            with pytest.raises(psycopg.errors.CannotConnectNow):
                connection.execute("UPDATE w_own SET version = version + 1 WHERE writer = 1")
            assert connection.execute("SELECT 1").fetchone() == (1,)
            server.start()
            assert connection.execute(look).fetchone() == (5,)
        assert metric(other.proxy, "penstock_write_back_barriers_total") >= 1
