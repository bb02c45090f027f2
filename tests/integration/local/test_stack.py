"""The shared stack is what it says: real servers, real replication, real password logins."""

import psycopg
import pytest
import redis

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection


def test_standbys_replay_what_the_primary_commits(database: Database) -> None:
    with psycopg.connect(database.dsn()) as primary:
        primary.execute("CREATE TABLE t AS SELECT 1 AS id")
        primary.commit()
        row = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
    assert row is not None
    for replica in database.stack.replicas:
        replayed = f"pg_last_wal_replay_lsn() >= '{row[0]}'"
        replica.wait_until(replayed, timeout=10, what="replay")
        with psycopg.connect(database.dsn(replica)) as standby:
            assert standby.execute("SELECT id FROM t").fetchall() == [(1,)]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                standby.execute("INSERT INTO t VALUES (2)")


def test_every_standby_has_its_own_slot(stack: Stack) -> None:
    with superuser_connection(stack.primary) as connection:
        rows = connection.execute(
            "SELECT slot_name, active FROM pg_replication_slots WHERE slot_type = 'physical'"
        ).fetchall()
    assert sorted(rows) == [(replica.name, True) for replica in stack.replicas]


def test_shards_are_servers_of_their_own(stack: Stack) -> None:
    identifiers = set()
    for server in (stack.primary, *stack.shards):
        with superuser_connection(server) as connection:
            row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
            identifiers.add(row)
    assert len(identifiers) == 1 + len(stack.shards) == 3


def test_a_wrong_password_is_refused_on_every_server(stack: Stack) -> None:
    for server in stack.postgres:
        dsn = server.dsn("app", stack.app_user, "not the password")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn)


def test_passwords_are_kept_as_scram_verifiers(stack: Stack) -> None:
    with superuser_connection(stack.primary) as connection:
        rows = connection.execute(
            "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-SHA-256$%'"
        ).fetchall()
    assert {name for (name,) in rows} == {stack.superuser, stack.app_user}


def test_settings_that_the_proxy_relies_on(stack: Stack) -> None:
    wanted = {
        "listen_addresses": "127.0.0.1",
        "wal_level": "logical",
        "hot_standby_feedback": "on",
        "max_prepared_transactions": "100",
        "max_connections": "300",
    }
    for server in stack.postgres:
        with superuser_connection(server) as connection:
            rows = connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", [list(wanted)]
            ).fetchall()
        assert dict(rows) == wanted


def test_redis_answers(stack: Stack) -> None:
    assert stack.redis is not None
    client = redis.Redis.from_url(stack.redis.url)
    assert client.ping()
    client.close()


def test_databases_of_tests_are_on_the_shards_too(database: Database) -> None:
    for shard in database.stack.shards:
        with psycopg.connect(database.dsn(shard)) as connection:
            connection.execute("CREATE TABLE t (id int)")
            assert connection.execute("SELECT current_database()").fetchone() == (database.name,)
