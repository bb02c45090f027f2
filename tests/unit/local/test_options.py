"""What a stack consists of, and its ports."""

import socket

import pytest

from proxy.local.errors import LocalStackError
from proxy.local.ports import HOST, free_port, is_free
from proxy.local.programs import find_postgres, find_redis
from proxy.local.stack import StackOptions
from proxy.local.start import start_stack


def test_servers_are_named_in_the_order_of_their_ports() -> None:
    assert StackOptions(replicas=2, shards=1).names() == [
        "primary",
        "replica1",
        "replica2",
        "shard1",
        "redis",
    ]
    assert StackOptions(replicas=0, shards=0, redis=False).names() == ["primary"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (StackOptions(replicas=-1), "replicas = -1"),
        (StackOptions(shards=17), "shards = 17"),
        (StackOptions(port=80), "port = 80"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_made(
    options: StackOptions, complaint: str
) -> None:
    with pytest.raises(LocalStackError, match=complaint):
        start_stack(options)


def test_a_listening_port_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_free_ports_avoid_those_already_chosen() -> None:
    chosen: set[int] = set()
    for _ in range(50):
        chosen.add(free_port(chosen))
    assert len(chosen) == 50


def test_the_bundled_servers_are_found() -> None:
    postgres = find_postgres(system=False)
    assert postgres.version >= (18, 6)
    assert postgres.label.startswith("PostgreSQL 1")
    assert postgres.psql.exists()
    assert find_redis(system=False).server.exists()


def test_a_major_version_that_is_not_there_is_named() -> None:
    with pytest.raises(LocalStackError, match=r"made by PostgreSQL 9.*only .*PostgreSQL 18"):
        find_postgres(system=False, major=9)
