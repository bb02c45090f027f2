"""Faults that tests inject, the client programs, and the rendered configuration."""

import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from proxy.config.settings import Settings
from proxy.local.configuration import render_config
from proxy.local.errors import LocalStackError
from proxy.local.stack import Stack
from tests.stacks import PrivateStack


def test_a_frozen_redis_hangs_and_goes_on(private_stack: PrivateStack) -> None:
    server = private_stack(replicas=0, redis=True).redis
    assert server is not None
    client = redis.Redis.from_url(server.url, socket_timeout=0.3, retry=None)
    client.set("k", "v")
    server.freeze()
    with pytest.raises(redis.exceptions.TimeoutError):
        client.get("k")
    server.thaw()
    client.close()
    assert redis.Redis.from_url(server.url).get("k") == b"v"


def test_redis_restarts_empty(private_stack: PrivateStack) -> None:
    server = private_stack(replicas=0, redis=True).redis
    assert server is not None
    redis.Redis.from_url(server.url).set("k", "v")
    server.kill()
    assert not server.accepts()
    server.start()
    assert redis.Redis.from_url(server.url).get("k") is None


def test_a_frozen_server_hangs_and_goes_on(private_stack: PrivateStack) -> None:
    server = private_stack(replicas=0).primary
    with ThreadPoolExecutor() as pool, psycopg.connect(server.dsn("postgres")) as connection:
        server.freeze()
        answer = pool.submit(lambda: connection.execute("SELECT 1").fetchall())
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(server.dsn("postgres"), connect_timeout=2)
        assert not answer.done()
        server.thaw()
        assert answer.result(timeout=10) == [(1,)]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_stop_ends_open_sessions(private_stack: PrivateStack, mode: str) -> None:
    server = private_stack(replicas=0).primary
    connection = psycopg.connect(server.dsn("postgres"), autocommit=True)
    server.stop("immediate" if mode == "immediate" else "fast")
    assert not server.running
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


def test_a_configuration_error_is_shown_with_the_log(private_stack: PrivateStack) -> None:
    server = private_stack(replicas=0).primary
    server.psql("ALTER SYSTEM SET shared_preload_libraries = 'no_such_library'")
    server.stop()
    with pytest.raises(LocalStackError, match="no_such_library"):
        server.start()


def test_sql_errors_are_told(stack: Stack) -> None:
    with pytest.raises(LocalStackError, match="no_such_table"):
        stack.primary.psql("SELECT * FROM no_such_table")


@pytest.mark.parametrize("program", ["psql", "pgbench", "pg_dump"])
def test_client_programs_run(stack: Stack, program: str) -> None:
    path = getattr(stack, program)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(program)


def test_psql_logs_in_as_the_application(stack: Stack) -> None:
    done = subprocess.run(
        [stack.psql, "-XAtc", "SELECT current_user, current_database()", stack.dsn()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "app|app"


def test_the_rendered_configuration_is_valid_and_names_the_servers(stack: Stack) -> None:
    text = render_config(
        stack,
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        sharded_tables=[{"name": "orders", "key": "customer_id", "type": "bigint"}],
        extra='[[cache.rule]]\nname = "all"\ntables = ["*"]\n',
    )
    settings = Settings.model_validate(tomllib.loads(text))
    database = settings.databases["app"]
    assert database.primary.port == stack.primary.port
    assert [address.port for address in database.replicas.hosts] == [
        replica.port for replica in stack.replicas
    ]
    assert [shard.port for shard in database.sharding.shards] == [s.port for s in stack.shards]
    assert database.sharding.tables[0].key == "customer_id"
    assert stack.redis is not None
    assert settings.cache.redis == stack.redis.url
    assert settings.cache.rules[0].name == "all"
    assert settings.auth.users[0].name == stack.app_user
