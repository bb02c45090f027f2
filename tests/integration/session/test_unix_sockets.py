"""Unix sockets on both sides."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psycopg
import pytest

from tests.certificates import new_authority
from tests.databases import Database
from tests.integration.tls.encrypted import SSL_REQUEST, client_tls
from tests.proxies import Proxy, running_proxy


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short: a socket's path has 107 bytes at most."""
    with TemporaryDirectory(prefix="penstock-") as name:
        yield Path(name)


def listening(directory: Path, **more: str) -> dict[str, str]:
    """The environment of a Penstock that listens there."""
    return {"PENSTOCK_SERVER__UNIX_SOCKET_DIR": str(directory), **more}


def socket_of(proxy: Proxy, directory: Path) -> Path:
    return directory / f".s.PGSQL.{proxy.port}"


def connect(proxy: Proxy, directory: Path, **more: str) -> psycopg.Connection[tuple[object, ...]]:
    own = proxy.database
    return psycopg.connect(
        host=str(directory),
        port=proxy.port,
        user=own.user,
        password=own.password,
        dbname=own.name,
        **more,  # type: ignore[arg-type]
    )


def test_clients(database: Database, tmp_path: Path, directory: Path) -> None:
    with running_proxy(database, tmp_path, environment=listening(directory)) as proxy:
        file = socket_of(proxy, directory)
        assert stat.S_IMODE(file.stat().st_mode) == 0o777
        with connect(proxy, directory) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with psycopg.connect(proxy.dsn()) as connection:  # TCP as before
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not file.exists()


async def test_asyncpg(database: Database, tmp_path: Path, directory: Path) -> None:
    with running_proxy(database, tmp_path, environment=listening(directory)) as proxy:
        connection = await asyncpg.connect(
            host=str(directory),
            port=proxy.port,
            user=database.user,
            password=database.password,
            database=database.name,
        )
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def test_the_mode(database: Database, tmp_path: Path, directory: Path) -> None:
    environment = listening(directory, PENSTOCK_SERVER__UNIX_SOCKET_MODE="0700")
    with running_proxy(database, tmp_path, environment=environment) as proxy:
        assert stat.S_IMODE(socket_of(proxy, directory).stat().st_mode) == 0o700


def test_what_a_crash_left_is_replaced(database: Database, tmp_path: Path, directory: Path) -> None:
    port = free_port()
    environment = listening(directory, PENSTOCK_SERVER__LISTEN=f"127.0.0.1:{port}")
    left = directory / f".s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
        dead.listen()
    assert left.exists()
    with running_proxy(database, tmp_path, environment=environment) as proxy:
        assert proxy.port == port
        with connect(proxy, directory) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("kind", ["listening", "a file"])
def test_what_is_in_use_is_left_alone(
    database: Database, tmp_path: Path, directory: Path, kind: str
) -> None:
    port = free_port()
    environment = listening(directory, PENSTOCK_SERVER__LISTEN=f"127.0.0.1:{port}")
    path = directory / f".s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX) as other:
        if kind == "listening":
            other.bind(str(path))
            other.listen()
        else:
            path.write_text("precious")
        inode = path.stat().st_ino
        with (
            pytest.raises(AssertionError, match=r"unix_socket_dir\): another process|no socket"),
            running_proxy(database, tmp_path, environment=environment),
        ):
            pass
        assert path.stat().st_ino == inode


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_no_encryption_and_none_demanded(
    database: Database, tmp_path: Path, directory: Path
) -> None:
    """What doesn't leave the machine needs no TLS; libpq doesn't ask for it there either."""
    extra = client_tls("require", new_authority(tmp_path).server())
    with running_proxy(database, tmp_path, extra=extra, environment=listening(directory)) as proxy:
        with connect(proxy, directory, sslmode="prefer") as connection:
            assert not connection.pgconn.ssl_in_use
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(socket_of(proxy, directory)))
            raw.send(SSL_REQUEST)
            assert raw.recv(1) == b"N"


def test_servers(database: Database, tmp_path: Path) -> None:
    """The data path and Penstock's own connections."""
    primary = database.stack.primary
    environment = {
        f"PENSTOCK_DATABASE__{database.name.upper()}__PRIMARY__HOST": str(primary.socket_dir),
        f"PENSTOCK_DATABASE__{database.name.upper()}__REPLICAS__HOSTS": "[]",
        "PENSTOCK_SERVER_TLS__MODE": "require",  # means nothing here
    }
    if not os.access(primary.socket_dir, os.X_OK):
        pytest.skip("the servers' sockets are for their own account")
    with running_proxy(database, tmp_path, environment=environment) as proxy:
        with psycopg.connect(proxy.dsn()) as connection:
            row = connection.execute("SELECT inet_server_addr(), 1").fetchone()
            assert row == (None, 1)
        healthy = [line for line in proxy.log() if line["event"] == "node is healthy"]
        assert all(f".s.PGSQL.{primary.port}" in str(line["address"]) for line in healthy)
        faults = [line for line in proxy.log() if line["event"] == "node is unhealthy"]
        assert faults == []
