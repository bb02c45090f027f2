"""pgbench: every query mode under concurrency, with the books balanced afterwards."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.compat.targets import Target

SCALE = 1
TRANSACTIONS = 40
CLIENTS = 16

PIPELINE = r"""
\set aid random(1, 100000)
\set delta random(-50, 50)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :aid % 10 + 1;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
  VALUES (:aid % 10 + 1, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;
\endpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
"""

READING_PIPELINE = r"""
\set aid random(1, 100000)
\startpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT count(*) FROM pgbench_tellers;
\syncpipeline
SELECT bbalance FROM pgbench_branches WHERE bid = 1;
\endpipeline
"""

SEVERAL_STATEMENTS = r"""
\set aid random(1, 100000)
\set delta random(-50, 50)
BEGIN \; UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid \; SELECT 1;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = 1 \; SELECT 2;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1 \; INSERT INTO
  pgbench_history VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP) \; COMMIT;
SELECT count(*) FROM pgbench_branches \; SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
"""

READ_AFTER_WRITE = r"""
\set id :client_id + 1
\set value random(1, 1000000)
UPDATE marks SET value = :value WHERE id = :id;
SELECT 1 / (CASE WHEN value = :value THEN 1 ELSE 0 END) AS own FROM marks WHERE id = :id \gset
"""


@pytest.fixture(scope="module", autouse=True)
def _tables(target: Target) -> None:
    """Made through Penstock: DDL, TRUNCATE, COPY, VACUUM and keys."""
    done = target.run(target.database.stack.pgbench, "-i", "-q", "-s", str(SCALE))
    assert done.returncode == 0, done.stderr
    assert "done in" in done.stderr
    target.prepare(
        "CREATE TABLE marks (id int PRIMARY KEY, value int)",
        "INSERT INTO marks SELECT n, 0 FROM generate_series(1, 100) n",
    )


@pytest.fixture(autouse=True)
def _books_balance(target: Target) -> Iterator[None]:
    yield
    with psycopg.connect(target.database.dsn()) as connection:
        sums = connection.execute(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), "
            "(SELECT sum(bbalance) FROM pgbench_branches), "
            "(SELECT sum(tbalance) FROM pgbench_tellers), "
            "(SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
        ).fetchone()
    assert sums is not None
    assert len(set(sums)) == 1, f"accounts, branches, tellers, history: {sums}"


def pgbench(target: Target, *arguments: str, clients: int = CLIENTS) -> int:
    """Run it; how many transactions it processed, all of them without a failure."""
    each = [] if "-t" in arguments else ["-t", str(TRANSACTIONS)]
    threads = [] if "-j" in arguments else ["-j", "2"]
    done = target.run(
        target.database.stack.pgbench, "-n", "-c", str(clients), *threads, *each, *arguments
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "number of failed transactions: 0 " in done.stdout, done.stdout
    processed = re.search(r"actually processed: (\d+)", done.stdout)
    assert processed is not None, done.stdout
    return int(processed[1])


def history(target: Target) -> int:
    """Rows that TPC-B has left."""
    with psycopg.connect(target.database.dsn()) as connection:
        row = connection.execute("SELECT count(*) FROM pgbench_history").fetchone()
    assert row is not None
    return int(row[0])


def script(directory: Path, text: str) -> tuple[str, str]:
    """The arguments that run a custom script."""
    path = directory / "script.sql"
    path.write_text(text)
    return "-f", str(path)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_tpcb(target: Target, mode: str) -> None:
    before = history(target)
    assert pgbench(target, "-M", mode) == CLIENTS * TRANSACTIONS
    assert history(target) == before + CLIENTS * TRANSACTIONS


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_select_only(target: Target, mode: str) -> None:
    assert pgbench(target, "-S", "-M", mode, "-t", "200") == CLIENTS * 200


@pytest.mark.parametrize("mode", ["simple", "prepared"])
def test_a_connection_for_each_transaction(target: Target, mode: str) -> None:
    assert pgbench(target, "-C", "-M", mode, "-t", "10") == CLIENTS * 10


@pytest.mark.parametrize("mode", ["extended", "prepared"])
def test_pipelines(target: Target, tmp_path: Path, mode: str) -> None:
    before = history(target)
    assert pgbench(target, "-M", mode, *script(tmp_path, PIPELINE)) == CLIENTS * TRANSACTIONS
    assert history(target) == before + CLIENTS * TRANSACTIONS


@pytest.mark.parametrize("mode", ["extended", "prepared"])
def test_pipelines_that_read(target: Target, tmp_path: Path, mode: str) -> None:
    arguments = script(tmp_path, READING_PIPELINE)
    assert pgbench(target, "-M", mode, *arguments) == CLIENTS * TRANSACTIONS


def test_several_statements_in_one_message(target: Target, tmp_path: Path) -> None:
    before = history(target)
    assert pgbench(target, *script(tmp_path, SEVERAL_STATEMENTS)) == CLIENTS * TRANSACTIONS
    assert history(target) == before + CLIENTS * TRANSACTIONS


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_each_client_reads_what_it_has_just_written(
    target: Target, tmp_path: Path, mode: str
) -> None:
    """A stale read divides by zero, which fails the run."""
    arguments = script(tmp_path, READ_AFTER_WRITE)
    assert pgbench(target, "-M", mode, *arguments) == CLIENTS * TRANSACTIONS


def test_serialization_failures_are_retried(target: Target, tmp_path: Path) -> None:
    text = (
        "\\set id random(1, 3)\nBEGIN ISOLATION LEVEL SERIALIZABLE;\n"
        "SELECT sum(value) FROM marks WHERE id <= 3;\n"
        "UPDATE marks SET value = value + 1 WHERE id = :id;\nCOMMIT;\n"
    )
    target.prepare("UPDATE marks SET value = 0")
    arguments = ("--max-tries=1000", "-M", "prepared", *script(tmp_path, text), "-t", "10")
    assert pgbench(target, *arguments, clients=4) == 40
    with psycopg.connect(target.database.dsn()) as connection:
        assert connection.execute("SELECT sum(value) FROM marks").fetchone() == (40,)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_more_clients_than_server_connections(crowded: Target, mode: str) -> None:
    """A thread for each client: while pgbench prepares a statement, the thread's other clients
    stand still, with the server connections of their transactions."""
    assert pgbench(crowded, "-M", mode, "-t", "10", "-j", str(CLIENTS)) == CLIENTS * 10
