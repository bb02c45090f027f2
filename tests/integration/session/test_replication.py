"""Replication clients: a server connection of their own where a database is pooled by session."""

import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import psycopg2
import psycopg2.extras
import pytest

from proxy.local.postgres import SUPERUSER
from proxy.local.programs import find_postgres
from tests.databases import Database, superuser_connection
from tests.proxies import Proxy, running_proxy

PROGRAMS = find_postgres(system=False).bin_dir


def configuration(database: Database, mode: str) -> str:
    secret = database.stack.primary.superuser_password
    return f'[pool]\nmode = "{mode}"\n[[auth.users]]\nname = "{SUPERUSER}"\npassword = "{secret}"\n'


@pytest.fixture
def proxy(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    with running_proxy(database, tmp_path, extra=configuration(database, "session")) as proxy:
        yield proxy


def dsn(proxy: Proxy, **more: str) -> str:
    values = {
        "host": proxy.host,
        "port": str(proxy.port),
        "user": SUPERUSER,
        "password": proxy.database.stack.primary.superuser_password,
        "dbname": proxy.database.name,
        **more,
    }
    return " ".join(f"{name}='{value}'" for name, value in values.items())


def run(proxy: Proxy, program: str, *arguments: str, timeout: float = 60.0) -> str:
    done = subprocess.run(
        [PROGRAMS / program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={"PGPASSWORD": proxy.database.stack.primary.superuser_password},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def logical(proxy: Proxy) -> psycopg2.extras.LogicalReplicationConnection:
    return psycopg2.connect(
        dsn(proxy), connection_factory=psycopg2.extras.LogicalReplicationConnection
    )


def test_logical_decoding_streams_both_ways(proxy: Proxy) -> None:
    with psycopg.connect(dsn(proxy), autocommit=True) as writer, closing(logical(proxy)) as reader:
        writer.execute("CREATE TABLE seen (id int PRIMARY KEY, what text)")
        writer.execute("CREATE PUBLICATION all_of_it FOR ALL TABLES")
        cursor = reader.cursor()
        slot = f"slot_{proxy.database.name}"
        cursor.create_replication_slot(slot, output_plugin="pgoutput")
        options = {"proto_version": "1", "publication_names": "all_of_it"}
        cursor.start_replication(slot, options=options, decode=False)
        large = "x" * 3_000_000
        writer.execute("INSERT INTO seen VALUES (1, %s)", [large])
        got = b""
        while b"x" * 1000 not in got or not got.endswith(b"C"):
            message = cursor.read_message()
            if message is None:
                continue
            got += message.payload
            if message.payload[:1] == b"C":
                cursor.send_feedback(flush_lsn=message.data_start, force=True)
                break
        assert got.count(b"x") >= 3_000_000
        flushed = (
            "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots "
            "WHERE slot_name = %s"
        )
        assert message is not None
        position = f"{message.data_start >> 32:X}/{message.data_start & 0xFFFFFFFF:X}"
        while writer.execute(flushed, [position, slot]).fetchone() != (True,):
            cursor.read_message()  # the server takes in the feedback in its own time
    with psycopg.connect(dsn(proxy), autocommit=True) as after:
        query = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
        while after.execute(query, [slot]).fetchone() != (1,):
            pass  # the end of the client reaches the server


def test_the_clients_own_parameters_reach_the_server(proxy: Proxy) -> None:
    connection = psycopg2.connect(
        dsn(proxy, application_name="walker", options="-c datestyle=German"),
        connection_factory=psycopg2.extras.LogicalReplicationConnection,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('datestyle'), current_setting('application_name')")
        assert cursor.fetchone() == ("German, DMY", "walker")
        assert connection.get_parameter_status("DateStyle") == "German, DMY"
    connection.close()


def test_pg_recvlogical(proxy: Proxy, tmp_path: Path) -> None:
    slot = f"recv_{proxy.database.name}"
    where = ("-d", dsn(proxy), "--slot", slot)
    run(proxy, "pg_recvlogical", *where, "--create-slot", "-P", "pgoutput")
    with psycopg.connect(dsn(proxy), autocommit=True) as writer:
        writer.execute("CREATE TABLE numbers (n int PRIMARY KEY)")
        writer.execute("CREATE PUBLICATION p FOR TABLE numbers")
        writer.execute("INSERT INTO numbers SELECT generate_series(1, 20000)")
        row = writer.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    output = tmp_path / "received"
    options = ("-o", "proto_version=1", "-o", "publication_names=p", "-f", str(output))
    run(proxy, "pg_recvlogical", *where, "--start", "--endpos", str(row[0]), *options)
    assert output.read_bytes().count(b"I") >= 20000
    run(proxy, "pg_recvlogical", *where, "--drop-slot")


def test_pg_receivewal_and_pg_basebackup(proxy: Proxy, tmp_path: Path) -> None:
    with psycopg.connect(dsn(proxy), autocommit=True) as writer:
        row = writer.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        writer.execute("SELECT pg_switch_wal()")
    assert row is not None
    where = ("-h", proxy.host, "-p", str(proxy.port), "-U", SUPERUSER)
    received = tmp_path / "wal"
    received.mkdir()
    with psycopg.connect(dsn(proxy), autocommit=True) as writer:
        writer.execute("CREATE TABLE filler AS SELECT generate_series(1, 1000) n")
        ended = writer.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert ended is not None
    run(proxy, "pg_receivewal", *where, "-D", str(received), "--endpos", str(ended[0]), "-n")
    assert list(received.iterdir())
    backup = tmp_path / "backup"
    run(proxy, "pg_basebackup", *where, "-D", str(backup), "-X", "stream", "-c", "fast", "-N")
    run(proxy, "pg_verifybackup", "-q", str(backup))


def test_a_cancel_request_reaches_the_servers_connection(proxy: Proxy) -> None:
    connection = logical(proxy)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
        canceller = threading.Thread(target=_cancel_once_asleep, args=(proxy, connection, pid))
        canceller.start()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            cursor.execute("SELECT pg_sleep(60)")
        canceller.join()
    connection.close()


def _cancel_once_asleep(
    proxy: Proxy, connection: psycopg2.extras.LogicalReplicationConnection, pid: int
) -> None:
    asleep = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    with psycopg.connect(dsn(proxy), autocommit=True) as other:
        while other.execute(asleep, [pid]).fetchone() != ("PgSleep",):
            pass
    connection.cancel()


def test_transaction_pooling_refuses_and_says_what_to_do(
    database: Database, tmp_path: Path
) -> None:
    with (
        running_proxy(database, tmp_path, extra=configuration(database, "transaction")) as proxy,
        pytest.raises(psycopg2.OperationalError, match="need session pooling"),
    ):
        logical(proxy)


def test_a_role_without_the_right_hears_the_servers_words(
    database: Database, tmp_path: Path
) -> None:
    role = f"plain_{uuid.uuid4().hex[:8]}"
    user = f'[[auth.users]]\nname = "{role}"\npassword = "plain"\n'
    with superuser_connection(database.stack.primary) as server:
        server.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'plain'")
        extra = configuration(database, "session") + user
        try:
            with (
                running_proxy(database, tmp_path, extra=extra) as proxy,
                pytest.raises(psycopg2.OperationalError, match=r"(?i)replication|superuser"),
            ):
                psycopg2.connect(
                    dsn(proxy, user=role, password="plain"),
                    connection_factory=psycopg2.extras.LogicalReplicationConnection,
                )
        finally:
            server.execute(f"DROP ROLE {role}")
